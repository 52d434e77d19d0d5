"""What a case may end in: one clear line, or a result. Anything else is a fault."""

import contextlib
import faulthandler
import io
import logging
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

from trqam_jax.errors import UserError

SECONDS = 20.0  # of the processor's time, that a case may take before it counts as a hang
PATIENCE = 15  # times as many on the clock
LONGEST = 3000  # letters of a line that can still be called clear


class Fault(AssertionError):
    """A case ended in something else than a clear line or the right result."""


class Started(BaseException):
    """Raised in place of what would take long: the case got that far."""


class Hang(BaseException):
    """The time is over. No `except Exception` catches it."""


class Outcome(NamedTuple):
    """error: the line, None where the call ended well; result: what it returned; printed: what it wrote to stdout."""

    error: str | None
    result: Any
    printed: str


class Kind(NamedTuple):
    """Cases of one kind. play: raises Fault, or whatever the code under test lets through."""

    cases: st.SearchStrategy[Any]
    play: Callable[[Any], None]


def outcome(call: Callable[..., Any], *arguments: Any, seconds: float = SECONDS) -> Outcome:
    """What a call ends in. Fault if it is neither a result nor one clear line; other exceptions come through."""
    out, err = _Stream(), _Stream()
    error, result = None, None
    try:
        with limited(seconds), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _quiet_libraries():
            result = call(*arguments)
    except Started:
        result = Started
    except UserError as caught:
        error = clear(str(caught))
    except OSError as caught:  # commands print these in one line, too
        if not caught.strerror:
            raise
        error = clear(str(UserError(f"{caught.filename or 'system'}: {caught.strerror}")))
    except SystemExit as caught:
        error = _of_exit(caught.code, out.getvalue(), err.getvalue())
    except Hang:
        raise Fault(f"hung for {seconds} s") from None
    return Outcome(error, result, out.getvalue())


def _of_exit(code: Any, out: str, err: str) -> str | None:
    if code in (None, 0):
        return None
    if isinstance(code, str):
        if not code.startswith("error: "):
            raise Fault(f"exit says {code!r:.200}, without 'error: '")
        return clear(code.removeprefix("error: "))
    if "--help" in out or "flags:" in out:  # absl's help ends with 1
        return None
    if not err.strip():
        raise Fault(f"exit status {code} without a word")
    return clear(err.strip().splitlines()[-1])


def clear(line: str) -> str:
    """The line, if it is one, says something and has no letters that a terminal would obey; else Fault."""
    if not line.strip():
        raise Fault("an empty error")
    if len(line.splitlines()) != 1 or any(not letter.isprintable() and not _is_byte(letter) for letter in line):
        raise Fault(f"not one clean line: {line!r:.300}")
    if len(line) > LONGEST:
        raise Fault(f"an error of {len(line)} letters: {line!r:.200}")
    return line


def _is_byte(letter: str) -> bool:
    """Of a name that is no text; `trqam_jax.console` writes it as it is."""
    return "\udc80" <= letter <= "\udcff"


def same(found: Any, expected: Any, what: str) -> None:
    """Fault unless both are equal."""
    if found != expected:
        raise Fault(f"{what} changed: {found!r:.200} instead of {expected!r:.200}")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Hang after so many seconds of this process's own, or PATIENCE times as many on the clock: others use the machine.

    What hangs in C ends the process, with a traceback, after twice as many again.
    """

    def stop(*_: Any) -> None:
        raise Hang

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE * seconds)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    faulthandler.dump_traceback_later(2 * PATIENCE * seconds, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Fault where a library says more than the one line."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(listener)
    if said:
        raise Fault(f"a library said {said[0]:.200}")


class _Stream(io.StringIO):
    """Takes the bytes of a name that is no text, as `trqam_jax.console` does, and nothing else without an encoding."""

    def write(self, text: str, /) -> int:
        os.fsencode("".join(letter for letter in text if not "\ud800" <= letter <= "\udc7f"))
        return super().write(text)


# ---- damage to bytes

#: (how, where, what): where is a fraction of the file, what a byte.
damages = st.tuples(
    st.sampled_from(("flip", "flip", "flip", "cut", "insert", "drop", "empty", "zeros", "twice")),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)


def damaged(data: bytes, damage: tuple[str, float, int]) -> bytes:
    """The bytes with that one damage."""
    how, where, what = damage
    place = int(where * len(data))
    if how == "flip" and data:
        return data[:place] + bytes([data[place] ^ what]) + data[place + 1 :]
    if how == "insert":
        return data[:place] + bytes([what]) * (1 + what % 7) + data[place:]
    if how == "drop":
        return data[:place] + data[place + 1 + what % 7 :]
    if how == "zeros":
        return data[:place] + bytes(len(data[place : place + 64])) + data[place + 64 :]
    return {"cut": data[:place], "empty": b"", "twice": data + data}.get(how, data)


@contextlib.contextmanager
def copied(original: pathlib.Path) -> Iterator[pathlib.Path]:
    """A copy of a folder, of the same name, for a case to spoil."""
    with tempfile.TemporaryDirectory() as parent:
        copy = pathlib.Path(parent) / original.name
        shutil.copytree(original, copy)
        yield copy


def one_of(content: dict[str, Any], place: float) -> tuple[dict[str, Any], str]:
    """A value of a JSON object or of an object in it, as where it stands and its key. place: which, from 0 up to 1."""
    places = [(content, key) for key in content]
    places += [(part, key) for part in content.values() if isinstance(part, dict) for key in part]
    return places[int(place * len(places))]
