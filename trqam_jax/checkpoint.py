"""Saving and loading parameters with orbax."""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from trqam_jax.errors import UserError
from trqam_jax.logging import read_json, write_json
from trqam_jax.types import Params

META = "trqam_jax.json"


def save_params(path: pathlib.Path, params: Params, meta: Mapping[str, Any]) -> None:
    """A folder with the parameters and `meta`, to which a fingerprint of the parameters' bytes is added.

    The meta file comes last: a folder without it is no checkpoint.
    """
    path = path.resolve()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "params", params, force=True)
    digest = hashlib.sha256()
    for key, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(key).encode() + np.asarray(leaf).tobytes())
    write_json(path / META, {**meta, "fingerprint": digest.hexdigest()})


def read_meta(path: pathlib.Path) -> dict[str, Any]:
    """What was saved as `meta`; a UserError if `path` is no checkpoint of `save_params`."""
    file = path / META
    if not file.is_file():
        raise UserError(f"{path}: not a checkpoint of this suite (it has no {META})")
    return read_json(file, ("fingerprint", "seeds", "steps"))


def load_params(path: pathlib.Path, like: Params) -> Params:
    """Parameters with the structure and shapes of `like` (arrays or shapes); UserError names what does not fit."""
    read_meta(path)
    if not (path / "params" / "_METADATA").is_file():
        raise UserError(f"{path}: damaged, its parameters are not there")
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path.resolve() / "params").item_metadata
        differences = _differences(dict(stored.tree if hasattr(stored, "tree") else stored), expected)
        if differences:
            raise UserError(f"{path}: does not fit these networks: {differences[0]}")
        return checkpointer.restore(path.resolve() / "params", expected)


def _differences(stored: Any, expected: Any) -> list[str]:
    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        return {
            jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }

    have, want = shapes(stored), shapes(expected)
    return [
        f"{name} has shape {have.get(name, 'none')}, expected {want.get(name, 'none')}"
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]
