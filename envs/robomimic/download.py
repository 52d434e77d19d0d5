"""Robomimic's published files: which and where they are, and whether one is intact. `envs/downloads.py` gets them.

    python -m envs.download --env=robomimic-can                    # the multi-human demonstrations
    python -m envs.download --env=robomimic-can --data=mg-sparse   # machine-generated ones
    python -m envs.download --env=robomimic-can --verify           # no network: is what lies there intact?

They are the Hugging Face dataset robomimic/robomimic_datasets, formerly amandlek/robomimic. A file is intact if every
array in it can be read, or without h5py, if it is as long as its beginning says.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from envs import downloads
from envs.base import Domain
from envs.downloads import PATIENCE, Patience
from envs.robomimic.domains import DOMAINS, parse, short_name
from trqam_jax.errors import UserError, suggest

URL = "https://huggingface.co/datasets/robomimic/robomimic_datasets/resolve/main/v1.5"
DEFAULT_DATASET_DIR = "~/.robomimic"
#: Kinds of data: multi-human, proficient-human, machine-generated with either reward; a task's file of each.
FILES: Mapping[str, str] = {
    "mh": "mh/low_dim_v15.hdf5",
    "ph": "ph/low_dim_v15.hdf5",
    "mg-sparse": "mg/low_dim_sparse_v15.hdf5",
    "mg-dense": "mg/low_dim_dense_v15.hdf5",
}
_MACHINE_GENERATED = ("robomimic-lift", "robomimic-can")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def file_name(domain: Domain, data: str = "mh") -> str:
    """The file of that kind, relative to the data folder and to a mirror alike: can/mh/low_dim_v15.hdf5."""
    kinds = [kind for kind in FILES if domain.name in _MACHINE_GENERATED or not kind.startswith("mg")]
    if data not in kinds:
        raise UserError(f"--data={data}: {domain.name} has no such file.{suggest(data, kinds)}")
    return f"{short_name(domain)}/{FILES[data]}"


def download(
    domain: Domain,
    folder: pathlib.Path,
    *,
    data: str = "mh",
    mirrors: Iterable[str] = (),
    patience: Patience = PATIENCE,
) -> pathlib.Path:
    """The file of that kind, downloaded if it is missing. DownloadError if it fails."""
    name = file_name(domain, data)
    downloads.fetch_all(folder, [name], downloads.base_urls(mirrors, [URL]), patience, damage)
    return folder / name


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
    parser = downloads.make_parser("Download a published file of Robomimic, or verify it.", DEFAULT_DATASET_DIR, URL)
    parser.add_argument("--env", required=True, help=f"domain: {', '.join(DOMAINS)}")
    parser.add_argument("--data", default="mh", help=f"which: {', '.join(FILES)} (default: %(default)s, multi-human)")
    downloads.run_command(
        parser.parse_args(argv),
        names=lambda given: [file_name(parse(given.env), given.data)],
        servers=lambda given: downloads.base_urls(given.mirror, [URL]),
        damage=damage,
    )
