"""OGBench's dataset files: checked, measured, loaded or converted, and where they come from."""

import pathlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from envs import downloads, mapped
from envs.base import Arrays, DataError, Domain, Size
from envs.ogbench import generate, sources
from envs.ogbench.domains import DOMAINS, dataset_name, env_id
from envs.ogbench.download import UNREADABLE, damage
from envs.ogbench.simulators import OGBenchSimulator
from trqam_jax.download import DownloadError
from trqam_jax.files import expand, sha256

ACTION_CLIP = 1 - 1e-5  # the released code keeps the actions of plain files off the bounds; shards it leaves alone


def _read(path: pathlib.Path, needed: Sequence[str], domain: Domain) -> dict[str, np.ndarray]:
    """These arrays of one file; DataError if the file is missing or damaged, or has them not."""
    if not path.exists():
        raise DataError(f"{path}: no such file (expected {dataset_name(domain)} data as an OGBench npz)")
    try:
        # Opened here, because np.load(path) leaves a damaged file open.
        with path.open("rb") as stream, zipfile.ZipFile(stream), np.load(stream, allow_pickle=False) as file:
            _check_layout(path, file)
            missing = [key for key in needed if key not in file]
            if missing:
                raise DataError(
                    f"{path}: has no {', '.join(missing)}; expected an OGBench file with {', '.join(needed)}"
                )
            arrays = {key: file[key] for key in needed}
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: not a readable npz, truncated or damaged ({error}); remove it and get it again"
        ) from error
    except MemoryError as error:
        raise DataError(f"{path}: larger than memory, or damaged ({error}); `envs.download` can verify it") from error
    for key, array in arrays.items():
        if not array.ndim or array.dtype.kind not in "biuf":
            raise DataError(f"{path}: {key} are {array.dtype} of shape {array.shape}, expected rows of numbers")
    return arrays


#: What files have that hold a row per transition, as those of D4RL: OGBench's hold a row per state.
_OF_TRANSITIONS = ("next_observations", "timeouts")


def _check_layout(path: pathlib.Path, file: Iterable[str]) -> None:
    """DataError if a file of these arrays holds a row per transition: read as OGBench's, every episode would lose its
    last one."""
    foreign = [key for key in file if key in _OF_TRANSITIONS]
    if foreign:
        raise DataError(
            f"{path}: has {' and '.join(foreign)}, so a row per transition, as in D4RL; expected OGBench's layout, a "
            "row per state: the last row of an episode has terminals=1, its final observation and no effective action"
        )


def read_file(path: pathlib.Path, domain: Domain) -> dict[str, np.ndarray]:
    """The arrays of one OGBench file, checked; DataError names the file and what was expected."""

    def expect(condition: Any, message: str) -> None:
        if not condition:
            raise DataError(f"{path}: {message}")

    needed = ["observations", "actions", "terminals", "qpos"]
    if domain.name.startswith(("scene", "puzzle")):
        needed.append("button_states")
    arrays = _read(path, needed, domain)
    sizes = {"observations": domain.observation_dim, "actions": domain.action_dim}
    for key, size in sizes.items():
        array = arrays[key]
        expect(
            array.ndim == 2 and array.shape[1] == size,
            f"{key} have shape {array.shape}, expected (rows, {size}) for {domain.name}; is it another domain's file?",
        )
        expect(array.dtype == np.float32, f"{key} are {array.dtype}, expected float32")
    rows = len(arrays["observations"])
    for key, array in arrays.items():
        expect(len(array) == rows, f"{key} have {len(array)} rows, observations {rows}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            first = int(np.argwhere(~np.isfinite(array))[0][0])
            raise DataError(f"{path}: {key} are not finite, first in row {first} of {rows}")
    expect(rows >= 2, f"has {rows} rows, expected at least 2")
    expect(np.abs(arrays["actions"]).max() <= 1.0 + 1e-6, "actions leave [-1, 1]")
    terminals = arrays["terminals"]
    expect(terminals.shape == (rows,) and np.isin(terminals, (0, 1)).all(), "terminals are not one 0 or 1 per row")
    arrays["terminals"] = terminals = terminals.astype(bool)
    expect(terminals[-1], "the last row does not end an episode; is the file cut off?")
    expect(not terminals[0] and not (terminals[1:] & terminals[:-1]).any(), "has an episode without any transition")
    return arrays


def fingerprint(path: pathlib.Path, shards: int) -> str:
    """A digest of the arrays of a file, or of the shards of a folder, from the checksums inside: quick even for 10 GB.

    Where a file lies, and which versions it says that made it, do not enter.
    """
    entries: list[bytes] = []
    for file in shard_files(path, shards):
        try:
            with zipfile.ZipFile(file) as archive:
                for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                    if entry.filename != "provenance.npy":
                        entries.append(f"{entry.filename} {entry.file_size} {entry.CRC}\n".encode())
        except UNREADABLE as error:
            raise DataError(f"{file}: not a readable npz, truncated or damaged ({error})") from error
    return sha256(entries)[:16]


def shard_files(path: pathlib.Path, shards: int) -> list[pathlib.Path]:
    """The file itself, or the first `shards` (0: all) of a folder of *-000.npz, *-001.npz, ..., without a gap."""
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if re.search(r"-\d{3}\.npz$", p.name))
    if not files:
        raise DataError(f"{path}: holds no shards, expected files named *-000.npz, *-001.npz, ...")
    names = {file.name for file in files}
    count = shards or int(files[-1].stem[-3:]) + 1
    wanted = [f"{files[0].name[:-7]}{number:03d}.npz" for number in range(count)]
    for name in wanted:
        if name not in names:
            raise DataError(
                f"{path}: holds {len(files)} shards, expected {count}: {name} is missing; "
                "set --config.data.shards to use fewer"
            )
    for name in wanted:
        _check_partner(path / name)
    return [path / name for name in wanted]


