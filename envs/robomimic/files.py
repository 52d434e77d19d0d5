"""Robomimic's HDF5 files, published ones of version 1.5 and scripted ones: found, checked, measured, loaded.

/data has the attributes env_args (JSON) and total; /data/demo_i the arrays actions, rewards and dones, groups obs and
next_obs of one array per key, and the attribute num_samples. Demonstrations count in the order of their numbers.
"""

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from envs import downloads
from envs.base import Arrays, DataError, Domain, Size
from envs.robomimic import generate, install, sources
from envs.robomimic.domains import ENV_NAMES, OBSERVATION_KEYS, observation_widths, short_name
from envs.robomimic.download import damage
from trqam_jax.download import DownloadError
from trqam_jax.errors import UserError
from trqam_jax.files import expand, sha256

if TYPE_CHECKING:
    import h5py  # pyright: ignore[reportMissingImports]

ACTION_CLIP = 1 - 1e-5  # as in the released code: off the bounds, not rescaled
VERSION = "1.5."  # robosuite's, of which observations and controllers are
OTHER_VERSION = (
    "the object part of observations and the controllers are others before robosuite 1.5: get the file of version 1.5 "
    "(low_dim_v15.hdf5)"
)


class Demonstration(NamedTuple):
    """One episode of N transitions."""

    name: str  # demo_12
    observations: np.ndarray  # (N + 1, O) float32: those before every action, and the one after the last
    actions: np.ndarray  # (N, A) float64, from -1 to 1, as recorded
    rewards: np.ndarray  # (N,) float64, the simulator's: above 0 where the task is solved
    dones: np.ndarray  # (N,) bool


def find(domain: Domain, dataset: str, dataset_dir: str, *, episodes: int, seed: int, download: str) -> pathlib.Path:
    """The file that `dataset` means: "auto" (multi-human, downloaded if it is missing), "generate" or a path.

    UserError first of all if the packages are missing without which a run would fail later.
    """
    install.require()
    folder = expand(dataset_dir)
    if dataset == "generate":
        target = folder / "generated" / f"{short_name(domain)}-scripted-{episodes}-episodes-seed-{seed}"
        return generate.generate(domain.name, episodes=episodes, seed=seed, out_dir=target)
    if dataset != "auto":
        path = expand(dataset)
        if not path.is_file():
            raise DataError(f"--dataset={dataset}: no such file (or one of the words auto, generate)")
        return path
    wanted = sources.file_set(domain)
    try:
        downloads.obtain(wanted, folder, download=download, damage=damage)
    except (DownloadError, DataError) as error:
        raise DataError(
            f"{error}. Put it there, give its place as --dataset=PATH, or let --dataset=generate make scripted "
            "demonstrations, which are not the published multi-human data."
        ) from error
    return folder / wanted.names[0]


def check_unsharded(shards: int) -> None:
    """UserError if shards are asked for."""
    if shards:
        raise UserError(f"--config.data.shards={shards}: Robomimic's files have no shards, expected 0")


def fingerprint(path: pathlib.Path) -> str:
    """A digest of what training uses, not of what else the file says, as when and with which versions it was made.

    DataError if the file is damaged.
    """

    def parts() -> Iterator[bytes]:
        with _opened(path) as file:
            for group in _groups(file):
                demo = _read(group)
                yield f"{len(demo.actions)}\n".encode()
                yield from (array.tobytes() for array in demo[1:])

    return sha256(parts())[:16]


def read_demos(path: pathlib.Path, domain: Domain) -> Iterator[Demonstration]:
    """Every demonstration, checked; DataError names the file, the demonstration, and what was expected."""
    with _opened(path) as file:
        _check_env_args(file, domain)
        for group in _groups(file):
            _check_widths(group, domain)
            yield _read(group)


def measure(path: pathlib.Path, domain: Domain, *, horizon: int) -> Size:
    """The size of a file; DataError if it is another task's, or if no demonstration has a window of `horizon`."""
    with _opened(path) as file:
        _check_env_args(file, domain)
        lengths = [_length(group) for group in _groups(file)]
        total = file["data"].attrs.get("total", sum(lengths))
    if total != sum(lengths):
        raise DataError(f"{path}: /data says total={total}, its demonstrations have {sum(lengths)} transitions")
    if max(lengths) < horizon:
        raise DataError(
            f"{path}: the longest demonstration has {max(lengths)} transitions, expected at least a window of {horizon}"
        )
    return Size(sum(lengths) + len(lengths), (0, sum(lengths)))


