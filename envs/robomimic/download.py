"""Robomimic's published files: got, verified, listed, removed. envs/robomimic/sources.py says which and where.

    python -m envs.download --env=robomimic-can                    # the multi-human demonstrations
    python -m envs.download --env=robomimic-can --data=mg-sparse   # machine-generated ones
    python -m envs.download --env=robomimic-can --verify           # no network: is what lies there intact?
    python -m envs.download --env=robomimic-can --remove

A file is intact if every array in it can be read, or without h5py, if it is as long as its beginning says.
"""

import os
import pathlib
from collections.abc import Sequence

from envs import downloads
from envs.robomimic import sources
from envs.robomimic.domains import DOMAINS, parse

DEFAULT_DATASET_DIR = "~/.robomimic"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def damage(path: pathlib.Path) -> str | None:
    """Why a file is no intact HDF5, or None. Reads all of it, where h5py is installed."""
    return _wrong_length(path) or _unreadable(path)


def _wrong_length(path: pathlib.Path) -> str | None:
    """What the beginning of the file tells: its signature, and in the superblock where it ends."""
    with path.open("rb") as file:
        begin = file.read(64)
    if not begin.startswith(_SIGNATURE):
        return "it does not begin as HDF5 does"
    version = begin[8] if len(begin) == 64 else -1
    if version in (0, 1):
        size_of_offsets, first = begin[13], 24 + 4 * version
    elif version in (2, 3):
        size_of_offsets, first = begin[9], 12
    else:
        return "its superblock is none that is known"
    at = first + 2 * size_of_offsets  # the third address of each
    expected = int.from_bytes(begin[at : at + size_of_offsets], "little")
    size = os.path.getsize(path)
    return f"{size:,} bytes of {expected:,}" if size < expected else None


def _unreadable(path: pathlib.Path) -> str | None:
    """What HDF5 itself says, having read every array; None without h5py."""
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None

    def read(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            item[()]

    try:
        with h5py.File(path) as file:
            file.visititems(read)
            return None if "data" in file else "it has no /data"
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        return str(error)


def main(argv: Sequence[str]) -> None:
    """The command line."""
    parser = downloads.make_parser("Robomimic's files, and what is here of them.", DEFAULT_DATASET_DIR, sources.HUB)
    parser.add_argument("--env", default="", help=f"domain: {', '.join(DOMAINS)}")
    kinds = ", ".join(sources.FILES)
    parser.add_argument("--data", default="mh", help=f"which: {kinds} (default: %(default)s, multi-human)")
    downloads.run_command(
        parser.parse_args(argv),
        every=sources.every_set,
        chosen=lambda given: sources.file_set(parse(given.env), given.data),
        damage=damage,
    )
