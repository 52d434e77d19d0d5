"""Files over HTTP, for every suite: resumed, checked, locked against other processes, from several mirrors.

NAME appears whole, after its size and its content were right, or not at all. Until then NAME.part holds the beginning
and NAME.part.json what the server said of the whole. Where nobody publishes checksums, NAME.sha256 records, for
`sha256sum -c` as well, what was downloaded. What "right" means is the suite's own check of a file.
"""

import argparse
import errno
import http.client
import itertools
import json
import os
import pathlib
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from envs.base import Parser
from trqam_jax.errors import UserError
from trqam_jax.files import commit, lock_target, sha256_file

MIRRORS_VARIABLE = "TRQAM_JAX_MIRRORS"
BLOCK = 2**20  # bytes per read

Damage = Callable[[pathlib.Path], str | None]  # why a file is not intact; None if it is
Names = Callable[[argparse.Namespace], list[str]]  # of files, relative to the data folder and to every server alike
Servers = Callable[[argparse.Namespace], list[str]]  # base URLs in the order in which they are tried


class DownloadError(UserError):
    """A file could not be downloaded, or is not what was downloaded."""


class Patience(NamedTuple):
    """How long to try one mirror before the next."""

    timeout: float = 30.0  # seconds without a single byte
    attempts: int = 5
    backoff: float = 1.0  # seconds before the second attempt, doubled before each further one


PATIENCE = Patience()


class _Failed(Exception):
    """An attempt failed. again: trying this mirror again may help; restart: what has come so far is of no use."""

    def __init__(self, reason: str, *, again: bool, restart: bool = False):
        super().__init__(reason)
        self.again, self.restart = again, restart


class _Known(NamedTuple):
    """What a server said of a whole file."""

    url: str
    etag: str | None
    last_modified: str | None
    total: int | None  # bytes

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, or else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


def base_urls(mirrors: Iterable[str], own: Iterable[str]) -> list[str]:
    """`mirrors`, then those of the environment variable, then the suite's own; UserError if one is no URL."""
    urls = [*mirrors, *os.environ.get(MIRRORS_VARIABLE, "").split()]
    for url in urls:
        if not re.match(r"https?://[^/]", url):
            raise UserError(f"mirror {url!r}: expected a URL that begins with http:// or https://")
    return list(dict.fromkeys(url.rstrip("/") for url in (*urls, *own)))


def fetch_all(
    folder: pathlib.Path, names: Iterable[str], servers: Sequence[str], patience: Patience, damage: Damage
) -> dict[pathlib.Path, bool]:
    """Get what is missing of the files: {path: whether it had to be downloaded}. DownloadError if it fails."""
    return {
        folder / name: fetch(folder / name, [f"{server}/{name}" for server in servers], patience, damage)
        for name in names
    }


def fetch(target: pathlib.Path, urls: Sequence[str], patience: Patience, damage: Damage) -> bool:
    """Get one file from the first of `urls` that delivers it intact. Returns whether it had to be downloaded."""
    if target.exists():
        return False
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock_target(target):
            if target.exists():  # got by the process that had the lock
                return False
            _fill(part, urls, patience, damage)
            _finish(part, target)
    except OSError as error:  # of this machine; those of the network became _Failed
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DownloadError(f"{target}: {'the disk is full' if full else error}; {_kept(part)}") from error
    return True


def verify(path: pathlib.Path, damage: Damage) -> bool:
    """Whether the intact file has a recorded checksum. DownloadError if it is missing, damaged or not as recorded."""
    if not path.exists():
        raise DownloadError(f"{path}: no such file; the same command without --verify downloads it")
    way_out = "remove it and download it again"
    if reason := damage(path):
        raise DownloadError(f"{path}: damaged ({reason}); {way_out}")
    if not _checksum_file(path).exists():
        return False
    recorded, found = " ".join(_checksum_file(path).read_text().split()[:1]), sha256_file(path)
    if found != recorded:
        raise DownloadError(f"{path}: has sha256 {found}, at download it had {recorded or 'none'}; {way_out}")
    return True


