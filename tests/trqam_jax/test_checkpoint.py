"""Damage is noticed, a kill at any moment leaves a checkpoint to go on from, and a full disk harms none."""

import contextlib
import errno
import gc
import itertools
import logging
import os
import pathlib
import resource
import shutil
import sys
import threading
import types

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from odd_names import NAMES

from trqam_jax import checkpoint
from trqam_jax.checkpoint import META, POLICY, Checkpoints, Damaged, Place, load, read_meta, save_params
from trqam_jax.errors import UserError
from trqam_jax.files import sha256_json, write_json

PHASES = ("bc", "offline")
LIKE = {"w": jnp.zeros((2, 3)), "n": jnp.zeros(2, jnp.int32)}


class Killed(BaseException):
    """As good as kill -9 for what is on the disk: nothing catches it."""


def tree(step):
    return {"w": jnp.full((2, 3), step / 7), "n": jnp.array([step, jnp.iinfo(jnp.int32).max])}


def saved(folder, *places):
    checkpoints = Checkpoints(folder, PHASES)
    for place in places:
        checkpoints.save(Place(*place), tree(place[1]))
    return checkpoints


def assert_holds(checkpoints, place):
    assert checkpoints.newest() == place
    for a, b in zip(jax.tree.leaves(checkpoints.load(place, LIKE)), jax.tree.leaves(tree(place[1])), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    saved(folder, ("offline", 9), ("offline", 10))
    return folder


def test_the_last_two_are_kept_in_the_order_of_phases(tmp_path):
    assert Checkpoints(tmp_path / "none", PHASES).newest() is None
    checkpoints = saved(tmp_path, ("bc", 90), ("offline", 9), ("offline", 10))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["offline-10", "offline-9"]
    assert_holds(checkpoints, Place("offline", 10))
    checkpoints.save(Place("offline", 10), tree(10))  # again, in its place
    assert sorted(path.name for path in tmp_path.iterdir()) == ["offline-10", "offline-9"]
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert_holds(Checkpoints(moved, PHASES), Place("offline", 10))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_folder_may_have_any_name(name, tmp_path):
    assert_holds(saved(tmp_path / name, ("offline", 9)), Place("offline", 9))


def test_what_cannot_be_read_back_does_not_count_as_written(two, tmp_path, monkeypatch):
    """And is damaged where an earlier version has written it."""
    folder = shutil.copytree(two, tmp_path / "copy")
    stored = checkpoint._stored
    misread = lambda path: {"w": jnp.zeros((2, 3))} if path.name == ".offline-11.new" else stored(path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_stored", misread)
        with pytest.raises(UserError, match=r"offline-11: .*cannot be written.* n has shape none, expected \(2,\)"):
            saved(folder, ("offline", 11))
    assert_holds(Checkpoints(folder, PHASES), Place("offline", 10))
    shutil.rmtree(folder / "offline-10" / checkpoint.TREE)
    meta = {"phase": "offline", "step": 10, "files": {}}
    write_json(folder / "offline-10" / META, meta | {"digest": sha256_json(meta)})
    assert_holds(Checkpoints(folder, PHASES), Place("offline", 9))


def test_another_shape_is_named(two):
    with pytest.raises(UserError, match=r"does not fit.*w has shape \(2, 3\), expected \(4, 3\)"):
        load(two / "offline-10", {**LIKE, "w": jnp.zeros((4, 3))})


@flax.struct.dataclass
class Dual:
    lam: jax.Array


@flax.struct.dataclass
class OldDual(Dual):
    budget: jax.Array


def test_leaves_of_earlier_versions_are_dropped_where_they_are_named(tmp_path):
    """Whatever the nodes around them are; a leaf that is asked for, or of another name, is not dropped."""
    checkpoints = Checkpoints(tmp_path, PHASES)
    budget = jnp.full(2, 0.5)
    optimizer = optax.adam(1e-3).init(tree(1))
    stored = ({"dual": OldDual(jnp.ones(2), budget), "opt": optimizer, "more": {"budget": budget}}, tree(3))
    checkpoints.save(Place("offline", 3), stored)
    like = jax.tree.map(jnp.zeros_like, ({**stored[0], "dual": Dual(budget)}, stored[1]))
    expected = ({**stored[0], "dual": Dual(jnp.ones(2))}, stored[1])
    restored = checkpoints.load(Place("offline", 3), like, dropped=("dual/budget", "nowhere"))
    chex.assert_trees_all_equal(restored, expected)
    chex.assert_trees_all_equal(checkpoints.load(Place("offline", 3), stored, dropped=("dual/budget",)), stored)
    for dropped in ((), ("nowhere",), ("ual/budget",)):
        with pytest.raises(UserError, match=r"dual/budget has shape \(2,\), expected none"):
            checkpoints.load(Place("offline", 3), like, dropped=dropped)
    more = ({**like[0], "dual": {"lam": budget, "cap": budget}}, like[1])
    with pytest.raises(UserError, match=r"does not fit.*dual/cap has shape none, expected \(2,\)"):
        checkpoints.load(Place("offline", 3), more, dropped=("dual/cap", "dual/budget"))


def spoil(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_a_spoilt_file_of_the_newest_is_named_and_the_one_before_is_used(two, tmp_path, how, capsys):
    names = [file.relative_to(two / "offline-10") for file in (two / "offline-10").rglob("*") if file.is_file()]
    assert len(names) > 5
    for i, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(i))
        spoil(folder / "offline-10" / name, how)
        assert Checkpoints(folder, PHASES).newest() == ("offline", 9), name
        warning = capsys.readouterr().err
        assert f"offline-10/{name}: " in warning
        assert "damaged" in warning
        assert sorted(path.name for path in folder.iterdir()) == ["damaged-offline-10", "offline-9"]
        assert Checkpoints(folder, PHASES).newest() == ("offline", 9)
    assert_holds(Checkpoints(folder, PHASES), Place("offline", 9))


def test_any_flipped_byte_of_the_meta_file_is_noticed(two, tmp_path):
    path = shutil.copytree(two, tmp_path / "copy") / "offline-10"
    content = (path / META).read_bytes()
    expected = read_meta(path)
    for i in range(len(content)):
        (path / META).write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
        try:
            found = read_meta(path)
        except Damaged:
            continue
        assert found == expected  # white space between entries means nothing


def test_if_none_is_intact_each_is_named_and_nothing_is_touched(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "copy")
    for name in ("offline-9", "offline-10"):
        spoil(folder / name / META, "truncated")
    for _ in range(2):
        with pytest.raises(Damaged, match=r"no checkpoint is intact.*offline-10.*offline-9"):
            Checkpoints(folder, PHASES).newest()
    assert sorted(path.name for path in folder.iterdir()) == ["offline-10", "offline-9"]


def test_a_kill_at_any_moment_of_saving_leaves_one_to_go_on_from(two, tmp_path, monkeypatch):
    """At every fsync, rename and removal in turn."""
    left = 0

    def fatal(original):
        def wrapped(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return original(*args, **kwargs)

        return wrapped

    for owner, name in ((os, "fsync"), (pathlib.Path, "rename"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, fatal(getattr(owner, name)))
    newest, whole = [], set()
    for moment, step in itertools.product(range(1, 100), (10, 11)):  # 10 is there already, and replaced
        folder = shutil.copytree(two, tmp_path / f"{moment}-{step}")
        left = moment
        try:
            saved(folder, ("offline", step))
            whole.add(step)
            if len(whole) == 2:
                break
        except Killed:
            left = 0
            newest.append(Checkpoints(folder, PHASES).newest().step)
            assert_holds(saved(folder, ("offline", 12)), Place("offline", 12))
            assert len(list(folder.iterdir())) == 2
    assert moment > 15
    assert {10, 11} <= set(newest) <= {9, 10, 11}


def test_killed_between_the_two_renames_of_a_replacement_the_one_before_is_left(two, tmp_path, monkeypatch):
    """The moments above may miss it: how often orbax syncs varies."""
    folder = shutil.copytree(two, tmp_path / "copy")
    rename, calls = pathlib.Path.rename, []

    def second_is_fatal(path, target):
        calls.append(path)
        if path.name == ".offline-10.new":
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rename", second_is_fatal)
        with pytest.raises(Killed):
            saved(folder, ("offline", 10))
    assert [path.name for path in calls][-2:] == ["offline-10", ".offline-10.new"]
    assert Checkpoints(folder, PHASES).newest().step == 9
    assert_holds(saved(folder, ("offline", 12)), Place("offline", 12))


def test_a_full_disk_is_one_clear_error(two, tmp_path, monkeypatch):
    folder = shutil.copytree(two, tmp_path / "copy")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("posix_fallocate", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(UserError, match=r"offline-11: .*cannot be written \(No space left .*make room"):
                saved(folder, ("offline", 11))
        assert sorted(path.name for path in folder.iterdir()) == ["offline-10", "offline-9"]
    assert_holds(Checkpoints(folder, PHASES), Place("offline", 10))


# What orbax's threads were in the middle of ends with them, and is collected here and not in another test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_fails_in_the_middle_of_saving_is_one_line(two, tmp_path, monkeypatch, capfd, caplog):
    """As a disk that breaks, or is full, after the room on it was checked; orbax's threads would print hundreds."""
    folder, many = shutil.copytree(two, tmp_path / "copy"), {str(n): jnp.ones(9) for n in range(60)}
    monkeypatch.setattr(checkpoint, "check_room", lambda *_: None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"offline-11: .*cannot be written \(File too large\); .*make room"):
            Checkpoints(folder, PHASES).save(Place("offline", 11), many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    gc.collect()
    assert "Traceback" not in "".join(capfd.readouterr())
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert_holds(Checkpoints(folder, PHASES), Place("offline", 10))


def test_what_the_storages_threads_raise_after_a_failed_save_is_not_printed(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: printed.append(str(raised.exc_value)))
    with contextlib.suppress(OSError), checkpoint._without_tracebacks():
        raise OSError
    for words in ("Event loop is closed", "something else"):
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(words)))
    assert printed == ["something else"]
    logging.getLogger("absl").removeFilter(checkpoint._not_orbaxs)


def test_a_folder_that_cannot_be_made_leaves_no_thread_that_waits_for_it(tmp_path, monkeypatch):
    make, before = os.mkdir, set(threading.enumerate())

    def refuse(path, *arguments, **options):
        if "orbax" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        make(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match=r"\(Read-only file system\); what was written before is intact; mend that"):
        saved(tmp_path, ("offline", 11))
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


def test_policies_have_the_fingerprint_of_their_content(tmp_path):
    prints = []
    for name, params in (("a", tree(1)), ("b", tree(1)), ("c", tree(2))):
        save_params(tmp_path / name, params, {"seeds": [0], "steps": 3})
        prints.append(read_meta(tmp_path / name)["fingerprint"])
    assert prints[0] == prints[1] != prints[2]
    with pytest.raises(UserError, match="not a checkpoint"):
        read_meta(tmp_path)
    saved(tmp_path, ("bc", 3))
    with pytest.raises(UserError, match=r"another kind of checkpoint.*fingerprint"):
        read_meta(tmp_path / "bc-3", POLICY)
