"""OGBench's npz and Robomimic's HDF5: damaged bytes, and sound files with something else in them.

Right is the file's own content, or another one under another fingerprint: a run that goes on with other data than it
began with has another folder, and says so.
"""

import functools
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.judge import Fault, Kind, damaged, damages, outcome
from envs.ogbench import files as ogbench
from envs.ogbench.domains import DOMAINS
from envs.robomimic import files as robomimic
from envs.robomimic.domains import DOMAINS as ROBOMIMIC
from envs.robomimic.domains import ENV_NAMES, observation_widths

LENGTHS = (9, 7, 12)  # rows of the episodes; a window is 5
Arrays = dict[str, np.ndarray]

# ---- what is done to an array


def _put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(array: np.ndarray) -> np.ndarray:
        array = array.astype(float)
        array[len(array) // 2] = value
        return array.astype(np.float32)

    return put


#: Those that leave the values as they were.
HARMLESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
}
EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **HARMLESS,
    **{f"as {name}": lambda array, name=name: array.astype(name) for name in ("f8", "f2", "i4", "i8", "u1", "?", "c8")},
    "as texts": lambda array: array.astype("U8"),
    "as bytes": lambda array: array.astype("S8"),
    "as times": lambda array: np.zeros(array.shape, "M8[s]"),
    "as records": lambda array: np.zeros(array.shape, [("a", "f4")]),
    "as objects": lambda array: array.astype(object),
    "nan": _put(np.nan),
    "infinity": _put(np.inf),
    "-infinity": _put(-np.inf),
    "huge": _put(3e38),
    "two": _put(2.0),
    "half": _put(0.5),
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "one row": lambda array: array[:1],
    "no row": lambda array: array[:0],
    "a row less": lambda array: array[:-1],
    "a row more": lambda array: np.concatenate([array, array[-1:]]),
    "a column less": lambda array: array[..., :-1] if array.ndim > 1 else array[:, None],
    "a dimension more": lambda array: array[..., None],
    "a dimension less": lambda array: array.reshape(-1),
    "transposed": lambda array: array.T.copy(),
    "a single value": lambda array: np.array(array.flat[0]),
    "reversed": lambda array: array[::-1].copy(),
    "rolled": lambda array: np.roll(array, 1, axis=0),
}


# ---- OGBench


@functools.cache
def _npz_arrays() -> Arrays:
    domain, rng = DOMAINS["cube-single"], np.random.default_rng(0)
    rows = sum(LENGTHS)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(LENGTHS) - 1] = True
    return {
        "observations": rng.normal(size=(rows, domain.observation_dim)).astype(np.float32),
        "actions": rng.uniform(-0.9, 0.9, (rows, domain.action_dim)).astype(np.float32),
        "terminals": terminals,
        "qpos": rng.normal(size=(rows, 21)).astype(np.float32),
        "qvel": rng.normal(size=(rows, 20)).astype(np.float32),
    }


def _write_npz(path: pathlib.Path, arrays: Arrays, compressed: bool) -> None:
    save: Any = np.savez_compressed if compressed else np.savez
    save(path, **arrays)


def _read_npz(path: pathlib.Path) -> tuple[str, Arrays]:
    domain = DOMAINS["cube-single"]
    ogbench.measure(path, domain, shards=0, horizon=domain.horizon)
    print_of = ogbench.fingerprint(path, 0)
    return print_of, ogbench.read_file(path, domain)


def _load_npz(path: pathlib.Path) -> None:
    domain = DOMAINS["cube-single"]
    with mock.patch.object(ogbench, "OGBenchSimulator", _simulator):
        ogbench.load(path, domain, [1], domain.horizon, sparse=False, shards=0)


@functools.cache
def _simulator(*arguments: Any) -> Any:
    """One for all cases; closing it does nothing."""
    from envs.ogbench.simulators import OGBenchSimulator

    simulator = OGBenchSimulator(*arguments)
    simulator.close = lambda: None
    return simulator


def _play_npz(change: Callable[[Arrays], Arrays], damage: Any, compressed: bool, simulate: bool) -> None:
    original, changed = _npz_arrays(), change(dict(_npz_arrays()))
    with tempfile.TemporaryDirectory() as folder:
        good, path = pathlib.Path(folder) / "good.npz", pathlib.Path(folder) / "cube-single-play-v0.npz"
        _write_npz(good, original, compressed)
        _write_npz(ogbench.partner(path), original, compressed)
        _write_npz(path, changed, compressed)
        if damage is not None:
            path.write_bytes(damaged(path.read_bytes(), damage))
        found = outcome(_read_npz, path)
        if found.error is None:
            own, arrays = found.result
            _compare(arrays, original, own == ogbench.fingerprint(good, 0))
            if simulate:
                outcome(_load_npz, path)