def _fill(part: pathlib.Path, urls: Sequence[str], patience: Patience, damage: Damage) -> None:
    """Make `part` a whole and intact file, or raise a DownloadError that says of each URL why not."""
    reasons = []
    for url in urls:
        try:
            return _from_mirror(part, url, patience, damage)
        except _Failed as error:
            reasons.append(f"{url}: {error}")
    raise DownloadError(
        f"{part.with_suffix('')}: not downloaded ({'; '.join(reasons)}); {_kept(part)}; "
        f"{MIRRORS_VARIABLE}='URL ...' names other servers"
    )


def _from_mirror(part: pathlib.Path, url: str, patience: Patience, damage: Damage) -> None:
    """Attempts at one URL until `part` is right, or _Failed."""
    for attempt in itertools.count(1):
        try:
            return _attempt(part, url, patience.timeout, damage)
        except _Failed as error:
            if error.restart:
                part.unlink(missing_ok=True)
            if not error.again:
                raise
            if attempt >= patience.attempts:
                raise _Failed(f"{error}, in attempt {attempt} of {attempt}", again=False) from error
            wait = patience.backoff * 2 ** (attempt - 1)
            print(f"{url}: {error}; trying again in {wait:g} s", file=sys.stderr)
            time.sleep(wait)


def _attempt(part: pathlib.Path, url: str, timeout: float, damage: Damage) -> None:
    """One request for what `part` lacks, then the checks of the whole."""
    have, known = _resumable(part)
    if known is None or have != known.total:  # else it ended between the last byte and the checks
        have, known = _transfer(part, url, have, known, timeout)
    size = part.stat().st_size
    if size != (known.total or size):
        raise _Failed(f"{size:,} bytes arrived of {known.total:,}", again=True)
    if reason := damage(part):
        # Bytes of an earlier attempt may be to blame: then once more from zero.
        kind = part.with_suffix("").suffix.removeprefix(".")
        raise _Failed(f"its {size:,} bytes are no intact {kind} ({reason})", again=have > 0, restart=True)


def _transfer(part: pathlib.Path, url: str, have: int, known: _Known | None, timeout: float) -> tuple[int, _Known]:
    """Append what the server sends. Returns the bytes that were kept, and what is known of the whole."""
    from tqdm import tqdm

    headers = {"User-Agent": "trqam_jax"}
    if have and known is not None and known.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.validator}
    with _open(url, headers, timeout) as response:
        if have and known is not None and response.status == 206:
            _check_continues(response.headers, have, known)
        elif response.status == 200:  # the whole file: at first, if ranges are ignored, or if it is another by now
            have = 0
            known = _Known(url, response.headers["ETag"], response.headers["Last-Modified"], response.length)
        else:
            raise _Failed(f"HTTP {response.status}, expected 200{' or 206' if have else ''}", again=False)
        bar = tqdm(desc=part.stem, total=known.total, initial=have, unit="B", unit_scale=True, disable=None)
        with part.open("ab" if have else "wb") as file, bar:
            if not have:
                _note(part).write_text(json.dumps(known._asdict()))
            for block in _blocks(response, timeout):
                file.write(block)
                bar.update(len(block))
    return have, known


def _open(url: str, headers: dict[str, str], timeout: float) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        outgrown = error.code == 416  # the server's file ends before what is here
        again = error.code >= 500 or error.code in (408, 425, 429) or outgrown
        reason = " ".join(str(error.reason).split())  # of a redirect in a circle it has several lines
        raise _Failed(f"HTTP {error.code} {reason}", again=again, restart=outgrown) from error
    except (OSError, http.client.HTTPException) as error:
        broke_off = (TimeoutError, ConnectionResetError, http.client.HTTPException)  # else it cannot be reached
        again = isinstance(getattr(error, "reason", error), broke_off)
        raise _Failed(_describe(error, timeout), again=again) from error


