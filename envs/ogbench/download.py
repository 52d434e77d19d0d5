"""OGBench's files: got, verified, listed, removed. envs/ogbench/sources.py says which there are and where they lie.

    python -m envs.download --env=cube-double            # the plain file and its validation file
    python -m envs.download --env=puzzle-4x4 --shards=10 # the first shards of the 100M release
    python -m envs.download --env=cube-double --verify   # no network: is what lies there intact?
    python -m envs.download --env=cube-double --remove
    python -m envs.download --list                       # no network: all that there is

A file is intact if the CRC of every array in it is right. OGBench publishes no checksums.
"""

import pathlib
import struct
import zipfile
import zlib
from collections.abc import Sequence

from envs import downloads
from envs.ogbench import domains, sources

DEFAULT_DATASET_DIR = "~/.ogbench/data"


#: What zipfile, zlib and numpy raise at a damaged npz. RuntimeError: it says that it is encrypted, or packed otherwise.
UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def damage(path: pathlib.Path) -> str | None:
    """Why a file is no intact npz, or None. Reads all of it and compares every CRC."""
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                wrong = archive.testzip() if archive.namelist() else "everything, for it is empty,"
        except UNREADABLE as error:
            return str(error)
    return wrong and f"the CRC of {wrong} is wrong"


def main(argv: Sequence[str]) -> None:
    """The command line."""
    parser = downloads.make_parser(
        "OGBench's files, and what is here of them.", DEFAULT_DATASET_DIR, sources.OGBENCH_URL
    )
    parser.add_argument("--env", default="", help="domain, or OGBench's full name; its tasks share their files")
    parser.add_argument("--shards", type=int, default=0, help="so many of a sharded release, instead of the plain file")
    downloads.run_command(
        parser.parse_args(argv),
        every=sources.every_set,
        chosen=lambda given: sources.file_set(domains.parse(given.env)[0], given.shards),
        damage=damage,
    )
