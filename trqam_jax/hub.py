"""Files of the Hugging Face Hub by name: fetched into huggingface_hub's own cache, and pushed.

Tokens, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE are what huggingface_hub makes of them; it is imported when a name is
used, and not before.
"""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trqam_jax.errors import UserError
from trqam_jax.files import cache_folder

SCHEME = "hub:"
LONGEST_SILENCE = 10.0  # seconds that the hub may take to say what it has
LONGEST_SILENCE_PUSHING = 60.0  # seconds that it may take to keep what it is given
_NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


_OTHERS = re.compile(r"\s*(hub|hf|https?):.*", re.IGNORECASE | re.DOTALL)


def refuse_other_spellings(text: str) -> None:
    """UserError at what is meant as an address on the hub and is spelled otherwise, so that it would be a path."""
    if _OTHERS.fullmatch(text) and not pathlib.Path(text).exists():
        raise UserError(f"{text!r:.120}: no folder, and no name on the hub, which is {SCHEME}owner/name[@revision]")


class Name(NamedTuple):
    """A repository, at a revision."""

    repository: str  # owner/name
    revision: str = ""  # a branch, a tag or a commit; "": the main branch

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Of owner/name or owner/name@revision; UserError if it is neither."""
        match = _NAME.fullmatch(text)
        if match is None or ".." in text:
            raise UserError(f"{text!r:.120}: no name on the hub, expected owner/name or owner/name@revision")
        return cls(match["repository"], match["revision"] or "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit hash, so that the name means the same for good."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def imported_folder(repository: str) -> pathlib.Path:
    """Where this library keeps what it imported from the repository: a folder per commit."""
    return cache_folder() / "policies" / repository.replace("/", "--")


class Snapshot(NamedTuple):
    """Files of a repository at one commit, in huggingface_hub's cache."""

    folder: pathlib.Path
    name: Name  # pinned


def fetch(name: Name, patterns: Sequence[str]) -> Snapshot:
    """The repository's files that match one of the patterns, downloaded unless they are in the cache.

    Nothing is contacted where the revision is a commit hash and its files are there; a cached branch serves where there
    is no network, or the hub is silent. UserError, in one line, where neither the hub nor the cache has them.
    """
    with _explained(name):
        folder = _snapshot(name, list(patterns))
    if not _COMMIT.fullmatch(folder.name):
        raise UserError(f"{SCHEME}{name}: the hub calls its revision {folder.name!r:.80}, expected a commit hash")
    return Snapshot(folder, name._replace(revision=folder.name))


def _snapshot(name: Name, patterns: list[str]) -> pathlib.Path:
    from huggingface_hub import HfApi, errors, snapshot_download

    revision = name.revision or None

    def get(*, local_files_only: bool) -> pathlib.Path:
        options = {"allow_patterns": patterns, "local_files_only": local_files_only}
        return pathlib.Path(snapshot_download(name.repository, revision=revision, **options))

    if name.is_pinned:
        with contextlib.suppress(errors.LocalEntryNotFoundError):
            folder = get(local_files_only=True)
            if all(any(folder.glob(pattern)) for pattern in patterns):
                return folder
    try:  # snapshot_download itself would wait for ever for a silent hub, and ask a missing one six times
        HfApi().repo_info(name.repository, revision=revision, timeout=LONGEST_SILENCE)
    except errors.RevisionNotFoundError:
        raise
    except (_client_error(), OSError) as error:
        try:
            return get(local_files_only=True)
        except errors.LocalEntryNotFoundError:
            raise error from None
    return get(local_files_only=False)


def push(folder: pathlib.Path, repository: str, files: Sequence[str], *, private: bool = False) -> tuple[str, Name]:
    """Upload these files of the folder into a model repository, which is made if there is none.

    Returns the repository's address and its name at the new commit. UserError, in one line, where the hub refuses or is
    silent.
    """
    from huggingface_hub import HfApi

    name, api = Name.parse(repository), HfApi()
    if name.revision:
        raise UserError(f"{repository}: expected owner/name to push to, without a revision")
    with _explained(name), _patience(LONGEST_SILENCE_PUSHING):
        url = api.create_repo(name.repository, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name.repository, folder_path=folder, allow_patterns=list(files), commit_message="Upload a policy"
        )
    return str(url), name._replace(revision=commit.oid)


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Requests of huggingface_hub's that name no time wait so long for an answer inside; else they wait for ever."""
    from huggingface_hub import get_session

    client = get_session()
    before = client.timeout
    client.timeout = seconds
    try:
        yield
    finally:
        client.timeout = before


@contextlib.contextmanager
def _explained(name: Name) -> Iterator[None]:
    """What huggingface_hub raises as a UserError of one line, with the way out."""
    from huggingface_hub import errors

    # Threads whose client was closed meanwhile raise a RuntimeError.
    try:
        yield
    except (_client_error(), OSError, RuntimeError, errors.HFValidationError, errors.EntryNotFoundError) as error:
        raise UserError(f"{SCHEME}{name}: {_reason(error, name)}") from error


def _client_error() -> type[Exception]:
    """The base of all errors of the HTTP library, which differs by huggingface_hub's version."""
    from huggingface_hub import errors

    return errors.HfHubHTTPError.__bases__[0]


def _reason(error: BaseException, name: Name) -> str:
    from huggingface_hub import errors

    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # why the hub was not asked, or did not answer
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        return "is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset it, or bring the cache (HF_HOME)"
    if isinstance(error, errors.GatedRepoError):
        return "is gated; accept its terms on its page, then log in by `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {name.revision!r}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one; check the name, and log in by `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(error.response.status_code)
    if isinstance(error, errors.EntryNotFoundError):
        return "a file is no longer there; name another revision"
    reason = _first_line(error)
    if isinstance(error, errors.HFValidationError):
        return reason
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the cache'}: {error.strerror}"
    return f"the hub cannot be reached ({reason}); check the network and HF_ENDPOINT, or bring the cache (HF_HOME)"


def _of_status(status: int) -> str:
    if status == 429:
        return "the hub limits how often it answers (status 429); wait some minutes, or log in by `hf auth login`"
    if status in (401, 403):
        return (
            f"the hub refuses (status {status}); log in by `hf auth login`, or set HF_TOKEN to a token that may do it"
        )
    return f"the hub answers with status {status}; try again later"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.partition("\n")[0][:200]
