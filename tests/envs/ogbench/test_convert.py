"""Shards as memory-mapped files: equal to the shards, whole or not there, and made with little memory."""

import errno
import gc
import os
import pathlib
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from envs import mapped
from envs.ogbench import SUITE, convert, generate
from envs.ogbench import files as ogbench
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
CUBE = SUITE.domains["cube-single"]
STEM = "cube-single-play-v0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """4 episodes of 30 rows, and validation beside them."""
    folder = tmp_path_factory.mktemp("made")
    return generate.generate("cube-single", episodes=4, out_dir=folder, workers=1, progress=False, episode_steps=30)


def write_shards(folder, made, tiles):
    """One shard per entry of tiles: that many copies of the made file, each shard with actions of its own."""
    with np.load(made) as file:
        arrays = {key: file[key] for key in ("observations", "actions", "terminals", "qpos")}
    for number, count in enumerate(tiles):
        own = {key: np.concatenate([array] * count) for key, array in arrays.items()}
        own["actions"] = own["actions"] * np.float32(1 - number / 10)
        np.savez(folder / f"{STEM}-{number:03d}.npz", **own)
        shutil.copy(ogbench.partner(made), folder / f"{STEM}-{number:03d}-val.npz")
    return folder


@pytest.fixture
def shards(made, tmp_path):
    """Three, of different sizes."""
    return write_shards(tmp_path, made, [2, 1, 3])


def load(path, tasks=(1, 2), *, sparse=False, shards=0):
    return ogbench.load(path, CUBE, list(tasks), CUBE.horizon, sparse=sparse, shards=shards)


def converted(path):
    return ogbench.converted_folder(path, CUBE, 0)


def names(path):
    return sorted(file.name for file in path.glob("converted-*/*"))


def assert_same(one, other):
    assert one.bounds == other.bounds
    for name in ("observations", "actions", "rows", "terminals", "rewards", "masks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("sparse", [False, True])
def test_converted_shards_are_the_shards_one_after_the_other(shards, sparse):
    """Against the files' own arrays, and rewards against each shard loaded as a plain file."""
    arrays = load(shards, sparse=sparse)
    files = [shards / f"{STEM}-{number:03d}.npz" for number in range(3)]
    stored = [dict(np.load(file)) for file in files]
    plain = [load(file, sparse=sparse) for file in files]
    join = lambda pieces: np.concatenate(list(pieces))
    ends = join(piece["terminals"] for piece in stored).astype(bool)
    np.testing.assert_array_equal(arrays.observations, join(piece["observations"] for piece in stored))
    np.testing.assert_array_equal(arrays.rows, np.flatnonzero(~ends))
    np.testing.assert_array_equal(arrays.actions, join(piece["actions"] for piece in stored)[~ends])
    np.testing.assert_array_equal(arrays.terminals, join(piece.terminals for piece in plain))
    for t in range(2):
        np.testing.assert_array_equal(arrays.rewards[t], join(piece.rewards[t] for piece in plain))
        np.testing.assert_array_equal(arrays.masks[t], join(piece.masks[t] for piece in plain))
    assert arrays.bounds == (0, *np.cumsum([len(piece.actions) for piece in plain]))
    assert not any(array.flags.writeable for array in (arrays.observations, arrays.rewards[0]))
    assert arrays.rows.dtype == np.int32
    assert (np.abs(arrays.actions) > ogbench.ACTION_CLIP).any() == any(
        (np.abs(piece["actions"]) > ogbench.ACTION_CLIP).any() for piece in stored
    )


def test_the_second_time_nothing_is_made_and_another_task_adds_its_own(shards, monkeypatch):
    first = load(shards, [1])
    before = {name: (converted(shards) / name).stat().st_mtime_ns for name in names(shards)}
    load(shards, [3])
    load(shards, [1], sparse=True)
    new = {"rewards-task3.npy", "masks-task3.npy", "rewards-task1-sparse.npy"}
    assert set(names(shards)) == {*before, *new}
    assert all((converted(shards) / name).stat().st_mtime_ns == time for name, time in before.items())
    monkeypatch.setattr(ogbench, "read_file", lambda *_: pytest.fail("a shard was read"))
    assert_same(load(shards, [1]), first)
    assert len(load(shards, [3, 1]).rewards) == 2


