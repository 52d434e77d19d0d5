"""Tables survive a full disk and a kill in mid-write."""

import errno
import os
import pathlib
import resource

import pytest

from experiments.training.csv_rows import CsvWriter, cut_csv, last_rows, read_csv
from trqam_jax.errors import UserError
from trqam_jax.files import write_text


def table(path, steps, group=2):
    writer = CsvWriter(path, ["step", "replica", "value"])
    for step in steps:
        writer.write([{"step": step, "replica": r, "value": step / 7} for r in range(group)])
    return path


def test_a_full_disk_leaves_the_rows_that_were_there(tmp_path):
    """A limit on the size of files lets some bytes through, as a full disk does."""
    path = table(tmp_path / "t.csv", [1, 2])
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(UserError, match=rf"{path}: cannot be written \(File too large\); .*make room"):
            table(path, [3])
        with pytest.raises(UserError, match="cannot be written"):
            write_text(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    table(path, [3])
    assert [row["step"] for row in read_csv(path)] == ["1", "1", "2", "2", "3", "3"]


def test_another_header_is_not_mixed_in(tmp_path):
    table(tmp_path / "t.csv", [1])
    with pytest.raises(UserError, match="has the columns step, replica, value"):
        CsvWriter(tmp_path / "t.csv", ["step"])


def test_a_table_torn_at_any_byte_is_cut_to_whole_groups(tmp_path):
    whole = table(tmp_path / "whole.csv", [1, 2, 3]).read_bytes()
    lines = whole.splitlines(keepends=True)
    torn = tmp_path / "torn.csv"
    for length in range(len(whole) + 1):
        torn.write_bytes(whole[:length])
        rows = cut_csv(torn, lambda row: int(row["step"]) != 3, 2)
        groups = sum(length >= len(b"".join(lines[:end])) for end in (3, 5))
        assert [row["step"] for row in rows] == ["1", "1", "2", "2"][: 2 * groups]
        if length < len(lines[0]):
            assert not torn.exists()
        else:
            assert torn.read_bytes() == b"".join(lines[: 1 + 2 * groups])
        assert table(torn, range(1 + groups, 4)).read_bytes() == whole
        torn.unlink()


def test_a_table_that_another_program_saved_goes_on(tmp_path):
    whole = table(tmp_path / "whole.csv", [1, 2, 3]).read_bytes()
    path = table(tmp_path / "t.csv", [1, 2])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(cut_csv(path, lambda row: "\r" not in row["value"], 2)) == 4
    assert table(path, [3]).read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    path = table(tmp_path / "t.csv", [1, 2])
    path.write_text(path.read_text().replace("1,1,", "1;1;"))
    with pytest.raises(UserError, match="line 3 is damaged"):
        cut_csv(path, lambda row: True, 2)
    assert cut_csv(tmp_path / "none.csv", lambda row: True, 2) == []


@pytest.mark.parametrize("most", [1, 10, 25, 10_000])
def test_the_last_rows_are_those_at_the_end_of_the_file(tmp_path, most):
    path = tmp_path / "a.csv"
    assert last_rows(path, most) == []
    CsvWriter(path, ["a", "b"]).write([{"a": i, "b": f"x={i}, y"} for i in range(20)])
    whole = read_csv(path)
    sizes = [len(line) + 1 for line in path.read_text().splitlines()[1:]]
    fitting = sum(sum(sizes[i:]) <= most for i in range(20))
    path.write_text(path.read_text() + '7,"x=')
    # What is half written takes room, and so may cost a row.
    assert last_rows(path, most + len('7,"x=')) in (whole[20 - fitting :], whole[20 - max(0, fitting - 1) :])


def test_a_table_that_the_disk_does_not_give_is_named(tmp_path, monkeypatch):
    path = table(tmp_path / "t.csv", [1])

    def broken(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))  # as read() raises it: without a name

    monkeypatch.setattr(pathlib.Path, "read_bytes", broken)
    for read in (lambda: cut_csv(path, lambda _: True, 2), lambda: table(path, [2])):
        with pytest.raises(UserError, match=rf"{path}: cannot be read \(Input/output error\)"):
            read()
