"""Where files can be had: web servers, and the Hugging Face Hub. One file from one place, resumed. Imports no JAX.

A place is a URL, http:// or https://, or hf://datasets/OWNER/REPO/PATH, of a model hf://OWNER/REPO/PATH. Of the latter
huggingface_hub says the URL and the token, so that HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what they always do;
the bytes come as those of any server, because its own download begins a file anew after a failure.

PART holds the beginning of a file until it is whole, PART.json what the server said of the whole.
"""

import contextlib
import json
import os
import pathlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from trqam_jax.errors import UserError

if TYPE_CHECKING:
    import requests

BLOCK = 2**20  # bytes per read
LONGEST_WAIT = 300  # seconds that a server's Retry-After is obeyed
PLACE = re.compile(r"https?://[^/].*|hf://(?:(dataset)s/)?([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?")
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses


class PlaceError(Exception):
    """A place does not have the file. again: another attempt may help; restart: what has come so far is of no use;
    told: it was said before, of another file."""

    def __init__(self, reason: str, *, again: bool = False, restart: bool = False, told: bool = False):
        super().__init__(reason)
        self.again, self.restart, self.told = again, restart, told


class Stopped(Exception):
    """`Connection.stop` was set."""


class Patience(NamedTuple):
    """How long to try one place before the next."""

    connect: float = 10.0  # seconds until a server must have answered the call
    silence: float = 30.0  # seconds without a single byte
    attempts: int = 5  # in a row without a byte more
    backoff: float = 1.0  # seconds before another attempt, doubled with each further one


class Known(NamedTuple):
    """What a server said of a whole file."""

    validator: str | None  # what If-Range may carry: a strong ETag, or else the date
    total: int | None  # bytes
    sha256: str | None  # as the Hub has it


class Connection:
    """What threads that download share. progress: called with the bytes that came, less those that were dropped; say:
    with a line on what went wrong."""

    def __init__(self, patience: Patience, progress: Callable[[int], Any], say: Callable[[str], Any]):
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self.patience, self.progress, self.say = patience, progress, say
        self.stop = threading.Event()
        self.unreachable: set[str] = set()  # hosts
        # Statuses that may pass are urllib3's business, and so is what the server says of when. What breaks off is
        # `download`'s, which keeps what has come; a host that does not take calls is left for the next place.
        options = {"connect": 0, "other": 0, "read": False, "status": patience.attempts - 1}
        retry = Retry(
            None, **options, status_forcelist=_MAY_PASS, raise_on_status=False, backoff_factor=patience.backoff
        )
        retry.retry_after_max = LONGEST_WAIT
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))


def ask_size(connection: Connection, place: str) -> int | None:
    """Bytes; None if the place does not say. PlaceError if it does not have the file, or cannot be reached."""
    try:
        with _answer(connection, "HEAD", place, {}) as response:
            if linked := _linked(response, "X-Linked-Size"):
                return int(linked)
            if response.status_code in (404, 410, *_MAY_PASS):
                raise PlaceError(_status(response))
            return _length(response) if response.ok else None
    except PlaceError as error:
        if error.again:  # it broke off: the download will see
            return None
        raise


def download(
    connection: Connection, place: str, part: pathlib.Path, check: Callable[[pathlib.Path, Known], str | None]
) -> None:
    """Make `part` a whole file, going on with what it has. PlaceError if that fails.

    check(part, what the server said): what is wrong with the whole file, None if nothing is.
    """
    idle, furthest = 0, _size(part)
    while True:
        try:
            return _attempt(connection, place, part, check)
        except PlaceError as error:
            reached = _size(part)
            if error.restart:
                connection.progress(-reached)
                for path in (part, note_of(part)):
                    path.unlink(missing_ok=True)
            if not error.again:
                raise
            idle = 0 if reached > furthest else idle + 1
            furthest = max(furthest, reached)
            if idle >= connection.patience.attempts:
                raise PlaceError(f"{error}, {idle} times in a row") from error
            if not connection.stop.is_set():
                connection.say(f"{place}: {error}; trying again")
            if connection.stop.wait(connection.patience.backoff * 2**idle):
                raise Stopped from error


def resumable(part: pathlib.Path) -> tuple[int, Known | None]:
    """How many bytes can be kept, and what is known of the whole; 0 and None to begin anew."""
    try:
        known, size = Known(**json.loads(note_of(part).read_text())), _size(part)
    except (OSError, ValueError, TypeError):
        return 0, None
    return (size, known) if size and known.validator and size <= (known.total or 0) else (0, None)


def note_of(part: pathlib.Path) -> pathlib.Path:
    """Where what the server said is kept."""
    return part.with_name(f"{part.name}.json")


