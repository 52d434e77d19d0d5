"""One process of a run under test: forked from this one, which has imported everything, or started as a user does."""

import atexit
import contextlib
import faulthandler
import gc
import io
import os
import pathlib
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from benchmarks.kill import conditions, faults

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Circumstances(NamedTuple):
    """What a process begins under; None and False: as it is here."""

    host: str | None = None
    most_files: int | None = None  # ulimit -n
    most_processes: int | None = None  # ulimit -u
    shared_memory_full: bool = False
    worker_timeout: float | None = None  # seconds until a worker hangs, of which a run has 600


class Process:
    """In a session of its own; its output goes to `log`."""

    def __init__(
        self,
        program: Callable[[Sequence[str]], None] | None,
        argv: Sequence[str],
        log: pathlib.Path,
        control: pathlib.Path,
        circumstances: Circumstances,
        environment: Mapping[str, str],
    ):
        """program: called with argv in a fork; None: argv is executed."""
        self.log, self.status, self.cpu_seconds = log, None, 0.0
        log.write_bytes(b"")
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _begin(log, control, circumstances, environment)
                if program is None:
                    os.execv(argv[0], list(argv))
                _become(program, argv, circumstances)
            except BaseException:  # a fork must never go on as its parent
                traceback.print_exc()
                os._exit(99)
        while os.getsid(self.pid) != self.pid and self.poll() is None:  # before, no signal to its group would arrive
            time.sleep(0.001)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.cpu_seconds = usage.ru_utime + usage.ru_stime
        return self.status

    def wait(self, seconds: float) -> int | None:
        """The exit status; None if it has not ended by then."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.status

    def send(self, number: int, *, group: bool = False) -> None:
        """A signal, to it alone or to all of its session's first group, as a terminal and a cluster send it."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end_by_force(self) -> None:
        """Of one that hangs; its log then says where its threads are, if it is a fork."""
        self.send(signal.SIGUSR2)
        self.wait(2)
        self.send(signal.SIGKILL, group=True)
        self.wait(10)

    def text(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")

    def session(self) -> dict[int, str]:
        """The other processes of its session: {number: command line}."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and int(entry.name) != self.pid and state != "Z":
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
        return found

    def workers(self) -> list[int]:
        """Those of them that host simulators."""
        return sorted(pid for pid, line in self.session().items() if "spawn_main" in line)


def running_in(folder: pathlib.Path) -> list[int]:
    """The jobs of a sweep below the folder: they are in sessions of their own, and outlive a pool that was killed."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if str(folder).encode() in line and (b"main.py" in line or b"attempt.py" in line):
                found.append(int(entry.name))
    return sorted(found)


def _begin(
    log: pathlib.Path, control: pathlib.Path, circumstances: Circumstances, environment: Mapping[str, str]
) -> None:
    os.setsid()
    os.chdir(ROOT)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND)
    for file, descriptor in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(file, descriptor)
    os.closerange(3, 256)
    os.environ.update(environment)
    faults.attach(control)
    if circumstances.host:
        conditions.name_host(circumstances.host)
        setattr(platform, "_uname_cache", None)  # noqa: B010  (of the process that this one was forked from)
    if circumstances.shared_memory_full:
        conditions.fill_shared_memory()
    if circumstances.most_files:
        conditions.limit_files(circumstances.most_files)
    if circumstances.most_processes:
        conditions.limit_processes(circumstances.most_processes, 50_000 + os.getpid())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _become(program: Callable[[Sequence[str]], None], argv: Sequence[str], circumstances: Circumstances) -> NoReturn:
    """The program's main function, and the end of an interpreter after it."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), line_buffering=True, write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if circumstances.worker_timeout:
        from envs.vector import workers

        workers.TIMEOUT = circumstances.worker_timeout
    faulthandler.register(signal.SIGUSR2, sys.stderr)
    gc.disable()  # what the fork has of this process's memory would be copied
    status = 0
    try:
        program(argv)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # what ends a process of its own, printed as Python would
        traceback.print_exc()
        status = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
