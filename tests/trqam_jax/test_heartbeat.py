"""Two hosts that see one folder but not each other's locks: one writes, and a dead one is not waited for."""

import contextlib
import fcntl
import os
import pathlib
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments.training import lock
from trqam_jax import download, files, heartbeat
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import fcntl, pathlib, platform, sys, time
from experiments.training import lock
from trqam_jax import heartbeat
platform.node = lambda: "gpu1"
fcntl.flock = lambda *_: None
heartbeat.BEAT = 0.05
with lock.hold(pathlib.Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A process on a host of another name that holds the folder."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def not_passed_on(monkeypatch):
    """This host is granted every lock."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    monkeypatch.setattr(heartbeat, "SILENCE", 1.0)


def test_a_lock_that_is_not_passed_on_is_noticed(tmp_path, elsewhere):
    refused = pytest.raises(UserError, match=rf"is being written by pid {elsewhere.pid} on host gpu1")
    with refused, lock.hold(tmp_path, wait=False):
        pass
    assert heartbeat.owner(tmp_path / lock.NAME) == f"pid {elsewhere.pid} on host gpu1"


def test_a_dead_hosts_lock_is_taken_over(tmp_path, elsewhere, capsys):
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    with lock.hold(tmp_path, wait=False):
        assert heartbeat.owner(tmp_path / lock.NAME) == f"pid {os.getpid()} on host {platform.node()}"
    said = capsys.readouterr().out
    assert f"pid {elsewhere.pid} on host gpu1 has left its name; going on if it is silent" in said


def test_a_released_lock_is_not_waited_for(tmp_path, elsewhere, capsys):
    elsewhere.communicate("\n")
    with lock.hold(tmp_path, wait=False):
        pass
    assert capsys.readouterr().out == ""


def test_one_that_lives_is_waited_for_where_that_is_wanted(tmp_path, elsewhere, capsys):
    began = time.monotonic()

    @contextlib.contextmanager
    def wait(owner):
        assert owner == f"pid {elsewhere.pid} on host gpu1"
        assert time.monotonic() < began + heartbeat.SILENCE
        elsewhere.stdin.write("\n")
        elsewhere.stdin.flush()
        yield
        assert elsewhere.stdout.readline() == "released\n"

    with files.lock(tmp_path / lock.NAME, wait):
        pass


def test_a_second_writer_stops_the_first(tmp_path):
    """As of a host that was stopped for so long that another one went on in its place."""
    with lock.hold(tmp_path, wait=False):
        lock.check(tmp_path)
        (tmp_path / lock.NAME).write_text("pid 8 on host gpu2")
        with pytest.raises(UserError, match="pid 8 on host gpu2 writes here, too"):
            lock.check(tmp_path)
    assert heartbeat.owner(tmp_path / lock.NAME) == "pid 8 on host gpu2"
    lock.check(tmp_path)  # which this process no longer holds


def test_another_writer_whose_name_begins_alike_is_noticed(tmp_path, monkeypatch):
    """Numbers of processes are often the same in containers."""
    monkeypatch.setattr(platform, "node", lambda: "gpu10")
    with lock.hold(tmp_path, wait=False):
        (tmp_path / lock.NAME).write_text(f"pid {os.getpid()} on host gpu1\n")
        with pytest.raises(UserError, match="on host gpu1 writes here, too"):
            lock.check(tmp_path)
    assert heartbeat.owner(tmp_path / lock.NAME) == f"pid {os.getpid()} on host gpu1"


def test_an_own_name_that_a_full_disk_cut_is_no_other_writer(tmp_path):
    with lock.hold(tmp_path, wait=False):
        os.truncate(tmp_path / lock.NAME, 5)
        lock.check(tmp_path)
    assert heartbeat.owner(tmp_path / lock.NAME) == ""


def test_without_locks_signs_of_life_do(tmp_path, monkeypatch, elsewhere, capsys):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(platform, "node", lambda: "gpu1")  # even on one host
    with pytest.raises(UserError, match="is being written by"), lock.hold(tmp_path, wait=False):
        pass
    assert "no lock (No locks available)" in capsys.readouterr().err


def test_a_thread_that_the_system_refuses_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    refused = pytest.raises(UserError, match=r"can't start new thread; .*ulimit -u")
    with refused, lock.hold(tmp_path, wait=False):
        pass
    with refused:
        download.fetch(tmp_path, download.RemoteFile("a", ("http://127.0.0.1:9/a",)))