def _check_domain(file: pathlib.Path, domain: Domain, env: Any, qpos: np.ndarray) -> None:
    """DataError if the file is another domain's, as far as its name, provenance and state sizes tell."""
    made = (generate.provenance(file) or {}).get("domain", domain.name)
    names = [other.name for other in DOMAINS.values() if file.name.startswith(other.title)]
    for other in (made, *names):
        if other != domain.name:
            raise DataError(f"{file}: holds data of {other}, expected {domain.name}")
    env.reset(seed=0)
    inner = env.unwrapped
    size = len((inner._data if hasattr(inner, "_data") else inner.data).qpos)
    if qpos.shape[1] != size:
        raise DataError(f"{file}: qpos have {qpos.shape[1]} columns, the simulator of {domain.name} has {size}")


def partner(path: pathlib.Path) -> pathlib.Path:
    """The validation file that belongs to a training file."""
    return path.with_name(f"{path.stem}-val.npz")


def _check_partner(file: pathlib.Path) -> None:
    if not partner(file).exists():
        raise DataError(f"{file}: its validation partner {partner(file).name} is not beside it")


def array_specs(size: Size, domain: Domain, tasks: Sequence[int], *, sparse: bool) -> dict[str, mapped.ArraySpec]:
    """Names, shapes and types of a dataset's arrays, one of rewards and one of masks per task."""
    n = size.transitions
    return {
        "observations": mapped.ArraySpec((size.rows, domain.observation_dim), np.float32),
        "actions": mapped.ArraySpec((n, domain.action_dim), np.float32),
        "rows": mapped.ArraySpec((n,), np.int32),
        "terminals": mapped.ArraySpec((n,), np.bool_),
        **{name: mapped.ArraySpec((n,), np.float32) for task in tasks for name in task_names(task, sparse)},
    }


def task_names(task: int, sparse: bool) -> tuple[str, str]:
    """What a task's rewards and masks are called; masks do not depend on `sparse`."""
    return f"rewards-task{task}{'-sparse' if sparse else ''}", f"masks-task{task}"


def measure(path: pathlib.Path, domain: Domain, *, shards: int, horizon: int) -> Size:
    """The size of a file, or of the first `shards` (0: all) of a folder; DataError names one without any window."""
    rows, counts = 0, []
    for file in shard_files(path, shards):
        terminals = _read(file, ["terminals"], domain)["terminals"]
        rows += len(terminals)
        counts.append(int(len(terminals) - np.count_nonzero(terminals)))
        if counts[-1] < horizon:
            raise DataError(f"{file}: {counts[-1]} transitions, expected at least a window of {horizon}")
    if rows >= 2**31:
        raise DataError(f"{path}: more than 2^31 rows; set --config.data.shards to use fewer")
    return Size(rows, (0, *np.cumsum(counts).tolist()))


def load(path: pathlib.Path, domain: Domain, tasks: list[int], horizon: int, *, sparse: bool, shards: int) -> Arrays:
    """A plain file, or the first `shards` (0: all) of a folder of *-000.npz, ..., with rewards of the given tasks.

    A plain file is read into memory, with its actions kept off the bounds. Shards are converted, once, and their
    arrays are read-only maps of the converted files. sparse: every non-zero reward becomes -1.
    """
    size = measure(path, domain, shards=shards, horizon=horizon)
    if path.is_dir():
        arrays = _converted(path, domain, array_specs(size, domain, tasks, sparse=sparse), tasks, sparse, shards)
    else:
        (whole,) = _transitions([path], domain, tasks, sparse)
        arrays = {**whole, "actions": np.clip(whole["actions"], -ACTION_CLIP, ACTION_CLIP)}
    names = [task_names(task, sparse) for task in tasks]
    return Arrays(
        observations=arrays["observations"],
        actions=arrays["actions"],
        rows=arrays["rows"],
        terminals=arrays["terminals"],
        rewards=[arrays[rewards] for rewards, _ in names],
        masks=[arrays[masks] for _, masks in names],
        bounds=size.bounds,
    )