def load(path: pathlib.Path, domain: Domain, *, horizon: int, sparse: bool = False) -> Arrays:
    """All demonstrations as transitions of the domain's one task; observations are not scaled.

    A reward is the simulator's minus 1: -1, and 0 where the task is solved. The mask is 0 where a demonstration says
    done, which ends an episode as its last transition does. sparse: every non-zero reward becomes -1, which matters in
    machine-generated files with dense rewards.
    """
    size = measure(path, domain, horizon=horizon)
    demos = list(read_demos(path, domain))
    lengths = np.array([len(demo.actions) for demo in demos])
    last = np.cumsum(lengths) - 1
    numbers = np.arange(size.transitions)
    dones = np.concatenate([demo.dones for demo in demos])
    terminals = dones.copy()
    terminals[last] = True
    rewards = np.concatenate([demo.rewards for demo in demos]) - 1
    if sparse:
        rewards = np.where(rewards != 0, -1, 0)
    actions = np.concatenate([demo.actions for demo in demos])
    return Arrays(
        observations=np.concatenate([demo.observations for demo in demos]),
        actions=np.clip(actions, -ACTION_CLIP, ACTION_CLIP).astype(np.float32),
        rows=(numbers + np.repeat(np.arange(len(demos)), lengths)).astype(np.int32),
        terminals=terminals,
        rewards=[rewards.astype(np.float32)],
        masks=[1 - dones.astype(np.float32)],
        bounds=size.bounds,
    )


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator["h5py.File"]:
    """The file, with what HDF5 says of it as DataError."""
    install.require("h5py")
    import h5py  # pyright: ignore[reportMissingImports]

    if not path.is_file():
        raise DataError(f"{path}: no such file (expected robomimic data as HDF5)")
    try:
        with h5py.File(path) as file:
            if not isinstance(file.get("data"), h5py.Group):
                raise DataError(f"{path}: has no /data, expected a robomimic file with /data/demo_0 and so on")
            yield file
    except DataError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:  # h5py's, of damage
        raise DataError(
            f"{path}: not a readable HDF5 file, truncated or damaged ({error}); remove it and get it again"
        ) from error


def _groups(file: "h5py.File") -> Iterator["h5py.Group"]:
    """Of every demonstration its group, in the order of their numbers: demo_2 before demo_10."""
    import h5py  # pyright: ignore[reportMissingImports]

    data = file["data"]
    names = [name for name in data if re.fullmatch(r"demo_\d+", name)]
    if not names:
        raise DataError(f"{file.filename}: /data has no demonstrations, expected demo_0 and so on")
    for name in sorted(names, key=lambda name: int(name.removeprefix("demo_"))):
        if not isinstance(data.get(name), h5py.Group):
            raise DataError(f"{file.filename}: {name} is no group, expected actions, rewards and so on in it")
        yield data[name]


def _name(group: "h5py.Group") -> str:
    """For example demo_12."""
    return group.name.rpartition("/")[2]


def _where(group: "h5py.Group") -> str:
    """The file and the demonstration, for messages."""
    return f"{group.file.filename}: {_name(group)}"


def _check_env_args(file: "h5py.File", domain: Domain) -> None:
    """DataError unless the file was recorded in the domain's environment and with the controllers of robosuite 1.5."""
    path = file.filename
    try:
        args = json.loads(file["data"].attrs["env_args"])
        name, version = args["env_name"], str(args["env_version"])
        controllers = args["env_kwargs"]["controller_configs"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: /data has no usable env_args ({error}), expected JSON with env_name, env_version and env_kwargs "
            f"with controller_configs; {OTHER_VERSION}"
        ) from error
    if name != ENV_NAMES[domain.name]:
        others = [other for other, env_name in ENV_NAMES.items() if env_name == name]
        of_other = f" (--env={others[0]})" if others else ""
        raise DataError(f"{path}: holds data of {name}{of_other}, expected {ENV_NAMES[domain.name]} for {domain.name}")
    if not version.startswith(VERSION):
        raise DataError(f"{path}: env_version is {version}, expected {VERSION}x; {OTHER_VERSION}")
    if not isinstance(controllers, dict) or "body_parts" not in controllers:
        kind = controllers.get("type") if isinstance(controllers, dict) else controllers
        raise DataError(
            f"{path}: controller_configs are of the older kind ({kind}), expected type BASIC with body_parts; "
            f"{OTHER_VERSION}"
        )


