"""One process at a time in a folder. The system lets go of a lock when its process ends, however it ends."""

import contextlib
import fcntl
import os
import pathlib
import platform
import sys
from collections.abc import Iterator

from experiments.training import interrupt
from trqam_jax.errors import UserError

NAME = "lock"


@contextlib.contextmanager
def held(folder: pathlib.Path, *, wait: bool) -> Iterator[None]:
    """The folder, made if it is not there, for this process alone. If another one has it: wait for that, or a
    UserError that says who."""
    descriptor = _open(folder)
    try:
        _lock(descriptor, folder, wait)
        while not _is_at(descriptor, folder / NAME):  # it was moved away while we waited
            os.close(descriptor)
            descriptor = _open(folder)
            _lock(descriptor, folder, wait)
        with contextlib.suppress(OSError):  # a full disk: the text is for people alone
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on host {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(folder: pathlib.Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, folder: pathlib.Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        owner = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
    except OSError as error:  # not every network file system has locks
        print(f"warning: {folder}: no lock ({error.strerror}); let no two processes write there", file=sys.stderr)
        return
    if not wait:
        raise UserError(f"{folder}: is being written by {owner}; wait until it ends, or choose another --group")
    print(f"waiting for {owner}, which writes {folder}", flush=True)
    with interrupt.at_once():
        fcntl.flock(descriptor, fcntl.LOCK_EX)
