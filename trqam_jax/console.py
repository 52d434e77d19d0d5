"""Commands' flags and output: what cannot be encoded is replaced, nobody reading it stops nothing. Imports no JAX."""

import argparse
import codecs
import errno
import io
import os
import pathlib
import stat
import sys
from typing import Any, NoReturn

from trqam_jax.errors import UserError, one_line
from trqam_jax.files import expand

_ERRORS = "trqam_jax.replace"
_PLAIN = {"±": "+-"}
_NOBODY_READS = (errno.EPIPE, errno.ECONNRESET)  # a closed pipe, a socket


class Parser(argparse.ArgumentParser):
    """For commands with files beside flags: flags are written out, a path's leading ~ is the home folder (shells leave
    it alone behind a flag's =), errors are one line."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.register("type", pathlib.Path, _path)  # of every argument with this type

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {one_line(message)}; see --help")


def _path(text: str) -> pathlib.Path:
    try:
        return expand(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def prepare() -> None:
    """For a command, before anything is printed. Where stdout or stderr is not the process's own, nothing changes.

    A reader that goes (`| head`) ends the printing and not the command; other failures, a full disk, are still raised.
    """
    _open_closed()
    codecs.register_error(_ERRORS, _replace)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when the process started
            setattr(sys, name, open(os.devnull, "w", errors=_ERRORS))  # noqa: SIM115  (for as long as the process lives)
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _patient(stream))


class _Patient(io.FileIO):
    """A descriptor that leads nowhere once nobody reads it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS and not (error.errno == errno.EIO and self._is_device()):
                error.filename = {1: "standard output", 2: "standard error"}.get(self.fileno())
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)

    def _is_device(self) -> bool:
        """As a terminal is, of which EIO says that it is gone; of a file it says that the disk is broken."""
        return stat.S_ISCHR(os.fstat(self.fileno()).st_mode)


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream to the same descriptor, buffered alike."""
    stream.flush()
    raw = _Patient(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(raw),  # raw: python -u
        encoding=stream.encoding,
        errors=_ERRORS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file's name as they are, a sign that has a plain form in that, others by their number."""
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end]
    try:
        return part.encode("ascii", "surrogateescape"), error.end
    except UnicodeEncodeError:
        plain = "".join(_PLAIN.get(letter, letter) for letter in part)
        return plain.encode("ascii", "backslashreplace").decode(), error.end


def _open_closed() -> None:
    """Open what is closed of stdin, stdout and stderr, or the next file that is opened takes its place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
