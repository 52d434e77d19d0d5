"""What the suites' `python -m envs.download` share, and how a run gets what it lacks."""

import argparse
import pathlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from envs.base import DataError, ReleasedPolicies
from trqam_jax.console import Parser
from trqam_jax.download import MIRRORS_VARIABLE, PATIENCE, Damage, RemoteFile, companions, fetch_all, mirrors, verify
from trqam_jax.download import amount as in_words
from trqam_jax.errors import UserError
from trqam_jax.files import expand
from trqam_jax.hub import imported_folder


class FileSet(NamedTuple):
    """Files that belong together. The names, below the data folder, are known without asking anybody."""

    title: str
    flags: str  # that choose it
    names: Sequence[str]
    origins: Sequence[str]  # where they are published, mirrors aside
    files: Callable[[Sequence[str]], list[RemoteFile]]  # with their places; called with mirrors; DownloadError
    made: str = ""  # pattern, below the data folder, of folders that are made from them
    size: int | None = None  # bytes, where it is published


def obtain(chosen: FileSet, folder: pathlib.Path, *, download: str, damage: Damage) -> None:
    """Get what is missing of a set for a run, if `download` (auto, never or ask) allows it; else a DataError.

    DownloadError if that fails. Contacts nobody if all is there.
    """
    missing = [name for name in chosen.names if not (folder / name).exists()]
    if not missing:
        return
    if download == "never" or (download == "ask" and not sys.stdin.isatty()):
        asks = " asks on a terminal alone" if download == "ask" else ""
        raise DataError(
            f"{folder / missing[0]}: no such file; of {chosen.title} {len(missing)} of {len(chosen.names)} files are "
            f"missing, and --download={download}{asks}. Get them by "
            f"`python -m envs.download {chosen.flags} --dataset_dir={shlex.quote(str(folder))}`"
        )
    confirm = _asked if download == "ask" else lambda: True
    fetch_all(folder, chosen.files(()), damage=damage, confirm=confirm)


def _asked() -> bool:
    try:
        return input("download? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False


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
        f"before {url}; http://, https:// or hf://datasets/OWNER/REPO; may be repeated",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=PATIENCE.silence, help="seconds of silence to bear (default: %(default)g)"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--verify", action="store_true", help="no network: read all files and compare checksums")
    action.add_argument("--list", action="store_true", help="no network: all sets, their places, and what is here")
    action.add_argument("--remove", action="store_true", help="remove the files, and what was converted from them")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, not {text}")
    return value


def run_command(
    arguments: argparse.Namespace,
    *,
    every: Callable[[str], list[FileSet]],
    chosen: Callable[[argparse.Namespace], FileSet],
    damage: Damage,
) -> None:
    """What the parsed flags ask for; errors are one line and exit code 1.

    every: the sets of a domain, "" for all; chosen: the one that the flags mean.
    """
    try:
        folder = expand(arguments.dataset_dir)
        if arguments.list:
            return print(listing(every(arguments.env), folder, mirrors(arguments.mirror)))
        if not arguments.env:
            raise UserError("--env is missing: give a domain; see --help")
        wanted = chosen(arguments)
        if arguments.verify:
            return _verify_all([folder / name for name in wanted.names], damage)
        if arguments.remove:
            return remove(wanted, folder)
        missing = [name for name in wanted.names if not (folder / name).exists()]
        for name in wanted.names:
            if name not in missing:
                print(f"{folder / name}: {(folder / name).stat().st_size:,} bytes, was there already")
        if missing:
            patience = PATIENCE._replace(silence=arguments.timeout)
            fetch_all(folder, wanted.files(arguments.mirror), damage=damage, patience=patience)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("error: interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)


def listing(sets: Iterable[FileSet], folder: pathlib.Path, first: Sequence[str]) -> str:
    """One line per set. first: mirrors."""
    rows = [("set", "flags", "size", "here", "from")]
    for one in sets:
        here = [folder / name for name in one.names if (folder / name).exists()]
        size = sum(path.stat().st_size for path in here) if len(here) == len(one.names) else one.size
        status = {0: "no", len(one.names): "yes"}.get(len(here), f"{len(here)} of {len(one.names)} files")
        origins = ", ".join([*first, *one.origins])
        rows.append((one.title, one.flags, in_words(size) if size else "unknown", status, origins))
    return f"in {folder}:\n{_in_columns(rows)}"


def policy_listing(released: ReleasedPolicies, env: str) -> str:
    """One line per released BC policy that is there for the domain, or with "" for any; "" if there is none."""
    folder = imported_folder(released.repository)
    rows = [("BC policy", "flags", "here", "from")]
    for domain in released.domains:
        if env in ("", domain):
            here = "yes" if any(folder.glob(f"*/{domain}")) else "no"
            rows.append((domain, f"--env={domain} --bc_checkpoint=released", here, f"hf://{released.repository}"))
    return f"in {folder}:\n{_in_columns(rows)}" if len(rows) > 1 else ""


def _in_columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def remove(chosen: FileSet, folder: pathlib.Path) -> None:
    """Remove the set's files, what its downloads left beside them, and what was made from them; say what."""
    gone = [folder / name for name in chosen.names if (folder / name).exists()]
    freed = sum(path.stat().st_size for path in gone)
    for name in chosen.names:
        for path in (folder / name, *companions(folder / name)):
            freed += path.stat().st_size if path not in gone and path.exists() else 0
            path.unlink(missing_ok=True)
    for path in sorted(folder.glob(chosen.made)) if chosen.made else []:
        if path.is_dir():
            freed += sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
            shutil.rmtree(path)
            gone.append(path)
            path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    parents = {parent for name in chosen.names for parent in pathlib.PurePath(name).parents} - {pathlib.PurePath()}
    for parent in sorted((folder / parent for parent in parents), reverse=True):  # the deepest first
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    for path in gone:
        print(f"{path}: removed")
    print(f"{chosen.title}: {len(gone)} removed, {freed:,} bytes freed")


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
