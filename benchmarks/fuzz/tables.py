"""What is read to make tables and figures: a run's CSVs and JSON, and the papers' tables.

Rows have no checksum: another digit is another number. But what leaves the values as they were must leave the table as
it was, and everything else must end in one clear line or in a table.
"""

import contextlib
import csv
import functools
import io
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from benchmarks.fuzz.judge import Fault, Kind, copied, damaged, damages, one_of, outcome
from benchmarks.fuzz.runs import FILES, write_run

CSVS = ("eval.csv", "train.csv", "times.csv")
Rows = list[list[str]]


@functools.cache
def _original() -> pathlib.Path:
    """Two runs, made once."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="trqam_jax-fuzz-"))
    write_run(folder / "runs/a", agent="trqam")
    write_run(folder / "runs/b", agent="qam")
    return folder / "runs"


# ---- readers


def _table(runs: pathlib.Path) -> str:
    from experiments import table

    file = io.StringIO()
    table.show(table.parse([str(runs), "--mixed", "--statistics"]), file)
    table.show(table.parse([str(runs), "--mixed", "--format=csv"]), file)
    return file.getvalue()


def _report(runs: pathlib.Path) -> None:
    from experiments import report

    report.main([str(runs), f"--out={runs.parent / 'report.html'}", "--mixed"])


def _export(runs: pathlib.Path) -> None:
    from experiments import export

    export.main([str(runs / "a"), f"--out={runs.parent / 'results.pkl'}"])


def _figures(runs: pathlib.Path) -> None:
    """What figures read; drawing is left out."""
    from experiments.analysis.figures.study import Study
    from experiments.analysis.rows import read_runs

    Study(read_runs([runs]))


def _summary(runs: pathlib.Path) -> None:
    from experiments.analysis.rows import read_run

    run = read_run(runs / "a")
    _ = run.train, run.variants


def _policy(runs: pathlib.Path) -> None:
    """As far as the checkpoint, of which there is none."""
    from experiments import policy

    policy.main(["export", str(runs / "a"), f"--out={runs.parent / 'policy'}"])


def _resume(runs: pathlib.Path) -> None:
    """What a run that goes on reads and cuts, before it trains."""
    import numpy as np

    from experiments import config as configuration
    from experiments.training.records import Recorder
    from experiments.training.replica import replicas_of
    from experiments.training.resume import acquire_run_dir
    from experiments.training.scaled import keep_scaling
    from experiments.training.schedule import schedules, starting_place
    from experiments.training.stages import FINE_TUNING
    from trqam_jax.checkpoint import Checkpoints, Place
    from trqam_jax.scaling import Scaling

    config = configuration.resolve(agent="trqam", env="cube-single-task1", protocol="quick", seeds=["1", "2"])
    config = configuration.with_fingerprints(config, data="0123456789abcdef", checkpoint="")
    folder = runs / "a"
    with contextlib.suppress(IsADirectoryError):
        (folder / "DONE").unlink(missing_ok=True)
    with acquire_run_dir(folder, FINE_TUNING, config) as finished:
        if finished:
            return
        schedule = schedules(FINE_TUNING, config)
        starting_place(folder, Checkpoints(folder / "checkpoints", ("bc", "offline", "online")), schedule)
        keep_scaling(folder, Scaling(np.zeros(3, np.float32), np.ones(3, np.float32)))
        Recorder(folder, config, replicas_of(config), schedule["offline"].keeps(Place("offline", 50_000)))


READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    "table": _table, "report": _report, "export": _export, "figures": _figures, "summary": _summary, "policy": _policy,
    "resume": _resume,
}  # fmt: skip


# ---- bytes


def _play_bytes(case: tuple[str, Any, str]) -> None:
    name, damage, reader = case
    with copied(_original()) as runs:
        path = runs / "a" / name
        path.write_bytes(damaged(path.read_bytes(), damage))
        outcome(READERS[reader], runs)


def _play_file(case: tuple[str, str, str]) -> None:
    """The file is gone, or something that is no file."""
    name, what, reader = case
    with copied(_original()) as runs:
        path = runs / "a" / name
        path.unlink()
        if what == "folder":
            path.mkdir()
        elif what == "dangling link":
            path.symlink_to("nowhere")
        elif what == "link to itself":
            path.symlink_to(name)
        elif what == "unreadable bytes":
            path.write_bytes(b"\xff\xfe\x00\xd8" * 100)
        outcome(READERS[reader], runs)


# ---- cells


def _reordered_columns(rows: Rows) -> Rows:
    return [row[::-1] for row in rows]


HARMLESS: dict[str, Callable[[Rows], str]] = {
    "CRLF": lambda rows: _text(rows, "\r\n"),
    "a byte order mark": lambda rows: "\ufeff" + _text(rows),
    "quoted": lambda rows: _text(rows, quoting=csv.QUOTE_ALL),
    "columns reordered": lambda rows: _text(_reordered_columns(rows)),
    "doubled rows": lambda rows: _text([rows[0], *(row for row in rows[1:] for _ in range(2))]),
    "rows reversed": lambda rows: _text([rows[0], *rows[:0:-1]]),
    "an empty line": lambda rows: _text([rows[0], [], *rows[1:]]),
    "a column more": lambda rows: _text([[*row, "x" if number else "notes"] for number, row in enumerate(rows)]),
    "no line end": lambda rows: _text(rows).rstrip("\n"),
    "floats as exponents": lambda rows: _text([[_exponent(cell) for cell in row] for row in rows]),
}
#: What a cell may hold instead.
CELLS = (
    "", " ", "nan", "NaN", "inf", "-inf", "1e400", "-1", "1.5", "0x10", "1_0", "9" * 30, "9" * 5000, "a" * 200_000,
    '"', "'", "a,b", "a\nb", "\0", "\u0661", "\ufeff", "True", "None", "=1+1", "kl_budget=0.5", "kl_budget=", "=1",
    "kl_budget=x", "cube-double", "nowhere", "qam", "nobody", "online", "bc", "diverged", "missing", "frozen", "7",
    "2", "50000", "\x1b[31m",
)  # fmt: skip


def _exponent(cell: str) -> str:
    return cell if "." not in cell or "e" in cell else f"{cell}e0"


def _text(rows: Rows, end: str = "\n", quoting: Any = csv.QUOTE_MINIMAL) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator=end, quoting=quoting).writerows(rows)
    return file.getvalue()


def _rows_of(path: pathlib.Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def _play_harmless(case: tuple[str, str]) -> None:
    name, change = case
    with copied(_original()) as runs:
        expected = outcome(_table, runs)
        path = runs / "a" / name
        path.write_bytes(HARMLESS[change](_rows_of(path)).encode())
        found = outcome(_table, runs)
        if found.error is None and found.result != expected.result:
            raise Fault(f"the table changed: {found.result!r:.300}")


def _play_cells(case: tuple[str, float, float, str, str]) -> None:
    name, row, column, cell, reader = case
    with copied(_original()) as runs:
        path = runs / "a" / name
        rows = _rows_of(path)
        line = rows[int(row * len(rows))]
        line[int(column * len(line))] = cell
        path.write_text(_text(rows), newline="")
        outcome(READERS[reader], runs)


# ---- JSON

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**400, "", "x", "a\nb", "\ud800", [], [None], [[]], {},
    {"a": {}}, "cube-double", "qam", "nobody", "1", ["1"], [1, 1], [-1], ["x"], 2**63, "../../x", {"seeds": []},
    {"offline_steps": "x"},
)  # fmt: skip


def _play_json(case: tuple[str, float, Any, str]) -> None:
    """One value of config.json or versions.json is another one. (None of them is gone: value DELETE.)"""
    name, place, value, reader = case
    with copied(_original()) as runs:
        path = runs / "a" / name
        content = json.loads(path.read_text())
        part, key = one_of(content, place)
        if value == "DELETE":
            del part[key]
        else:
            part[key] = value
        path.write_text(json.dumps(content))
        outcome(READERS[reader], runs)


WHOLE = (
    "[]",
    "null",
    "1",
    '"x"',
    "{}",
    "[" * 100_000,
    '{"a":' * 100_000,
    "9" * 5000,
    '{"a": 1, "a": 2}',
    "NaN",
    "{" + "x" * 9,
)


def _play_whole_json(case: tuple[str, str, str]) -> None:
    name, text, reader = case
    with copied(_original()) as runs:
        (runs / "a" / name).write_text(text)
        outcome(READERS[reader], runs)


# ---- the papers' tables


def _play_published(case: tuple[str, Any]) -> None:
    from experiments import table
    from experiments.analysis import published

    name, damage = case
    source = pathlib.Path(published.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for path in source.glob("*.csv"):
            shutil.copy(path, place)
        path = place / f"{name}.csv"
        path.write_bytes(damaged(path.read_bytes(), damage))
        with mock.patch.object(published, "FOLDER", place):
            outcome(lambda: table.show(table.parse([f"--published={name}"]), io.StringIO()))


_fraction = st.floats(0, 1, exclude_max=True)
_readers = st.sampled_from(sorted(READERS))
KINDS = {
    "runs: bytes": Kind(st.tuples(st.sampled_from(FILES), damages, _readers), _play_bytes),
    "runs: files": Kind(
        st.tuples(
            st.sampled_from(FILES),
            st.sampled_from(("missing", "folder", "dangling link", "link to itself", "unreadable bytes")),
            _readers,
        ),
        _play_file,
    ),
    "runs: the same values": Kind(st.tuples(st.sampled_from(CSVS), st.sampled_from(sorted(HARMLESS))), _play_harmless),
    "runs: cells": Kind(
        st.tuples(st.sampled_from(CSVS), _fraction, _fraction, st.sampled_from(CELLS) | st.text(max_size=5), _readers),
        _play_cells,
    ),
    "runs: JSON values": Kind(
        st.tuples(
            st.sampled_from(("config.json", "versions.json")), _fraction, st.sampled_from((*VALUES, "DELETE")), _readers
        ),
        _play_json,
    ),
    "runs: other JSON": Kind(
        st.tuples(st.sampled_from(("config.json", "versions.json", "scaling.json")), st.sampled_from(WHOLE), _readers),
        _play_whole_json,
    ),
    "published tables": Kind(
        st.tuples(st.sampled_from(("trqam_paper", "qam_paper", "rql_paper", "trqam_reruns")), damages), _play_published
    ),
}
