"""Exported policies, as strangers may have made them: policy.json and policy.safetensors."""

import functools
import json
import pathlib
import shutil
import struct
import tempfile
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.judge import Fault, Kind, copied, damaged, damages, one_of, outcome
from trqam_jax import policy_files
from trqam_jax.files import sha256_file
from trqam_jax.policy import flow_arrays, flow_manifest
from trqam_jax.policy_files import ARRAYS, CARD, MANIFEST, Noise
from trqam_jax.scaling import Scaling
from trqam_jax.types import Spec

SPEC = Spec(observation_dim=2, action_dim=1, horizon=2)


@functools.cache
def _original() -> pathlib.Path:
    """A flow policy, made once."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="trqam_jax-fuzz-")) / "policy"
    rng = np.random.default_rng(0)
    velocity = {
        "Dense_0": {"kernel": rng.normal(size=(5, 3)).astype(np.float32), "bias": np.zeros(3, np.float32)},
        "Dense_1": {"kernel": rng.normal(size=(3, 2)).astype(np.float32), "bias": np.zeros(2, np.float32)},
    }
    about = {"env": "cube-single", "steps": 7, "exported_by": "fuzz", "protocol": "quick"}
    scaling = Scaling(np.zeros(2, np.float32), np.ones(2, np.float32))
    manifest, arrays = flow_manifest(
        velocity, flow_steps=3, spec=SPEC, scaling=scaling, noise=Noise(1, "bc", 7), about=about
    )
    policy_files.write(folder, manifest, arrays, lambda digest: f"# a policy\n{digest}\n")
    return folder


def _content(folder: pathlib.Path) -> tuple[Any, ...]:
    """All that decides how the policy acts."""
    from agents.policy import load

    load(folder)
    stored = policy_files.read(folder)
    manifest, arrays = stored.manifest, flow_arrays(stored)
    scaling = None if manifest.scaling is None else manifest.scaling.to_json()
    values = [np.asarray(x).tobytes() for layer in arrays.values() for x in layer.values()]
    return (*manifest._replace(scaling=None, about={}), scaling, *values)


def _play_bytes(case: tuple[str, Any]) -> None:
    """Right is the policy as it was; nothing that is damaged may act otherwise."""
    name, damage = case
    with copied(_original()) as folder:
        path = folder / name
        path.write_bytes(damaged(path.read_bytes(), damage))
        found = outcome(_content, folder)
        if found.error is None and found.result != _content(_original()):
            raise Fault("the policy changed, and nothing tells")


def _play_file(case: tuple[str, str]) -> None:
    name, how = case
    with copied(_original()) as folder:
        path = folder / name
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "link to itself":
            path.symlink_to(name)
        elif how == "a device":
            path.symlink_to("/dev/zero")
        outcome(_content, folder)


VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1.5, 2**31, 2**63, 10**400, float("nan"), float("inf"), 1e308, "", "x", "../../x",
    "a\nb", [], [1], [10**9], [-1], [1.5], [[1]], [True], {}, {"a": 1}, {"low": [0, 0], "high": [1, float("nan")]},
    {"low": [1], "high": [2]}, "flow", "agent", "trqam", "bc", "\ud800", "a" * 10_000, [3] * 101,
    {"hidden_dims": [3], "layer_norm": True, "flow_steps": 2},
)  # fmt: skip


def _play_manifest(case: tuple[float, Any, bool]) -> None:
    """One value of policy.json is another, or gone, its digests right, as a stranger can write it."""
    place, value, unknown = case
    with copied(_original()) as folder:
        path = folder / MANIFEST
        content = json.loads(path.read_text())
        part, key = one_of(content, place)
        if value == "DELETE":
            del part[key]
        else:
            part["unknown" if unknown else key] = value
        if key != "checksum" and "checksum" in content:
            content["checksum"] = policy_files.checksum(content)
        path.write_text(json.dumps(content))
        outcome(_content, folder)


@functools.cache
def _original_agent() -> pathlib.Path:
    """A policy of FQL, made once."""
    import agents
    from agents.policy import arrays_of

    folder = pathlib.Path(tempfile.mkdtemp(prefix="trqam_jax-fuzz-")) / "policy"
    settings = {**agents.default_config("fql").to_dict(), "hidden_dims": [4], "num_critics": 2}
    shapes = arrays_of("fql", SPEC, agents.make_config("fql", **settings))
    arrays = {name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    about = {"env": "cube-single", "steps": 7, "exported_by": "fuzz", "protocol": "quick"}
    manifest = policy_files.Manifest(
        policy_files.AGENT, "fql", settings, SPEC, None, "default", Noise(1, "offline", 7), about
    )
    policy_files.write(folder, manifest, arrays, lambda digest: f"# a policy\n{digest}\n")
    return folder


def _play_agent(case: tuple[float, Any]) -> None:
    """One setting of a trained agent's policy is another."""
    from agents.policy import load

    place, value = case
    content = json.loads((_original_agent() / MANIFEST).read_text())
    names = [*content["settings"], "unknown", "__class__"]
    content["settings"][names[int(place * len(names))]] = value
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "policy"
        shutil.copytree(_original_agent(), folder)
        (folder / MANIFEST).write_text(json.dumps({**content, "checksum": policy_files.checksum(content)}))
        outcome(load, folder)


HEADERS: tuple[Any, ...] = (
    {}, [], None, 1, {"velocity/Dense_0/kernel": 1}, {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"velocity/Dense_0/kernel": {"dtype": "F32", "shape": [5, 3], "data_offsets": [0, 2**60]}},
    {"velocity/Dense_0/kernel": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 60]}},
    {"velocity/Dense_0/kernel": {"dtype": "F32", "shape": [-1], "data_offsets": [60, 0]}},
    {"velocity/Dense_0/kernel": {"dtype": "F4", "shape": [5, 3], "data_offsets": [0, 60]}},
    {"__metadata__": {"a": 1}}, {"../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
)  # fmt: skip


def _play_header(case: tuple[Any, int]) -> None:
    """A header of safetensors, with the digest of the file that it is in."""
    header, length = case
    with copied(_original()) as folder:
        text = json.dumps(header).encode()
        (folder / ARRAYS).write_bytes(struct.pack("<Q", length or len(text)) + text + bytes(100))
        content = json.loads((folder / MANIFEST).read_text())
        content["digest"] = sha256_file(folder / ARRAYS)
        if "checksum" in content:
            content["checksum"] = policy_files.checksum(content)
        (folder / MANIFEST).write_text(json.dumps(content))
        outcome(_content, folder)


_names = st.sampled_from((MANIFEST, ARRAYS, CARD))
KINDS = {
    "policies: bytes": Kind(st.tuples(_names, damages), _play_bytes),
    "policies: files": Kind(
        st.tuples(_names, st.sampled_from(("missing", "folder", "link to itself", "a device"))), _play_file
    ),
    "policies: policy.json": Kind(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from((*VALUES, "DELETE")), st.booleans()),
        _play_manifest,
    ),
    "policies: settings": Kind(st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(VALUES)), _play_agent),
    "policies: headers": Kind(
        st.tuples(st.sampled_from(HEADERS), st.sampled_from((0, 0, 1, 2**30, 2**63))), _play_header
    ),
}