def list_hub(repository: str) -> list[str]:
    """The paths of all files in hf://datasets/OWNER/REPO, sorted. PlaceError if the Hub does not say."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    kind, name, revision, _ = _parse_hub(repository)
    try:
        # One question, for some seconds: list_repo_files asks a missing Hub six times, and a silent one for ever.
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        ask = api.dataset_info if kind else api.model_info
        info = ask(name, revision=revision, timeout=Patience().connect)
        return sorted(file.rfilename for file in info.siblings or ())
    except (HTTPError, OSError, ValueError) as error:
        raise PlaceError(_one_line(error)) from error


def _attempt(
    connection: Connection, place: str, part: pathlib.Path, check: Callable[[pathlib.Path, Known], str | None]
) -> None:
    """One request for what `part` lacks, then the checks of the whole."""
    have, known = resumable(part)
    if known is None or have != known.total:  # else it ended between the last byte and the checks
        have, known = _transfer(connection, place, part, have, known)
    size = _size(part)
    if size != (known.total or size):
        raise PlaceError(f"{size:,} bytes arrived of {known.total:,}", again=True)
    if reason := check(part, known):
        # Bytes of an earlier attempt may be to blame: then once more from zero.
        raise PlaceError(f"{size:,} bytes arrived, {reason}", again=have > 0, restart=True)


def _transfer(
    connection: Connection, place: str, part: pathlib.Path, have: int, known: Known | None
) -> tuple[int, Known]:
    """Append what the server sends. Returns the bytes that were kept, and what is known of the whole."""
    rest = {"Range": f"bytes={have}-", "If-Range": str(known.validator)} if known else {}
    with _answer(connection, "GET", place, rest) as response:
        if known and response.status_code == 206:
            _check_continues(response, have, known)
        elif response.status_code == 200:  # the whole file: at first, if ranges are ignored, or if it is another by now
            connection.progress(-have)
            have, known = 0, Known(_validator(response), _length(response), _linked_sha256(response))
        else:
            outgrown = known is not None and response.status_code == 416  # the server's ends before what is here
            raise PlaceError(_status(response), again=outgrown, restart=outgrown)
        with part.open("ab" if have else "wb") as output:
            if not have:
                note_of(part).write_text(json.dumps(known._asdict()))
            while block := response.raw.read1(BLOCK):  # waits for some bytes, so that the timeout means silence
                if connection.stop.is_set():
                    raise Stopped
                output.write(block)
                connection.progress(len(block))
    return have, known


@contextlib.contextmanager
def _answer(connection: Connection, method: str, place: str, headers: dict[str, str]) -> Iterator["requests.Response"]:
    """The answer, its body unread; what the network does to it, also while it is read, is a PlaceError."""
    import requests
    import urllib3

    url, own = _address(place)
    host = url.split("/")[2]
    if host in connection.unreachable:
        raise PlaceError(f"{host} could not be reached before", told=True)
    headers = {**own, **headers, "Accept-Encoding": "identity"}
    options = {"headers": headers, "stream": True, "timeout": connection.patience[:2], "allow_redirects": True}
    try:
        with connection.session.request(method, url, **options) as response:
            yield response
    except (requests.TooManyRedirects, ValueError) as error:  # the latter of what is no URL
        raise PlaceError(_one_line(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        cause = error.args[0] if error.args else error
        if isinstance(cause, urllib3.exceptions.MaxRetryError):  # of calls: nothing else ends urllib3's attempts so
            connection.unreachable.add(host)
            raise PlaceError(f"cannot be reached ({_one_line(cause.reason or cause)})") from error
        silent = isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError))
        raise PlaceError(
            f"silent for {connection.patience.silence:g} s" if silent else _one_line(error), again=True
        ) from error


def _address(place: str) -> tuple[str, dict[str, str]]:
    """The URL of a place, and the headers that belong to it. requests takes no token along to another host."""
    if not place.startswith("hf://"):
        return place, {"User-Agent": "trqam_jax"}
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE:
        raise PlaceError("HF_HUB_OFFLINE is set")
    kind, name, revision, path = _parse_hub(place)
    url = hf_hub_url(name, path, repo_type=kind, revision=revision, endpoint=os.environ.get("HF_ENDPOINT"))
    return url, build_hf_headers(library_name="trqam_jax")


def _parse_hub(place: str) -> tuple[str | None, str, str | None, str]:
    """Kind ("dataset", None of a model), repository, revision and path."""
    match = PLACE.fullmatch(place)
    if match is None or not match[2]:
        raise UserError(f"{place}: expected hf://datasets/OWNER/REPO/PATH, of a model hf://OWNER/REPO/PATH")
    return match[1], match[2], match[3], match[4] or ""


def _check_continues(response: "requests.Response", have: int, known: Known) -> None:
    """PlaceError unless a 206 carries all the rest of the file that was begun."""
    if _validator(response) not in (None, known.validator):  # a server that ignores If-Range
        raise PlaceError("the file changed", again=True, restart=True)
    found, expected = response.headers.get("Content-Range"), f"bytes {have}-{(known.total or 0) - 1}/{known.total}"
    if found != expected:
        raise PlaceError(f"answered with Content-Range {found!r}, expected {expected!r}")


def _validator(response: "requests.Response") -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _length(response: "requests.Response") -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _linked(response: "requests.Response", header: str) -> str | None:
    """What the Hub says of a file before it sends on to where the bytes lie."""
    found = (one.headers.get(header) for one in (*response.history, response))
    return next((text for text in found if text), None)


def _linked_sha256(response: "requests.Response") -> str | None:
    digest = (_linked(response, "X-Linked-Etag") or "").strip('"')
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else None


def _status(response: "requests.Response") -> str:
    """For example HTTP 404 Not Found; the Hub says more in a header."""
    said = response.headers.get("X-Error-Message") or response.reason or ""
    return " ".join(f"HTTP {response.status_code} {said}".split())


def _one_line(error: BaseException) -> str:
    """What an error says in the end: urllib3 begins with objects and their addresses."""
    text = str(error.args[-1] if error.args else error) or type(error).__name__
    return " ".join(re.sub(r"^(<[^>]*>|HTTPS?Connection\([^)]*\)): ", "", text).split())


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0