def _check_widths(group: "h5py.Group", domain: Domain) -> None:
    """DataError unless actions and observations are as wide as the domain's."""
    _length(group)
    widths = {f"obs/{key}": width for key, width in observation_widths(domain).items()}
    for key, width in {"actions": domain.action_dim, **widths}.items():
        shape = group[key].shape
        if shape[1] != width:
            raise DataError(
                f"{_where(group)}: {key} has shape {shape}, expected (transitions, {width}) for {domain.name}; is it "
                f"another task's file, or an older one? {OTHER_VERSION}"
            )


def _length(group: "h5py.Group") -> int:
    """The number of transitions, on which all arrays agree; DataError otherwise, or if one is missing."""
    import h5py  # pyright: ignore[reportMissingImports]

    where = _where(group)
    observed = [f"{part}/{key}" for part in ("obs", "next_obs") for key in OBSERVATION_KEYS]
    needed = ("actions", "rewards", "dones", *observed)
    missing = [key for key in needed if not isinstance(group.get(key), h5py.Dataset)]
    if missing:
        raise DataError(f"{where} has no {', '.join(missing)}; expected a robomimic file with low-dimensional data")
    for key in needed:
        if not group[key].shape:  # None and () are of what holds nothing, or no rows
            raise DataError(f"{where}: {key} has shape {group[key].shape}, expected rows of numbers")
    said, length = group.attrs.get("num_samples"), group["actions"].shape[0]
    if np.shape(said) or said != length:
        raise DataError(f"{where}: num_samples is {said}, actions have {length} rows")
    if not length:
        raise DataError(f"{where}: has no transitions, expected at least 1")
    for key in ("rewards", "dones"):
        if group[key].shape != (length,):
            raise DataError(f"{where}: {key} have shape {group[key].shape}, expected ({length},)")
    for key in ("actions", *observed):
        shape = group[key].shape
        if len(shape) != 2 or shape[0] != length:
            raise DataError(f"{where}: {key} has shape {shape}, expected {length} rows of numbers")
    for key in OBSERVATION_KEYS:
        before, after = group[f"obs/{key}"].shape, group[f"next_obs/{key}"].shape
        if before != after:
            raise DataError(f"{where}: next_obs/{key} has shape {after}, obs/{key} {before}")
    return length


def _read(group: "h5py.Group") -> Demonstration:
    """The arrays of one demonstration, checked but for their widths."""
    length, where = _length(group), _where(group)
    actions, rewards, dones = (_finite(group, key) for key in ("actions", "rewards", "dones"))
    outside = np.flatnonzero((np.abs(actions) > 1 + 1e-6).any(axis=1))
    if len(outside):
        raise DataError(f"{where}: actions leave [-1, 1], first in row {outside[0]} of {length}")
    if not np.isin(dones, (0, 1)).all():
        raise DataError(f"{where}: dones are not one 0 or 1 per transition")
    return Demonstration(
        name=_name(group),
        observations=np.concatenate([_observed(group, key) for key in OBSERVATION_KEYS], axis=1).astype(np.float32),
        actions=actions.astype(np.float64),
        rewards=rewards.astype(np.float64),
        dones=dones.astype(bool),
    )


def _observed(group: "h5py.Group", key: str) -> np.ndarray:
    """One part of the observations, (N + 1, d): before every action, and after the last."""
    before, after = _finite(group, f"obs/{key}"), _finite(group, f"next_obs/{key}")
    wrong = np.flatnonzero((after[:-1] != before[1:]).any(axis=1))
    if len(wrong):
        raise DataError(f"{_where(group)}: next_obs/{key} of row {wrong[0]} is not obs/{key} of row {wrong[0] + 1}")
    return np.concatenate([before, after[-1:]])


def _finite(group: "h5py.Group", key: str) -> np.ndarray:
    """One array; DataError if it holds something else than finite numbers."""
    array = group[key][()]
    if array.dtype.kind not in "biuf":
        raise DataError(f"{_where(group)}: {key} is of type {array.dtype}, expected numbers")
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0][0]
        raise DataError(f"{_where(group)}: {key} is not finite, first in row {row} of {len(array)}")
    return array