def _compare(found: Arrays, original: Arrays, same_print: bool) -> None:
    """Fault if other values stand under the fingerprint of the original ones."""
    for key, array in found.items():
        equal = array.tobytes() == original[key].astype(array.dtype).tobytes()
        if same_print and not equal:
            raise Fault(f"{key} changed, and neither an error nor the fingerprint tells")


def _reordered(order: tuple[int, ...]) -> Callable[[Arrays], Arrays]:
    """Episodes in another order."""
    ends = np.cumsum((0, *LENGTHS))
    rows = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in order])
    return lambda arrays: {key: array[rows] for key, array in arrays.items()}


def _play_npz_order(case: tuple[tuple[int, ...], bool]) -> None:
    """Right: the same rows in that order, under another fingerprint."""
    order, compressed = case
    change = _reordered(order)
    expected = change(_npz_arrays())
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / f"cube-single-play-v0{i}.npz" for i in range(2)]
        _write_npz(paths[0], _npz_arrays(), compressed)
        _write_npz(paths[1], expected, compressed)
        found = outcome(_read_npz, paths[1])
        if found.error is not None:
            raise Fault(f"refused: {found.error}")
        own, arrays = found.result
        for key, array in arrays.items():
            if not np.array_equal(array, expected[key]):
                raise Fault(f"{key} is not in the order of the file")
        if (own == ogbench.fingerprint(paths[0], 0)) != (order == tuple(range(len(LENGTHS)))):
            raise Fault("the fingerprint does not tell the order")


def _edit(key: str, name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, key: EDITS[name](arrays[key])}


