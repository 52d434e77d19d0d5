"""Where Robomimic's files of version 1.5 are published, as data. Their sizes and digests are not known here."""

from collections.abc import Mapping, Sequence

from envs.base import Domain
from envs.downloads import FileSet
from envs.robomimic.domains import DOMAINS, parse, short_name
from trqam_jax.download import RemoteFile, mirrors
from trqam_jax.errors import UserError, suggest

#: Formerly amandlek/robomimic.
HUB = "hf://datasets/robomimic/robomimic_datasets/v1.5"
#: Kinds of data: multi-human, proficient-human, machine-generated with either reward; a task's file of each.
FILES: Mapping[str, str] = {
    "mh": "mh/low_dim_v15.hdf5",
    "ph": "ph/low_dim_v15.hdf5",
    "mg-sparse": "mg/low_dim_sparse_v15.hdf5",
    "mg-dense": "mg/low_dim_dense_v15.hdf5",
}
_MACHINE_GENERATED = ("robomimic-lift", "robomimic-can")


def kinds(domain: Domain) -> list[str]:
    """Those that the domain has."""
    return [kind for kind in FILES if domain.name in _MACHINE_GENERATED or not kind.startswith("mg")]


def file_name(domain: Domain, data: str = "mh") -> str:
    """The file of that kind, relative to the data folder and to a mirror alike: can/mh/low_dim_v15.hdf5."""
    if data not in kinds(domain):
        raise UserError(f"--data={data}: {domain.name} has no such file.{suggest(data, kinds(domain))}")
    return f"{short_name(domain)}/{FILES[data]}"


def file_set(domain: Domain, data: str = "mh") -> FileSet:
    """The one file of that kind."""
    name = file_name(domain, data)

    def files(given: Sequence[str]) -> list[RemoteFile]:
        return [RemoteFile(name, tuple(f"{base}/{name}" for base in (*mirrors(given), HUB)))]

    return FileSet(f"{short_name(domain)}-{data}", f"--env={domain.name} --data={data}", [name], [HUB], files)


def every_set(env: str) -> list[FileSet]:
    """Of a domain, or of all."""
    chosen = [parse(env)] if env else DOMAINS.values()
    return [file_set(domain, data) for domain in chosen for data in kinds(domain)]
