"""OGBench's files: which there are, where they are, and whether one is intact. `envs/downloads.py` gets them.

    python -m envs.download --env=cube-double            # the plain file and its validation file
    python -m envs.download --env=puzzle-4x4 --shards=10 # the first shards of the 100M release
    python -m envs.download --env=cube-double --verify   # no network: is what lies there intact?

A file is intact if the CRC of every array in it is right. OGBench publishes no checksums.
"""

import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence

from envs import downloads
from envs.base import Domain
from envs.downloads import PATIENCE, DownloadError, Patience
from envs.ogbench import domains
from trqam_jax.errors import UserError

#: ogbench.utils.DATASET_URL; importing it would take a second.
OGBENCH_URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
#: Domains of which OGBench's README links a 100M release: a folder of 100 shards, each with a validation file.
RELEASED_100M = ("cube-double", "cube-triple", "cube-quadruple", "scene", "puzzle-3x3", "puzzle-4x4")
SHARDS = 100
DEFAULT_DATASET_DIR = "~/.ogbench/data"


def file_names(domain: Domain, shards: int = 0) -> list[str]:
    """The files, relative to the data folder and to a mirror alike. shards: 0 for the plain file."""
    if not 0 <= shards <= SHARDS:
        raise UserError(f"--shards={shards}: expected 0 (the plain file) to {SHARDS}, the size of a 100M release")
    if not shards:
        return [f"{domains.dataset_name(domain)}.npz", f"{domains.dataset_name(domain)}-val.npz"]
    stems = (f"{shard_folder(domain)}/{domains.dataset_name(domain)}-{shard:03d}" for shard in range(shards))
    return [f"{stem}{end}.npz" for stem in stems for end in ("", "-val")]


def shard_folder(domain: Domain) -> str:
    """The folder of the domain's 100M release, for example puzzle-4x4-play-100m-v0."""
    return domains.dataset_name(domain).replace("-v0", "-100m-v0")


def base_urls(domain: Domain, shards: int = 0, mirrors: Iterable[str] = ()) -> list[str]:
    """`mirrors`, then those of the environment variable, then OGBench's server if it has the files."""
    urls = downloads.base_urls(mirrors, [OGBENCH_URL] if not shards or domain.name in RELEASED_100M else [])
    if not urls:
        raise DownloadError(
            f"OGBench links no 100M release of {domain.name} (only of {', '.join(RELEASED_100M)}); name a server that "
            f"has {file_names(domain, shards)[0]} and so on by --mirror=URL, or leave --shards out for the plain file"
        )
    return urls


def download(
    domain: Domain,
    folder: pathlib.Path,
    *,
    shards: int = 0,
    mirrors: Iterable[str] = (),
    patience: Patience = PATIENCE,
) -> dict[pathlib.Path, bool]:
    """Get what is missing of a domain's files: {path: whether it had to be downloaded}. DownloadError if it fails."""
    names, servers = file_names(domain, shards), base_urls(domain, shards, mirrors)
    return downloads.fetch_all(folder, names, servers, patience, damage)


def damage(path: pathlib.Path) -> str | None:
    """Why a file is no intact npz, or None. Reads all of it and compares every CRC."""
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                wrong = archive.testzip() if archive.namelist() else "everything, for it is empty,"
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
            return str(error)
    return wrong and f"the CRC of {wrong} is wrong"


def main(argv: Sequence[str]) -> None:
    """The command line."""
    parser = downloads.make_parser("Download OGBench's files, or verify them.", DEFAULT_DATASET_DIR, OGBENCH_URL)
    parser.add_argument("--env", required=True, help="domain, or OGBench's full name; its tasks share their files")
    parser.add_argument("--shards", type=int, default=0, help="so many of the 100M release, instead of the plain file")
    downloads.run_command(
        parser.parse_args(argv),
        names=lambda given: file_names(domains.parse(given.env)[0], given.shards),
        servers=lambda given: base_urls(domains.parse(given.env)[0], given.shards, given.mirror),
        damage=damage,
    )
