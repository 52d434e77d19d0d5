"""A run's checkpoints with one thing wrong in one file: the state is read as it was, or an error names the file."""

import contextlib
import functools
import json
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.judge import Fault, Kind, copied, damaged, damages, outcome
from trqam_jax import checkpoint
from trqam_jax.checkpoint import Checkpoints, Place

PHASES = ("bc", "offline", "online")
PLACES = (Place("offline", 10), Place("offline", 20))


def _tree(place: Place) -> dict[str, Any]:
    rng = np.random.default_rng(place.step)
    kernel = rng.normal(size=(8, 8)).astype(np.float32)
    return {"train": {"params": {"kernel": kernel, "bias": np.zeros(8, np.float32)}}, "step": np.int32(place.step)}


@functools.cache
def _original() -> pathlib.Path:
    """Two checkpoints of a run, and a BC policy, made once."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="trqam_jax-fuzz-"))
    for place in PLACES:
        Checkpoints(folder / "run", PHASES).save(place, _tree(place))
    params = {"Dense_0": {"kernel": np.ones((1, 54, 25), np.float32), "bias": np.zeros((1, 25), np.float32)}}
    checkpoint.save_params(folder / "policy", params, {"env": "cube-single", "steps": 7, "seeds": [0]})
    return folder


def _newest(folder: pathlib.Path) -> tuple[Place, Any] | None:
    checkpoints = Checkpoints(folder, PHASES)
    place = checkpoints.newest()
    return None if place is None else (place, checkpoints.load(place, _tree(place)))


def _policy(folder: pathlib.Path) -> Any:
    checkpoint.read_policy_meta(folder)
    return checkpoint.load(folder, checkpoint.stored_shapes(folder))


def _spoil(path: pathlib.Path, how: str, damage: Any) -> None:
    if how == "bytes":
        path.write_bytes(damaged(path.read_bytes(), damage))
        return
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link to nothing":
        path.symlink_to("nowhere")
    elif how == "link to itself":
        path.symlink_to(path.name)


def _play_file(case: tuple[int, float, str, Any]) -> None:
    """One file of one of the two checkpoints: what is read is the state of one of them, to the bit."""
    which, where, how, damage = case
    with copied(_original()) as copy:
        root = copy / "run" / f"offline-{PLACES[which].step}"
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        _spoil(files[int(where * len(files))], how, damage)
        found = outcome(_newest, copy / "run")
        if found.error is None:
            _compare(*found.result)


def _compare(place: Place, tree: Any) -> None:
    for left, right in zip(jax.tree.leaves(tree), jax.tree.leaves(_tree(place)), strict=True):
        if not np.array_equal(left, right):
            raise Fault(f"the state at {place} changed, and nothing tells")


def _play_policy(case: tuple[float, str, Any]) -> None:
    where, how, damage = case
    with copied(_original()) as copy:
        files = [path for path in sorted((copy / "policy").rglob("*")) if path.is_file()]
        _spoil(files[int(where * len(files))], how, damage)
        found = outcome(_policy, copy / "policy")
        if found.error is None:
            expected = _policy(_original() / "policy")
            if not all(map(np.array_equal, jax.tree.leaves(found.result), jax.tree.leaves(expected))):
                raise Fault("the policy changed, and nothing tells")


def _play_export(flags: list[str]) -> None:
    """What is exported can be loaded."""
    from agents.policy import load
    from experiments import policy as command

    with copied(_original()) as copy:
        found = outcome(command.main, ["export", str(copy / "policy"), f"--out={copy / 'out'}", *flags])
        if found.error is None:
            load(copy / "out")


#: What a stranger's meta file may say, its digest right.
METAS: tuple[Any, ...] = (
    {"files": {}}, {"files": []}, {"files": None}, {"files": {"../../../etc/hostname": "0"}},
    {"files": {"/dev/zero": "0"}}, {"files": {"": "0"}}, {"files": {"a\nb": "0"}}, {"files": {"x" * 5000: "0"}},
    {"files": {"tree": "0"}}, {"seeds": []}, {"seeds": "x"}, {"seeds": None}, {"steps": "x"}, {"steps": -1},
    {"env": 1}, {"env": "nowhere"}, {"scaling": 1}, {"scaling": {"low": [2], "high": [1]}}, {"per_seed": "x"},
    {"fingerprint": 1},
)  # fmt: skip


def _play_meta(changes: dict[str, Any]) -> None:
    from experiments import policy as command
    from trqam_jax.files import sha256_json

    with copied(_original()) as copy:
        path = copy / "policy" / checkpoint.META
        content = {**json.loads(path.read_text()), **changes}
        content.pop("digest")
        path.write_text(json.dumps({**content, "digest": sha256_json(content)}))
        outcome(_policy, copy / "policy")
        outcome(command.main, ["export", str(copy / "policy"), f"--out={copy / 'out'}"])


def _play_names(names: list[str]) -> None:
    """Folders beside the checkpoints that are none."""
    with copied(_original()) as copy:
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                (copy / "run" / name).mkdir()
        found = outcome(_newest, copy / "run")
        if found.error is None:
            _compare(*found.result)


_hows = st.sampled_from(("bytes", "bytes", "bytes", "missing", "folder", "link to nothing", "link to itself"))
_fraction = st.floats(0, 1, exclude_max=True)
_names = st.sampled_from(
    ("offline-", "offline-30", "offline-x", "offline--1", "offline-1e3", "offline-\u0661", "online-5",
     ".offline-30.new", "offline-" + "9" * 30, "damaged-offline-20", "bc-1", "x", "offline-20 ", "offline-020")
)  # fmt: skip
_VALUES = ("0", "1", "-1", "7", "1000000000000", "9" * 5000, "cube-single", "cube-double", "", "x", "1.5")
KINDS = {
    "checkpoints: files": Kind(st.tuples(st.integers(0, 1), _fraction, _hows, damages), _play_file),
    "checkpoints: policies": Kind(st.tuples(_fraction, _hows, damages), _play_policy),
    "checkpoints: meta": Kind(st.sampled_from(METAS), _play_meta),
    "checkpoints: exports": Kind(
        st.lists(
            st.builds(
                "--{}={}".format, st.sampled_from(("flow_steps", "seed", "env", "task")), st.sampled_from(_VALUES)
            ),
            max_size=2,
        ),
        _play_export,
    ),
    "checkpoints: names": Kind(st.lists(_names, max_size=4, unique=True), _play_names),
}
