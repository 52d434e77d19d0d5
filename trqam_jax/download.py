"""Files that are published somewhere: announced, fetched a few at a time, checked, locked. Imports no JAX.

NAME appears whole, after its size and its content were right, or not at all; until then there is NAME.part, which the
next try goes on with. NAME.sha256 records, for `sha256sum -c` as well, what came. Other processes wait for the one that
fetches a file, and find it there. trqam_jax/places.py says what a place is.
"""

import contextlib
import errno
import os
import pathlib
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from trqam_jax import places
from trqam_jax.errors import UserError, start_thread
from trqam_jax.files import commit, lock_target, sha256_file
from trqam_jax.places import Connection, Known, Patience, PlaceError

MIRRORS_VARIABLE = "TRQAM_JAX_MIRRORS"
AT_ONCE = 4  # files
PATIENCE = Patience()

Damage = Callable[[pathlib.Path], str | None]  # why a file is not intact; None if it is
Item = TypeVar("Item")
Result = TypeVar("Result")


class DownloadError(UserError):
    """A file could not be downloaded, or is not what was downloaded."""


class RemoteFile(NamedTuple):
    """A file and where it can be had. Size and digest, where they are known, hold for all of its places."""

    name: str  # below the folder where it is kept
    places: tuple[str, ...]  # in the order in which they are tried
    size: int | None = None  # bytes
    sha256: str | None = None


def mirrors(given: Iterable[str] = ()) -> list[str]:
    """`given`, then those of the environment variable: what files lie below. UserError if one is none."""
    urls = [*given, *os.environ.get(MIRRORS_VARIABLE, "").split()]
    for url in urls:
        if not places.PLACE.fullmatch(url):
            raise UserError(f"mirror {url!r}: expected a URL that begins with http://, https:// or hf://")
    return list(dict.fromkeys(url.rstrip("/") for url in urls))


def fetch(folder: pathlib.Path, file: RemoteFile, **options: Any) -> pathlib.Path:
    """Where the file is, after it was downloaded if it was missing. options, errors: those of `fetch_all`."""
    fetch_all(folder, [file], **options)
    return folder / file.name


def fetch_all(
    folder: pathlib.Path,
    files: Sequence[RemoteFile],
    *,
    damage: Damage = lambda _: None,
    patience: Patience | None = None,
    confirm: Callable[[], bool] = lambda: True,
) -> dict[pathlib.Path, bool]:
    """Get what is missing of the files: {path: whether it was downloaded}. Contacts nobody if nothing is missing.

    One line says first what, how much, from where, and how much room there is; `confirm` is called after it. A place
    that fails is named, and the next is tried. DownloadError if there is no room, or if a file comes from nowhere.
    """
    done = {folder / file.name: False for file in files}
    missing = [file for file in files if not (folder / file.name).exists()]
    if missing:
        job = _Job(folder, patience or PATIENCE, damage)
        try:
            sizes = dict(job.each(job.size_of, missing))
            job.announce(missing, sizes)
            if not confirm():
                raise DownloadError(f"{folder}: {len(missing)} files are missing, and were not to be downloaded")
            with job.shown(sizes):
                done.update(job.each(job.get, missing))
        finally:
            job.connection.stop.set()
            job.connection.session.close()
    return done


def companions(target: pathlib.Path) -> list[pathlib.Path]:
    """The files that may lie beside a downloaded one because of it."""
    part = _part(target)
    return [part, places.note_of(part), _checksum_file(target), target.with_name(f".{target.name}.lock")]


def verify(target: pathlib.Path, damage: Damage) -> bool:
    """Whether the intact file has a recorded checksum. DownloadError if it is missing, damaged or not as recorded."""
    if not target.exists():
        raise DownloadError(f"{target}: no such file; download it first")
    way_out = "remove it and download it again"
    if reason := damage(target):
        raise DownloadError(f"{target}: damaged ({reason}); {way_out}")
    if not _checksum_file(target).exists():
        return False
    recorded, found = " ".join(_checksum_file(target).read_text().split()[:1]), sha256_file(target)
    if found != recorded:
        raise DownloadError(f"{target}: has sha256 {found}, at download it had {recorded or 'none'}; {way_out}")
    return True


def amount(size: float) -> str:
    """Bytes as people read them: 13.4GB."""
    from tqdm import tqdm

    return tqdm.format_sizeof(size, "B")


