"""Signals that ask a run to stop: it ends what it is about, saves, and leaves. Imports no JAX."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # the last: its terminal was closed


class Interrupted(KeyboardInterrupt):
    """A signal has come, and nothing is left half done."""


_pending: signal.Signals | None = None
_at_once = False


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """In here, and at its end, the first of SIGNALS makes the next `check` raise Interrupted; a second one ends the
    process there and then. Main thread only. A process that was to outlive its terminal (nohup) still does."""
    global _pending
    _pending = None
    outlives = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heard = [number for number in SIGNALS if not (outlives and number == signal.SIGHUP)]
    before = {number: signal.signal(number, _handle) for number in heard}
    try:
        yield
        check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """In here no `check` is waited for: for what takes long and can be left anywhere. What then still compiles in a
    thread keeps nobody waiting (`ahead.leave`)."""
    global _at_once
    check()
    _at_once = True
    try:
        yield
    finally:
        _at_once = False


def pending() -> bool:
    """Whether a signal waits for the next `check`."""
    return _pending is not None


def check() -> None:
    """Interrupted, if a signal has come."""
    if _pending is not None:
        raise Interrupted(f"interrupted by {_pending.name}")


def _handle(number: int, frame: FrameType | None) -> None:
    global _pending
    if _pending is not None:
        if number == signal.SIGHUP:
            return  # of one terminal that closes the kernel tells, and the shell as well
        for child in multiprocessing.active_children():
            child.kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _pending = signal.Signals(number)
    if _at_once:
        check()