def _without(key: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {name: array for name, array in arrays.items() if name != key}


_more = st.sampled_from(("next_observations", "timeouts", "provenance", "allow_pickle", "../x", ""))


def _with(key: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, key: np.zeros(3)}


_keys = st.sampled_from(("observations", "actions", "terminals", "qpos"))
_places = st.sampled_from([i / 10 for i in range(10)])


# ---- Robomimic


def write_hdf5(path: pathlib.Path, change: Callable[[Any], None] = lambda file: None, order: Any = None) -> None:
    import h5py  # pyright: ignore[reportMissingImports]

    domain = ROBOMIMIC["robomimic-can"]
    controllers = {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE"}}}
    kwargs = {"robots": ["Panda"], "controller_configs": controllers}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(
            {"env_name": ENV_NAMES[domain.name], "env_version": "1.5.1", "type": 1, "env_kwargs": kwargs}
        )
        data.attrs["total"] = sum(LENGTHS)
        for number in range(len(LENGTHS)) if order is None else order:
            rng, length = np.random.default_rng([0, number]), LENGTHS[number]
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            last = np.arange(length) == length - 1
            demo["actions"] = rng.uniform(-0.9, 0.9, (length, domain.action_dim))
            demo["rewards"], demo["dones"] = last.astype(np.float64), last.astype(np.int64)
            for key, width in observation_widths(domain).items():
                values = rng.normal(size=(length + 1, width))
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = values[:-1], values[1:]
        change(file)


def _read_hdf5(path: pathlib.Path) -> tuple[str, Arrays]:
    domain = ROBOMIMIC["robomimic-can"]
    print_of = robomimic.fingerprint(path)
    arrays = robomimic.load(path, domain, horizon=domain.horizon)
    fields = {name: np.asarray(getattr(arrays, name)) for name in arrays._fields}
    return print_of, fields


def _play_hdf5(change: Callable[[Any], None], damage: Any, must_be_equal: bool = False, order: Any = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        good, path = pathlib.Path(folder) / "good.hdf5", pathlib.Path(folder) / "can.hdf5"
        write_hdf5(good)
        write_hdf5(path, change, order)
        if damage is not None:
            path.write_bytes(damaged(path.read_bytes(), damage))
        expected, original = _read_hdf5(good)
        found = outcome(_read_hdf5, path)
        if found.error is None:
            own, arrays = found.result
            _compare(arrays, original, own == expected)
        if must_be_equal and (found.error is not None or found.result[0] != expected):
            raise Fault(f"{found.error or 'another fingerprint'}, where nothing that counts was changed")


def _edit_hdf5(key: str, name: str, demo: int) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        group = file[f"data/demo_{demo}"]
        array = EDITS[name](group[key][()])
        del group[key]
        group[key] = array.astype("S40") if array.dtype.kind in "UM" else array

    return change


_ATTRIBUTES: tuple[Any, ...] = (
    None,
    "",
    "x",
    "null",
    "[]",
    "{}",
    '{"env_name": 1}',
    -1,
    2**62,
    1.5,
    float("nan"),
    b"\xff",
)


def _set_attribute(where: str, name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        if value is None:
            del file[where].attrs[name]
        else:
            file[where].attrs[name] = value

    return change


def _replace(where: str, what: str) -> Callable[[Any], None]:
    """A part of the file is gone, or something else."""

    def change(file: Any) -> None:
        import h5py  # pyright: ignore[reportMissingImports]

        del file[where]
        if what == "group":
            file.create_group(where)
        elif what == "number":
            file[where] = 1.0
        elif what == "link to nothing":
            file[where] = h5py.SoftLink("/nowhere")
        elif what == "link elsewhere":
            file[where] = h5py.ExternalLink("/nonexistent.hdf5", "/data")
        elif what == "link to itself":
            file[where] = h5py.SoftLink(where)
        elif what == "nothing stored":
            file[where] = h5py.Empty("f4")

    return change


def _edit_of(key: str, name: str) -> Callable[[Any], bool]:
    """Whether numpy can make that array at all."""
    try:
        EDITS[name](_npz_arrays()[key])
    except (ValueError, TypeError):
        return lambda _: False
    return lambda _: True


def _play_npz_edit(key: str, name: str, compressed: bool, simulate: bool) -> None:
    if _edit_of(key, name)(None):
        _play_npz(_edit(key, name), None, compressed, simulate)


def _play_hdf5_edit(key: str, name: str, demo: int) -> None:
    try:
        _play_hdf5(_edit_hdf5(key, name, demo), None)
    except TypeError as error:
        if "no native HDF5 equivalent" not in str(error) and "Object dtype" not in str(error):
            raise  # else h5py cannot write it


_hdf5_keys = st.sampled_from(("actions", "rewards", "dones", "obs/object", "next_obs/object", "obs/robot0_eef_pos"))
_wheres = st.sampled_from(
    ("data", "data/demo_0", "data/demo_1/obs", "data/demo_1/obs/object", "data/demo_1/actions", "data/demo_2/dones")
)
_whats = st.sampled_from(
    ("", "group", "number", "link to nothing", "link elsewhere", "link to itself", "nothing stored")
)
_attribute = st.tuples(
    st.sampled_from((("data", "env_args"), ("data", "total"), ("data/demo_1", "num_samples"))),
    st.sampled_from(_ATTRIBUTES),
)


def kinds(simulate: bool = False) -> dict[str, Kind]:
    """By name. simulate: relabel what can be read, which takes a simulator."""
    same = lambda arrays: arrays
    found = {
        "npz: bytes": Kind(st.tuples(damages, st.booleans()), lambda case: _play_npz(same, case[0], case[1], simulate)),
        "npz: truncated": Kind(
            st.tuples(_places, st.booleans()), lambda case: _play_npz(same, ("cut", case[0], 1), case[1], False)
        ),
        "npz: arrays": Kind(
            st.tuples(_keys, st.sampled_from(sorted(EDITS)), st.booleans()),
            lambda case: _play_npz_edit(*case, simulate),
        ),
        "npz: missing": Kind(_keys, lambda key: _play_npz(_without(key), None, False, simulate)),
        "npz: more": Kind(_more, lambda key: _play_npz(_with(key), None, False, simulate)),
        "npz: reordered": Kind(st.tuples(st.permutations((0, 1, 2)).map(tuple), st.booleans()), _play_npz_order),
    }
    try:
        import h5py  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return found
    nothing = lambda file: None
    return {
        **found,
        "hdf5: bytes": Kind(damages, lambda damage: _play_hdf5(nothing, damage)),
        "hdf5: truncated": Kind(_places, lambda place: _play_hdf5(nothing, ("cut", place, 1))),
        "hdf5: arrays": Kind(
            st.tuples(_hdf5_keys, st.sampled_from(sorted(EDITS)), st.integers(0, 2)),
            lambda case: _play_hdf5_edit(*case),
        ),
        "hdf5: attributes": Kind(_attribute, lambda case: _play_hdf5(_set_attribute(*case[0], case[1]), None)),
        "hdf5: parts": Kind(st.tuples(_wheres, _whats), lambda case: _play_hdf5(_replace(*case), None)),
        "hdf5: reordered": Kind(
            st.permutations((0, 1, 2)), lambda order: _play_hdf5(nothing, None, must_be_equal=True, order=order)
        ),
    }