def converted_folder(path: pathlib.Path, domain: Domain, shards: int) -> pathlib.Path:
    """Where the memory-mapped form of a folder's shards lies."""
    return path / f"converted-{domain.name}-{fingerprint(path, shards)}"


def _converted(
    path: pathlib.Path, domain: Domain, specs: dict[str, mapped.ArraySpec], tasks: list[int], sparse: bool, shards: int
) -> dict[str, np.ndarray]:
    """Maps of the converted files, after those that are not there yet were made, one shard in memory at a time."""
    folder, files = converted_folder(path, domain, shards), shard_files(path, shards)

    def make(missing: Mapping[str, mapped.ArraySpec]) -> Iterator[Mapping[str, np.ndarray]]:
        size = sum(spec.nbytes for spec in missing.values()) / 2**30
        print(f"converting {len(files)} shards, once: {size:,.2f} GiB into {folder}", flush=True)
        return _transitions(tqdm(files, unit="shard"), domain, tasks, sparse)

    return mapped.open_maps(folder, specs, make)


def _transitions(
    files: Iterable[pathlib.Path], domain: Domain, tasks: list[int], sparse: bool
) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of one file after the other, `rows` counted from the first row of all."""
    simulator, first = OGBenchSimulator(domain, tasks[0]), 0
    try:
        for file in files:
            piece = _of_file(file, domain, simulator, tasks, sparse)
            piece["rows"] += np.int32(first)
            first += len(piece["observations"])
            yield piece
            del piece  # or it stays while the next one is made
    finally:
        simulator.close()


def _of_file(
    file: pathlib.Path, domain: Domain, simulator: OGBenchSimulator, tasks: list[int], sparse: bool
) -> dict[str, np.ndarray]:
    """One file's rows as transitions; a row that ends an episode has no usable action and is no transition."""
    from ogbench.relabel_utils import relabel_dataset

    _check_partner(file)
    read_file(partner(file), domain)
    arrays = read_file(file, domain)
    _check_domain(file, domain, simulator.env, arrays["qpos"])
    rows = np.flatnonzero(~arrays["terminals"]).astype(np.int32)
    result = {
        "observations": arrays["observations"],
        "actions": arrays["actions"][rows],
        "rows": rows,
        "terminals": arrays["terminals"][rows + 1],
    }
    state = {key: arrays[key][rows] for key in ("qpos", "button_states") if key in arrays}
    for task in tasks:
        simulator.set_task(task)
        relabel_dataset(env_id(domain, task), simulator.env, state)
        rewards = np.where(state["rewards"] != 0, -1, 0) if sparse else state["rewards"]
        for name, array in zip(task_names(task, sparse), (rewards, state["masks"]), strict=True):
            result[name] = array.astype(np.float32)
    return result


def find(
    domain: Domain, dataset: str, dataset_dir: str, *, episodes: int, seed: int, shards: int, download: str
) -> pathlib.Path:
    """The file or folder that `--dataset` means: "auto", "generate" or a path. May download or generate it."""
    folder = expand(dataset_dir)
    if dataset == "generate":
        target = folder / "generated" / f"{dataset_name(domain)}-{episodes}-episodes-seed-{seed}"
        return generate.generate(domain.name, episodes=episodes, seed=seed, out_dir=target)
    if dataset != "auto":
        path = expand(dataset)
        if not path.exists():
            raise DataError(f"--dataset={dataset}: no such file or folder (or one of the words auto, generate)")
        return path
    if shards and _has_shards(folder / sources.shard_folder(domain), shards):  # by whatever names
        return folder / sources.shard_folder(domain)
    wanted = sources.file_set(domain, shards)
    try:
        downloads.obtain(wanted, folder, download=download, damage=damage)
    except (DownloadError, DataError) as error:
        way_out = (
            "Put it there, give its place as --dataset=PATH, or let --dataset=generate make a small one."
            if domain.name in generate.GENERATABLE
            else "Put it there, or give its place as --dataset=PATH; this domain's data cannot be generated here."
        )
        raise DataError(f"{error}. {way_out}") from error
    path = folder / wanted.names[0]
    return path.parent if shards else path


def _has_shards(path: pathlib.Path, shards: int) -> bool:
    """Whether a folder has so many shards, each with its validation file."""
    try:
        return path.is_dir() and len(shard_files(path, shards)) == shards
    except DataError:
        return False