def _check_continues(headers: http.client.HTTPMessage, have: int, known: _Known) -> None:
    """_Failed unless a 206 carries all the rest of the file that was begun."""
    if known.etag and headers["ETag"] not in (None, known.etag):  # a server that ignores If-Range
        raise _Failed("the file changed", again=True, restart=True)
    value = headers["Content-Range"]
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", value or "")
    begin, last, total = map(int, match.groups()) if match else (-1, -1, -1)
    if begin != have or total != (known.total or last + 1) or last + 1 != total:
        expected = f"bytes {have}-{known.total - 1}/{known.total}" if known.total else f"bytes {have}-..."
        raise _Failed(f"answered with Content-Range {value!r}, expected {expected!r}", again=False)


def _blocks(response: http.client.HTTPResponse, timeout: float) -> Iterator[bytes]:
    """The body as it arrives: read1 waits for some bytes, so that the timeout means silence."""
    try:
        while block := response.read1(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, http.client.IncompleteRead) and not response.chunked:
            return  # as on Pythons that end a short body silently; its size tells
        raise _Failed(_describe(error, timeout), again=True) from error


def _describe(error: Exception, timeout: float) -> str:
    reason = getattr(error, "reason", error)
    return f"silent for {timeout:g} s" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__


def _resumable(part: pathlib.Path) -> tuple[int, _Known | None]:
    """How many bytes can be kept, and what is known of the whole; 0 and None to begin anew."""
    try:
        known = _Known(**json.loads(_note(part).read_text()))
        size = part.stat().st_size
    except (OSError, ValueError, TypeError):
        return 0, None
    return (size, known) if known.validator and size <= (known.total or size) else (0, None)


def _kept(part: pathlib.Path) -> str:
    size = _resumable(part)[0]
    return f"the first {size:,} bytes are kept in {part.name}, the next try resumes" if size else "nothing is kept"


def _finish(part: pathlib.Path, target: pathlib.Path) -> None:
    """Record the checksum, and give the file its name once it is on the disk."""
    _checksum_file(target).write_text(f"{sha256_file(part)}  {target.name}\n")
    commit({target: part})
    _note(part).unlink(missing_ok=True)


def _note(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(f"{part.name}.json")


def _checksum_file(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f"{target.name}.sha256")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, not {text}")
    return value


def make_parser(description: str, dataset_dir: str, url: str) -> Parser:
    """The flags that every suite's download has; its own are added to these. url: the suite's own server."""
    parser = Parser(prog="python -m envs.download", description=description)
    parser.add_argument("--dataset_dir", default=dataset_dir, help="where files are kept (default: %(default)s)")
    parser.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help=f"a server with the same file names, tried before those in ${MIRRORS_VARIABLE} (separated by spaces) and "
        f"before {url}; may be repeated",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=PATIENCE.timeout, help="seconds of silence to bear (default: %(default)g)"
    )
    parser.add_argument("--verify", action="store_true", help="download nothing: read all files and compare checksums")
    return parser


def run_command(arguments: argparse.Namespace, names: Names, servers: Servers, damage: Damage) -> None:
    """What the parsed flags ask for. Both functions get them; errors are one line and exit code 1."""
    folder = pathlib.Path(os.path.expanduser(arguments.dataset_dir))
    try:
        wanted = names(arguments)
        if arguments.verify:
            return _verify_all([folder / name for name in wanted], damage)
        patience = PATIENCE._replace(timeout=arguments.timeout)
        for path, is_new in fetch_all(folder, wanted, servers(arguments), patience, damage).items():
            print(f"{path}: {path.stat().st_size:,} bytes, {'downloaded' if is_new else 'was there already'}")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("error: interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)


def _verify_all(paths: Iterable[pathlib.Path], damage: Damage) -> None:
    """One line per file, and exit code 1 if any is not right."""
    wrong = 0
    for path in paths:
        try:
            known = verify(path, damage)
            print(f"{path}: intact, {'sha256 as at download' if known else 'no checksum was recorded'}")
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            wrong += 1
    if wrong:
        sys.exit(1)
