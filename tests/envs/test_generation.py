"""Generated files: made once, whoever else makes them."""

import contextlib
import errno
import json
import os
import signal
import threading

import pytest

from envs import generation
from envs.generation import GenerationError, make_once
from trqam_jax.errors import UserError

SETTINGS = {"generator": "test", "seed": 1, "versions": {"mujoco": "4.0.0"}}


def provenance(path):
    return json.loads(path.read_text())


@pytest.fixture
def paths(tmp_path):
    return [tmp_path / "new" / "train.json", tmp_path / "new" / "val.json"]


def make_of(paths, calls, **changes):
    """What writes the files, and notes that it was called."""

    def make():
        calls.append(paths)
        for path in paths:
            path.write_text(json.dumps(SETTINGS | changes))

    return make


def test_files_are_made_once_and_others_are_refused(paths):
    calls = []
    for _ in range(2):
        make_once(paths, SETTINGS, provenance, make_of(paths, calls))
    assert len(calls) == 1
    paths[1].unlink()
    make_once(paths, SETTINGS, provenance, make_of(paths, calls))
    assert len(calls) == 2
    make_once(paths, SETTINGS | {"versions": {"mujoco": "3.9.0"}}, provenance, make_of(paths, calls))
    with pytest.raises(UserError, match=r"train\.json exists and was made with seed 1 instead of 2; remove it or"):
        make_once(paths, SETTINGS | {"seed": 2}, provenance, make_of(paths, calls))
    assert len(calls) == 2


def test_what_another_process_made_meanwhile_is_taken(paths, monkeypatch):
    """It had the lock; a machine that rounds differently must not replace what the other has begun to train on."""
    calls = []

    @contextlib.contextmanager
    def lock_target(path):
        make_of(paths, [], versions={"mujoco": "of the other machine"})()
        yield

    monkeypatch.setattr(generation, "lock_target", lock_target)
    make_once(paths, SETTINGS, provenance, make_of(paths, calls))
    assert not calls
    assert provenance(paths[0])["versions"] == {"mujoco": "of the other machine"}


def test_a_full_shared_memory_is_named(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(generation, "_in_workers", full)
    monkeypatch.setattr(generation, "_here", full)
    with pytest.raises(GenerationError, match=r"a failed: .*No space left.*; /dev/shm, .* workers=1 starts none"):
        generation.play_all("a", object, object, 3, workers=2, progress=False)
    with pytest.raises(GenerationError, match=r"No space left on device$"):
        generation.play_all("a", object, object, 3, workers=1, progress=False)


def test_a_worker_that_may_start_no_thread_says_so_where_it_is_heard(monkeypatch):
    """What its start raises ends a worker with a traceback of its own; what its work raises comes to the parent."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(generation, "_of_worker", {})
    monkeypatch.setattr(threading.Thread, "start", refuse)
    try:
        generation._start_worker(object)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(UserError, match=r"can't start new thread; .*ulimit -u"):
        generation._work(object, 0)