def test_other_shards_are_another_conversion(shards):
    load(shards, [1])
    assert len(load(shards, [1], shards=2).actions) == 3 * 4 * 29
    assert len(list(shards.glob("converted-*"))) == 2


def test_an_interrupted_conversion_leaves_nothing_in_use(shards, monkeypatch):
    """Stopped in the third shard, between two moves, or while it wrote: the next one makes what is missing."""
    original, read = ogbench.read_file, []

    def stopped(path, domain):
        read.append(path)
        if path.name == f"{STEM}-002.npz":
            raise KeyboardInterrupt
        return original(path, domain)

    with monkeypatch.context() as patch:
        patch.setattr(ogbench, "read_file", stopped)
        with pytest.raises(KeyboardInterrupt):
            load(shards)
    assert len(read) == 6
    assert names(shards) == []

    moves, move = [], pathlib.Path.replace

    def stopped_move(self, target):
        if len(moves) == 2:
            raise KeyboardInterrupt
        moves.append(target)
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", stopped_move)
        with pytest.raises(KeyboardInterrupt):
            load(shards)
    assert names(shards) == sorted(path.name for path in moves)
    (converted(shards) / "rewards-task1.npy.part").write_bytes(b"half")
    resumed = load(shards)
    assert not [name for name in names(shards) if not name.endswith(".npy")]
    shutil.rmtree(converted(shards))
    assert_same(load(shards), resumed)


def test_memory_stays_about_one_shard(made, tmp_path, monkeypatch):
    simulator = ogbench.OGBenchSimulator(CUBE, 1)  # whose own memory is not meant
    monkeypatch.setattr(ogbench, "OGBenchSimulator", lambda *_: simulator)

    def peak(count):
        folder = tmp_path / str(count)
        folder.mkdir()
        write_shards(folder, made, [150] * count)
        gc.collect()
        tracemalloc.start()
        load(folder, [1])
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        with np.load(folder / f"{STEM}-000.npz") as file:
            return highest, sum(file[key].nbytes for key in file)

    (few, one), (many, _) = peak(2), peak(6)
    assert many < 1.1 * few
    assert many < 2 * one


def test_what_is_wrong_is_named_in_one_line(shards, monkeypatch):
    def refused(*words, error=UserError, **kwargs):
        with pytest.raises(error) as caught:
            load(shards, **kwargs)
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert names(shards) == []

    second = shards / f"{STEM}-001.npz"
    refused("holds 3 shards, expected 5", f"{STEM}-003.npz is missing", "--config.data.shards", shards=5)
    content = second.read_bytes()
    second.rename(shards / "away")
    refused("holds 2 shards, expected 3", f"{STEM}-001.npz is missing")
    spoiled = bytearray(content)
    spoiled[len(content) // 4] ^= 0xFF  # within the observations
    for damaged in (content[: len(content) // 2], bytes(spoiled)):
        second.write_bytes(damaged)
        refused(str(second), "damaged", "get it again")
    second.write_bytes(content)
    partner = ogbench.partner(second)
    partner.rename(shards / "away")
    refused(partner.name, "not beside it")
    (shards / "away").rename(partner)

    usage = shutil.disk_usage(shards)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        refused("needs 0.00 GiB", "the disk has", error=mapped.MappedError)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        refused("the disk is full", "nothing was kept", error=mapped.MappedError)
    load(shards)
    target = converted(shards) / "actions.npy"
    target.write_bytes(target.read_bytes()[:-4])
    with pytest.raises(mapped.MappedError, match=r"actions.npy: damaged.*remove it"):
        load(shards)
    target.unlink()
    load(shards)


def test_the_command(shards, tmp_path):
    command = [sys.executable, "-m", "envs.convert", str(shards), "--env=cube-single", "--tasks=all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{6 * 4 * 29:,} transitions, tasks 1, 2, 3, 4, 5, in" in done.stdout
    assert len(names(shards)) == 4 + 2 * 5
    for arguments, words in (({"tasks": "9"}, "no task 9"), ({"tasks": "x"}, "expected numbers like 1,3")):
        with pytest.raises(UserError, match=words):
            convert.convert(shards, "cube-single", **arguments)
    with pytest.raises(UserError, match="not a folder"):
        convert.convert(shards / f"{STEM}-000.npz", "cube-single")