class _Job:
    """One `fetch_all`: what its threads share."""

    def __init__(self, folder: pathlib.Path, patience: Patience, damage: Damage):
        self.folder, self.damage = folder, damage
        self.connection = Connection(patience, self.progress, self.complain)
        self.failed: dict[str, dict[str, str]] = {}  # {file: {place: why}}
        self._lock, self._bar = threading.Lock(), None

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """The function's results, as they come; the first error stops all.

        The threads end with the process, so that Ctrl-C waits for none of them.
        """
        todo, done = queue.SimpleQueue(), queue.SimpleQueue()
        for item in items:
            todo.put(item)

        def work() -> None:
            with contextlib.suppress(queue.Empty):
                while not self.connection.stop.is_set():
                    item = todo.get_nowait()
                    try:
                        done.put((function(item), None))
                    except BaseException as error:  # raised again below
                        done.put((None, error))

        for _ in range(min(AT_ONCE, len(items))):
            start_thread(threading.Thread(target=work, daemon=True))
        for _ in items:
            result, error = done.get()
            if error is not None:
                self.connection.stop.set()
                raise error
            yield result

    def size_of(self, file: RemoteFile) -> tuple[RemoteFile, int | None]:
        """The file and how many bytes are to come; None if no place says."""
        have, known = places.resumable(_part(self.folder / file.name))
        total = file.size or (known and known.total)
        total = total or self._first_place(file, lambda place: places.ask_size(self.connection, place))
        return file, None if total is None else max(total - have, 0)

    def announce(self, files: Sequence[RemoteFile], sizes: dict[RemoteFile, int | None]) -> None:
        """The line before anything is fetched; DownloadError if there is no room for it."""
        known = [size for size in sizes.values() if size is not None]
        sizes_text = [amount(sum(known))] * bool(known)
        sizes_text += [f"{len(files) - len(known)} of unknown size"] * (len(known) < len(files))
        origins = dict.fromkeys(self._untried(file)[0].rpartition("/")[0] for file in files)
        absolute = self.folder.absolute()
        free = shutil.disk_usage(next(path for path in (absolute, *absolute.parents) if path.exists())).free
        names = files[0].name if len(files) == 1 else f"{len(files)} files ({files[0].name}, ...)"
        print(
            f"downloading {names}: {', '.join(sizes_text)}, from {', '.join(origins)} into {self.folder}, where "
            f"{amount(free)} are free",
            flush=True,
        )
        if sum(known) > free:
            raise DownloadError(
                f"{self.folder}: {amount(sum(known))} are to be downloaded, its disk has {amount(free)} left; make "
                "room, or keep the files elsewhere"
            )

    def get(self, file: RemoteFile) -> tuple[pathlib.Path, bool]:
        """Its path, and whether it had to be downloaded."""
        target = self.folder / file.name
        part = _part(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with lock_target(target):
                if came := not target.exists():  # else got by the process that had the lock
                    self._first_place(
                        file, lambda place: places.download(self.connection, place, part, self._check_of(file))
                    )
                    # First what it is, and then its name, once all is on the disk.
                    _checksum_file(target).write_text(f"{sha256_file(part)}  {target.name}\n")
                    commit({target: part})
                    places.note_of(part).unlink(missing_ok=True)
        except OSError as error:  # of this machine; those of the network became PlaceErrors
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise DownloadError(f"{target}: {'the disk is full' if full else error}; {_kept(part)}") from error
        self._say(f"{target}: {target.stat().st_size:,} bytes, {'downloaded' if came else 'was there already'}")
        return target, came

    def _check_of(self, file: RemoteFile) -> Callable[[pathlib.Path, Known], str | None]:
        def check(part: pathlib.Path, known: Known) -> str | None:
            if file.size not in (None, part.stat().st_size):
                return f"expected {file.size:,}"
            if reason := self.damage(part):
                return f"no intact {pathlib.Path(file.name).suffix.removeprefix('.') or 'file'} ({reason})"
            for expected in (file.sha256, known.sha256):
                if expected and (found := sha256_file(part)) != expected:
                    return f"with sha256 {found}, expected {expected}"
            return None

        return check

    def _first_place(self, file: RemoteFile, attempt: Callable[[str], Result]) -> Result:
        """The attempt's result at the first place where it succeeds. DownloadError if there is none."""
        failed = self.failed.setdefault(file.name, {})
        for place in self._untried(file):
            try:
                return attempt(place)
            except PlaceError as error:
                failed[place] = str(error)
                if not error.told and (others := self._untried(file)):
                    self.complain(f"{place}: {error}; trying {others[0]}")
        target = self.folder / file.name
        reasons = "; ".join(f"{place}: {reason}" for place, reason in failed.items())
        raise DownloadError(
            f"{target}: not downloaded ({reasons}); {_kept(_part(target))}; {MIRRORS_VARIABLE}='URL ...' names other "
            "servers"
        )

    def _untried(self, file: RemoteFile) -> list[str]:
        return [place for place in file.places if place not in self.failed.get(file.name, {})]

    @contextlib.contextmanager
    def shown(self, sizes: dict[RemoteFile, int | None]) -> Iterator[None]:
        """In here one bar shows the bytes of all files, on a terminal."""
        from tqdm import tqdm

        known = [size for size in sizes.values() if size is not None]
        total = sum(known) if len(known) == len(sizes) else None
        with tqdm(total=total, unit="B", unit_scale=True, disable=None) as self._bar:
            yield

    def progress(self, size: int) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.update(size)

    def complain(self, line: str) -> None:
        self._say(line, sys.stderr)

    def _say(self, line: str, file: Any = None) -> None:
        """Beside the bar."""
        from tqdm import tqdm

        with self._lock:
            tqdm.write(line, file or sys.stdout)


def _part(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f"{target.name}.part")


def _checksum_file(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f"{target.name}.sha256")


def _kept(part: pathlib.Path) -> str:
    size = places.resumable(part)[0]
    return f"the first {size:,} bytes are kept in {part.name}, the next try resumes" if size else "nothing is kept"
