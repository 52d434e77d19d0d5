"""Where OGBench's files are published, as data. What is not known of them, sizes and digests, is not here."""

import pathlib
from collections.abc import Callable, Sequence

from envs.base import Domain
from envs.downloads import FileSet
from envs.ogbench import domains
from trqam_jax.download import DownloadError, RemoteFile, mirrors
from trqam_jax.errors import UserError
from trqam_jax.places import PlaceError, list_hub

#: ogbench.utils.DATASET_URL; importing it would take a second. It was down for weeks in autumn 2026.
OGBENCH_URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
#: To which OGBench's maintainer pointed then: NAME.npz and NAME-val.npz of the plain sets, no shards.
HUB = "hf://datasets/zhouzypaul/ogbench_datasets"
#: What HUB has, in bytes, where it is known.
HUB_SIZES = {"cube-double-play-v0.npz": 297_435_656, "cube-double-play-v0-val.npz": 29_726_524}
#: Domains of which OGBench's README links a 100M release: a folder of 100 shards, each with a validation file.
RELEASED_100M = ("cube-double", "cube-triple", "cube-quadruple", "scene", "puzzle-3x3", "puzzle-4x4")
SHARDS = 100
#: Of antmaze-giant there is no 100M release, but the ten shards that the TRQAM paper's authors made.
SHARDS_10M = {"antmaze-giant": (10, "hf://datasets/yonghoon96/antmaze-giant-navigate-10m-v0")}


def shard_folder(domain: Domain) -> str:
    """The folder of the domain's shards, for example puzzle-4x4-play-100m-v0."""
    size = "10m" if domain.name in SHARDS_10M else "100m"
    return domains.dataset_name(domain).replace("-v0", f"-{size}-v0")


def file_names(domain: Domain, shards: int = 0) -> list[str]:
    """The files, relative to the data folder and to a mirror alike. shards: 0 for the plain file."""
    most = SHARDS_10M[domain.name][0] if domain.name in SHARDS_10M else SHARDS
    if not 0 <= shards <= most:
        raise UserError(f"--shards={shards}: expected 0 (the plain file) to {most}, the size of {shard_folder(domain)}")
    if not shards:
        return [f"{domains.dataset_name(domain)}.npz", f"{domains.dataset_name(domain)}-val.npz"]
    stems = (f"{shard_folder(domain)}/{domains.dataset_name(domain)}-{shard:03d}" for shard in range(shards))
    return [f"{stem}{end}.npz" for stem in stems for end in ("", "-val")]


def file_set(domain: Domain, shards: int = 0) -> FileSet:
    """The plain set, or the first shards."""
    names = file_names(domain, shards)
    if not shards:
        known = [HUB_SIZES[name] for name in names if name in HUB_SIZES]
        size = sum(known) if len(known) == len(names) else None
        files = _flat(names, [OGBENCH_URL, HUB])
        return FileSet(
            domains.dataset_name(domain), f"--env={domain.name}", names, [OGBENCH_URL, HUB], files, size=size
        )
    flags, made = f"--env={domain.name} --shards={shards}", f"{shard_folder(domain)}/converted-{domain.name}-*"
    if domain.name in SHARDS_10M:
        _, repository = SHARDS_10M[domain.name]
        files, origins = (lambda given: _of_10m(repository, names, given)), [repository]
    else:
        origins = [OGBENCH_URL] if domain.name in RELEASED_100M else []
        nowhere = f"OGBench links no 100M release of {domain.name} (only of {', '.join(RELEASED_100M)})"
        files = _flat(names, origins, nowhere)
    return FileSet(shard_folder(domain), flags, names, origins, files, made)


def every_set(env: str) -> list[FileSet]:
    """The plain set and the whole sharded one, where it is published, of a domain, or of all."""
    sets = []
    for domain in [domains.parse(env)[0]] if env else domains.DOMAINS.values():
        sets.append(file_set(domain))
        if domain.name in SHARDS_10M:
            sets.append(file_set(domain, SHARDS_10M[domain.name][0]))
        elif domain.name in RELEASED_100M:
            sets.append(file_set(domain, SHARDS))
    return sets


def _flat(
    names: Sequence[str], origins: Sequence[str], nowhere: str = ""
) -> Callable[[Sequence[str]], list[RemoteFile]]:
    """Files that lie below every origin by their names."""

    def files(given: Sequence[str]) -> list[RemoteFile]:
        bases = [*mirrors(given), *origins]
        if not bases:
            raise DownloadError(f"{nowhere}; a mirror that has {names[0]} and so on can be named by --mirror=URL")
        return [RemoteFile(name, tuple(f"{base}/{name}" for base in bases)) for name in names]

    return files


def _of_10m(repository: str, names: Sequence[str], given: Sequence[str]) -> list[RemoteFile]:
    """Mirrors, and then the repository, which names its files as it likes: its training files in sorted order.

    DownloadError if neither a mirror is given nor the repository has so many files with their validation files.
    """
    bases = mirrors(given)
    try:
        published = _pairs(repository, len(names) // 2)
    except PlaceError as error:
        if not bases:
            raise DownloadError(f"{repository}: {error}; a mirror can be named by --mirror=URL") from error
        print(f"{repository}: {error}; left are {', '.join(bases)}")
        published = []
    own = [f"{repository}/{path}" for path in published] or [None] * len(names)
    placed = zip(names, own, strict=True)
    return [RemoteFile(name, (*(f"{base}/{name}" for base in bases), *filter(None, [last]))) for name, last in placed]


def _pairs(repository: str, count: int) -> list[str]:
    """The first `count` training files of a repository in sorted order, each followed by its validation file."""
    print(f"{repository}: its files are listed, and its npz files taken in sorted order", flush=True)
    listed = list_hub(repository)
    training = [path for path in listed if path.endswith(".npz") and not path.endswith("-val.npz")]
    pairs = [(path, str(pathlib.PurePosixPath(path).with_suffix("")) + "-val.npz") for path in training[:count]]
    if len(pairs) < count or not {partner for _, partner in pairs} <= set(listed):
        raise PlaceError(
            f"expected {count} npz files, each with its -val.npz, it lists {', '.join(listed[:20]) or 'nothing'}"
        )
    return [path for pair in pairs for path in pair]
