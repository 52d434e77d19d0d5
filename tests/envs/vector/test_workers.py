"""Workers that die, hang, fail or are signalled: one error each, and never a hang or an orphan of ours."""

import errno
import multiprocessing
import multiprocessing.process
import os
import pathlib
import signal
import subprocess
import sys
import time

import hosts
import pytest

from envs.vector import workers as module
from envs.vector.workers import Workers
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def pool():
    with Workers([hosts.Reporter] * 2) as workers:
        yield workers


def alive(pid):
    """Whether the process runs; one that nobody has reaped does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_calls_queue_and_are_answered_in_order(pool):
    for value in range(5):
        for worker in range(2):
            pool.send(worker, "echo", (worker, value))
    assert [pool.receive(1) for _ in range(5)] == [(1, value) for value in range(5)]
    assert [pool.receive(0) for _ in range(5)] == [(0, value) for value in range(5)]


def children():
    """The numbers of this process's worker processes."""
    return {process.pid for process in multiprocessing.active_children()}


def test_processes_start_when_they_are_asked_for_and_once():
    before = children()
    with Workers([hosts.Reporter] * 2) as workers:
        assert children() == before
        assert len(workers) == 2
        workers.start()
        started = children() - before
        assert len(started) == 2
        workers.start()
        assert set(workers.call("pid", [()] * 2)) == started == children() - before
    with Workers([hosts.Reporter]) as unused:
        assert children() == before
    with pytest.raises(RuntimeError, match="closed"):
        unused.send(0, "pid")


def test_a_process_that_the_system_refuses_is_one_clear_error_and_leaves_none(monkeypatch):
    before, start = children(), multiprocessing.process.BaseProcess.start
    started = []

    def refuse_the_second(process):
        if started:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse_the_second)
    with Workers([hosts.Reporter] * 2) as workers, pytest.raises(UserError, match=r"cannot be started; .*ulimit -u"):
        workers.call("pid", [()] * 2)
    assert len(started) == 1
    assert children() == before


def test_a_hosts_error_arrives_with_its_traceback_and_the_worker_goes_on(pool):
    pool.send(0, "fail", KeyError("lost"))
    with pytest.raises(KeyError, match="lost") as caught:
        pool.receive(0)
    assert "in fail" in caught.value.__notes__[0]
    pool.send(0, "fail_obscurely")
    with pytest.raises(RuntimeError, match="Obscure: 1 and 2"):
        pool.receive(0)
    pool.send(0, "echo", 3)
    assert pool.receive(0) == 3


def test_a_host_that_cannot_be_made_is_an_error_of_the_first_call():
    with Workers([hosts.Broken]) as workers, pytest.raises(ValueError, match="no such simulator"):
        workers.call("echo", [(1,)])


def test_a_killed_worker_is_named(pool):
    pid = pool.call("pid", [()] * 2)[1]
    pool.send(1, "sleep", 60)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(UserError, match=rf"simulator worker 1 \(process {pid}\) died with exit code -9"):
        pool.receive(1)
    pool.send(1, "pid")  # nobody is there any more: still no other error
    with pytest.raises(UserError, match="died"):
        pool.receive(1)


def test_a_worker_that_hangs_is_named_and_ended(monkeypatch):
    monkeypatch.setattr(module, "CLOSING", 0.2)
    with Workers([hosts.Reporter], timeout=20.0) as workers:
        (pid,) = workers.call("pid", [()])
        workers._timeout = 0.2
        workers.send(0, "sleep", 60)
        with pytest.raises(UserError, match=rf"process {pid}\) has not answered for 0.2 s"):
            workers.receive(0)
    assert not alive(pid)


def test_signals_of_the_process_group_are_the_parents_business(pool):
    pids = pool.call("pid", [()] * 2)
    for pid in pids:
        for number in module.SIGNALS_FOR_THE_PARENT:
            os.kill(pid, number)
    assert pool.call("pid", [()] * 2) == pids
    # Blocked in the workers alone:
    assert not module.SIGNALS_FOR_THE_PARENT & signal.pthread_sigmask(signal.SIG_BLOCK, ())


SCRIPT = """
import hosts, signal, time
from envs.vector.workers import Workers
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
workers = Workers([hosts.Reporter] * 2)
try:
    workers.start()
    print(*workers.processes, flush=True)
    {then}
except KeyboardInterrupt:
    workers.close()
"""


def start(then):
    """A process group with two workers that are only starting, and their process ids."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(then=then)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_workers_end_when_their_parent_is_killed():
    process, pids = start("workers.call('pid', [()] * 2); time.sleep(60)")
    assert all(map(alive, pids))
    process.kill()
    process.communicate()
    assert wait_for_the_end(pids)


def test_a_parent_that_forgets_to_close_still_ends():
    process, pids = start("workers.call('pid', [()] * 2)")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0
    assert wait_for_the_end(pids)


def test_ctrl_c_prints_no_traceback_of_a_worker():
    """The terminal sends it to the whole group; here while the workers are still importing."""
    process, pids = start("time.sleep(60)")
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0
    assert wait_for_the_end(pids)
