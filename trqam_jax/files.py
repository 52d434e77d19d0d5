"""Files that survive crashes, full disks and other processes: atomic writes, digests, locks. Imports no JAX."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from trqam_jax import heartbeat
from trqam_jax.errors import UserError


def way_out(number: int | None) -> str:
    """What to do about a write that failed with this errno, at the end of an error message."""
    full = number in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"what was written before is intact; {'make room' if full else 'mend that'} and start the same command again"


def expand(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path with a home folder in place of a leading ~; a UserError where there is none, as in some containers."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise UserError(f"{path}: there is no such home folder here; set HOME, or give a full path")
    return pathlib.Path(expanded)


def sync(path: pathlib.Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(temporary: Mapping[pathlib.Path, pathlib.Path]) -> None:
    """Bring files to the disk, then rename them. temporary: {final path: where the file is now}, in one folder each."""
    for file in temporary.values():
        sync(file)
    for path, file in temporary.items():
        file.replace(path)
    for folder in {path.parent for path in temporary}:
        sync(folder)


@contextlib.contextmanager
def replacing(paths: Iterable[pathlib.Path], ending: str = ".tmp") -> Iterator[dict[pathlib.Path, pathlib.Path]]:
    """Yields {path: temporary path to write to}. The files get their names when the block ends, none if it raises.

    ending: of the temporary names. What has such a name afterwards was left by a process that was killed.
    """
    paths = list(paths)
    for path in paths:
        if path.name in ("", ".."):
            raise UserError(f"{str(path)!r}: names no file, expected a path that ends in a file's name")
    temporary = {path: path.with_name(path.name + ending) for path in paths}
    try:
        yield temporary
        commit(temporary)
    finally:
        for file in temporary.values():
            file.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Atomically: whatever happens, the file has its old content or the new one. UserError if it cannot be written."""
    with _naming(path), replacing([path]) as temporary:
        temporary[path].write_text(text, encoding="utf-8", newline="")


def write_json(path: pathlib.Path, content: Any) -> None:
    """Atomically, with sorted keys. UserError if it cannot be written."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def append(path: pathlib.Path, data: bytes) -> None:
    """All of `data` is on the disk when this returns, or none of it is in the file: then it raises a UserError."""
    with _naming(path), path.open("ab", buffering=0) as file:
        size = path.stat().st_size
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)  # half a row would break every reader
            raise


def read_bytes(path: pathlib.Path) -> bytes:
    """A file's content; a UserError that names it where the disk does not give it, of which the system's error may not
    say."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); start the same command again") from error


def read_json(path: pathlib.Path, keys: Iterable[str] = ()) -> dict[str, Any]:
    """An object with at least these keys; a UserError if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: missing or damaged ({error})") from error
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else ["object"]
    if missing:
        raise UserError(f"{path}: damaged, it has no {', '.join(missing)}")
    return content


def cache_folder() -> pathlib.Path:
    """Where what can be made or fetched again is kept: $XDG_CACHE_HOME/trqam_jax, or the like in ~/.cache.

    UserError without a home.
    """
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "trqam_jax"


def check_room(folder: pathlib.Path, size: int) -> None:
    """OSError if `size` bytes and a MiB do not fit on the disk, or into the user's quota."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size + 2**20)


def sha256(parts: Iterable[bytes]) -> str:
    """The hex digest of the parts, joined."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def sha256_json(content: Any) -> str:
    """The hex digest of what JSON can hold, whatever the order of its keys."""
    return sha256([json.dumps(content, sort_keys=True).encode()])


def sha256_file(path: pathlib.Path) -> str:
    """The hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


#: Called with the owner of a lock ("pid 7 on host gpu1"). The lock is waited for inside the context that it returns,
#: which decides what a signal does meanwhile; it raises where waiting is not wanted.
Wait = Callable[[str], contextlib.AbstractContextManager[Any]]


@contextlib.contextmanager
def lock(path: pathlib.Path, wait: Wait) -> Iterator[Callable[[], None]]:
    """One process, or thread, at a time. The lock file is made with its folder, and stays.

    The system frees the lock when its process ends, however it ends. Where it does not pass locks on to other hosts, or
    has none (then there is a warning), the holder's signs of life do it. Yields a function that raises a UserError if
    another process has taken the lock all the same.
    """
    descriptor = _open_lock(path)
    try:
        locked = _acquire(descriptor, path, wait)
        while not _is_at(descriptor, path):  # its folder was moved away meanwhile
            os.close(descriptor)
            descriptor = _open_lock(path)
            locked = _acquire(descriptor, path, wait)
        heartbeat.await_silence(path, wait, locked=locked)
        with heartbeat.beating(descriptor, path) as check:
            yield check
    finally:
        os.close(descriptor)


def lock_target(target: pathlib.Path) -> contextlib.AbstractContextManager[Any]:
    """For the one process that makes `target`: others wait, and find it made. The lock is a hidden file beside it."""

    def wait(_: str) -> contextlib.AbstractContextManager[None]:
        # One write, because threads print here: the line and its end in two would mix with another's.
        print(f"{target}: waiting for another process that makes it\n", end="", flush=True)
        return contextlib.nullcontext()

    return lock(target.with_name(f".{target.name}.lock"), wait)


def _open_lock(path: pathlib.Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _acquire(descriptor: int, path: pathlib.Path, wait: Wait) -> bool:
    """False if there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
    except OSError as error:  # not every network file system has locks
        warning = f"no lock ({error.strerror}); let no two processes write there"
        print(f"warning: {path.parent}: {warning}", file=sys.stderr)
        return False
    with wait(owner):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """The system's error names no file where a disk is full: this one does."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); {way_out(error.errno)}") from error
