"""Worker processes that host simulators. The workers never import JAX.

A worker makes one object, its host, and answers calls of the host's methods in the order in which they are sent. Calls
queue up: a worker that has the next one already never waits for the parent.
"""

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from trqam_jax.errors import TOO_MANY_PROCESSES, UserError

TIMEOUT = 600.0  # seconds for one answer; the slowest, building a worker's simulators, takes some tens
CLOSING = 5.0  # seconds that workers have to finish what they are at when they are closed
# Ctrl-C, Slurm's signals and the closing of a terminal reach every process of a job; when and how it ends is the
# parent's business.
SIGNALS_FOR_THE_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}


def cpu_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """One process per maker of a host, from `start` or the first call on. Errors of a host, a dead worker and one that
    hangs are errors in `receive`."""

    def __init__(self, makers: list[Callable[[], Any]], timeout: float | None = None):
        """timeout: seconds per answer, by default TIMEOUT."""
        self._makers = makers
        self._timeout = TIMEOUT if timeout is None else timeout
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self._unmade = set(range(len(makers)))
        self._is_closed = False

    def start(self) -> None:
        """Start the processes, unless they run. Returns at once: hosts take seconds to make, and `receive` waits for
        them. UserError if the system allows no more processes."""
        if self._is_closed:
            raise RuntimeError("the workers were closed")
        if self._processes:
            return
        atexit.register(self.close)  # runs before multiprocessing's own handler, which would wait for them for ever
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # now, because its start unblocks signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_FOR_THE_PARENT)  # inherited by the workers
        try:
            for make in self._makers:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, make), daemon=True)
                process.start()
                theirs.close()  # so that a worker's death, or ours, closes the pipe
                self._pipes.append(ours)
                self._processes.append(process)
        except BlockingIOError as error:
            self.close()
            raise UserError(f"a simulator worker cannot be started; {TOO_MANY_PROCESSES}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __len__(self) -> int:
        return len(self._makers)

    @property
    def processes(self) -> list[int]:
        """The numbers of those that were started."""
        return [process.pid for process in self._processes]

    def send(self, worker: int, method: str, *args: Any) -> None:
        """Ask for host.method(*args); does not wait."""
        self.start()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` says what has happened
            self._pipes[worker].send((method, args))

    def wait_until_made(self) -> None:
        """`receive` does it by itself; this is to learn early that a host cannot be made."""
        self.start()
        for worker in sorted(self._unmade):
            self._answer(worker)
            self._unmade.remove(worker)

    def receive(self, worker: int) -> Any:
        """The answer to a worker's oldest call."""
        self.wait_until_made()
        return self._answer(worker)

    def call(self, method: str, arguments: Iterable[tuple]) -> list[Any]:
        """host.method(*args) in every worker, with each its own args."""
        for worker, args in enumerate(arguments):
            self.send(worker, method, *args)
        return [self.receive(worker) for worker in range(len(self))]

    def _answer(self, worker: int) -> Any:
        pipe, process = self._pipes[worker], self._processes[worker]
        name = f"simulator worker {worker} (process {process.pid})"
        try:
            if not pipe.poll(self._timeout):
                raise UserError(f"{name} has not answered for {self._timeout:g} s, and hangs; start the run again")
            answer = pipe.recv()
        except (EOFError, ConnectionResetError):
            process.join(CLOSING)
            raise UserError(
                f"{name} died with exit code {process.exitcode} (-9: killed, mostly because memory ran out); "
                "start the run again, with fewer worker processes where memory is short"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the workers, by force where they do not end by themselves."""
        self._is_closed = True
        atexit.unregister(self.close)
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + CLOSING
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(pipe: Connection, make: Callable[[], Any]) -> None:
    """A worker's life. It ends when the parent closes its end of the pipe or is no more."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        host = _attempt(make)
        if isinstance(host, Exception):
            pipe.send(host)
            return
        _give_back_memory()
        pipe.send(None)
        with contextlib.closing(host):
            while True:
                method, args = pipe.recv()
                pipe.send(_attempt(getattr(host, method), *args))


def _give_back_memory() -> None:
    """Return to the system what making the host took only for a while: of a simulator 170 MiB. Only of glibc."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns, or the exception it raises, in a form that can be sent."""
    try:
        return function(*args)
    except Exception as raised:
        error: Exception = raised
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception may be written so that it cannot be pickled, or not be read again
            error = RuntimeError(f"{type(raised).__name__}: {raised}")
        error.add_note(f"In the worker:\n{traceback.format_exc()}")
        return error
