"""Signs of life in a lock file, for hosts that share a folder but not its locks. Imports no JAX.

Not every network file system passes locks on from host to host, and none tells a host that lost its power from one that
is busy. So who holds a lock writes its name into the file, touches it every few seconds, and empties it in the end. Who
finds another host's name there waits whether the file is touched.
"""

import contextlib
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from trqam_jax.errors import UserError, start_thread

BEAT = 5.0  # seconds between two signs of life
SILENCE = 16.0  # seconds without one after which a host is taken for dead


def own_name() -> str:
    """As a lock file has it: pid 7 on host gpu1."""
    return f"pid {os.getpid()} on host {platform.node()}"


def owner(path: pathlib.Path) -> str:
    """The name in the file; "" if it has none."""
    return _text(path).strip()


def _text(path: pathlib.Path) -> str:
    """Opened anew, because a network file system looks for news then."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200]
    except FileNotFoundError:
        return ""


def await_silence(
    path: pathlib.Path, wait: Callable[[str], contextlib.AbstractContextManager[Any]], *, locked: bool
) -> None:
    """Return once nobody who is named in the file gives a sign of life.

    locked: whether the system granted a lock on the file; then only names of other hosts count. The rest of the wait
    for one that does live is inside wait(its name), which raises where waiting is not wanted.
    """
    name = owner(path)
    if not name or (locked and name.endswith(f" on host {platform.node()}")):
        return
    print(f"{path}: {name} has left its name; going on if it is silent for {SILENCE:g} s", flush=True)
    with contextlib.ExitStack() as stack:
        seen, since, alive = _sign(path), time.monotonic(), False
        while time.monotonic() < since + SILENCE and owner(path):
            time.sleep(BEAT / 10)
            if _sign(path) != seen:
                seen, since = _sign(path), time.monotonic()
                if not alive:
                    stack.enter_context(wait(owner(path) or name))
                alive = True


def _sign(path: pathlib.Path) -> tuple[str, int]:
    name = owner(path)
    with contextlib.suppress(FileNotFoundError):
        return name, path.stat().st_mtime_ns
    return name, 0


@contextlib.contextmanager
def beating(descriptor: int, path: pathlib.Path) -> Iterator[Callable[[], None]]:
    """In here the file, which is open, has this process's name and is touched.

    Yields a function that raises a UserError if another process has written its own name over it.
    """
    text, end = f"{own_name()}\n", threading.Event()  # with its end, because another's name may begin like it

    def check() -> None:
        if not text.startswith(_text(path)):  # a full disk may have taken a part of it, or nothing
            raise UserError(
                f"{path.parent}: {owner(path)} writes here, too, because this file system does not pass locks on; this "
                "process stops. Let no two processes write there"
            )

    def touch() -> None:
        while not end.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(descriptor)

    beat = threading.Thread(target=touch, daemon=True)
    start_thread(beat)
    _write(descriptor, text)
    try:
        yield check
    finally:
        end.set()
        beat.join()
        if _text(path) and text.startswith(_text(path)):
            _write(descriptor, "")


def _write(descriptor: int, text: str) -> None:
    # A full disk: then the lock alone has to do. A file object writes again what the system takes only in parts.
    with contextlib.suppress(OSError), open(descriptor, "wb", closefd=False) as file:
        file.truncate(0)
        file.seek(0)
        file.write(text.encode())
