"""Released checkpoints in this library's format: python -m trqam_jax.interop.checkpoints params_300000.pkl out/

The result is a BC policy as trqam_jax.checkpoint keeps it: a flow's velocity parameters, of one policy for all seeds.
The pickle is read by trqam_jax.interop.safe_pickle, which runs nothing that it names.
"""

import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trqam_jax import checkpoint
from trqam_jax.console import Parser
from trqam_jax.errors import UserError, suggest
from trqam_jax.interop import safe_pickle
from trqam_jax.types import Params

PREFIX = "modules_"  # of the released names of networks


def velocity_params(tree: Any, network: str = "actor_slow") -> Params:
    """The flow `network` of a released checkpoint's tree as parameters of `Velocity`; UserError if it is none."""
    modules = tree
    for key in ("agent", "network", "params"):
        modules = _names(modules).get(key)
    modules = {name.removeprefix(PREFIX): module for name, module in _names(modules).items()}
    if not modules:
        raise UserError("not a released checkpoint: it has no agent/network/params")
    if network not in modules:
        raise UserError(f"it has no network {network!r}.{suggest(network, modules)}")
    layers = _names(_names(modules[network]).get("mlp", modules[network]))
    depth = sum(name.startswith("Dense_") for name in layers)
    norms = depth - 1 if "LayerNorm_0" in layers else 0
    expected = {f"Dense_{i}": ("kernel", "bias") for i in range(depth)}
    expected |= {f"LayerNorm_{i}": ("scale", "bias") for i in range(norms)}
    if not depth or layers.keys() != expected.keys():
        raise UserError(f"its network {network!r} is no flow policy: it holds {', '.join(layers) or 'nothing'}")
    params = {
        layer: {name: _array(_names(layers[layer]).get(name), f"{network}/{layer}/{name}") for name in names}
        for layer, names in expected.items()
    }
    width = params["Dense_0"]["kernel"].shape[0]
    for i in range(depth):
        dense, norm = params[f"Dense_{i}"], params.get(f"LayerNorm_{i}", {})
        inputs, outputs = dense["kernel"].shape
        if inputs != width or any(x.shape != (outputs,) for x in (dense["bias"], *norm.values())):
            raise UserError(f"its network {network!r} is no flow policy: the shapes at Dense_{i} do not fit")
        width = outputs
    return params


def _names(tree: Any) -> dict[str, Any]:
    """The tree if it is a dict of names, else an empty one."""
    named = isinstance(tree, dict) and all(isinstance(key, str) and key.isidentifier() for key in tree)
    return tree if named else {}


def _array(x: Any, name: str) -> np.ndarray:
    dimensions = 2 if name.endswith("kernel") else 1
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim == dimensions):
        raise UserError(f"its {name} is not an array of floats with {dimensions} dimension(s)")
    return x.astype(np.float32)


def updates_of(path: pathlib.Path, tree: Any) -> int:
    """Updates behind a checkpoint: the number in params_300000.pkl, or else the released counter, which starts at 1."""
    if match := re.search(r"_(\d+)\.\w+$", path.name):
        return int(match[1])
    step = tree["agent"]["network"].get("step")
    whole = type(step) is int or (
        isinstance(step, (np.ndarray, np.generic)) and step.dtype.kind in "iu" and not step.ndim
    )
    return max(int(step) - 1, 0) if whole else 0


def import_checkpoint(
    path: pathlib.Path,
    out: pathlib.Path,
    *,
    network: str = "actor_slow",
    env: str | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Params:
    """The flow of the pickle `path`, saved to the new folder `out`. Returns its parameters, without a leading axis.

    provenance: where the pickle is from, kept beside them.
    """
    if out.exists():
        raise UserError(f"{out}: exists already")
    tree = safe_pickle.load(path)
    try:
        params = velocity_params(tree, network)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    one_policy = {layer: {name: x[None] for name, x in arrays.items()} for layer, arrays in params.items()}
    meta = {"env": env, "steps": updates_of(path, tree), "seeds": [0], "imported_from": path.name, "network": network}
    if provenance is not None:
        meta["provenance"] = dict(provenance)
    try:
        checkpoint.save_params(out, one_policy, meta)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror or error}") from None
    return params


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python -m trqam_jax.interop.checkpoints", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("pickle", type=pathlib.Path, help="a released checkpoint, such as params_300000.pkl")
    parser.add_argument("out", type=pathlib.Path, help="the folder to make")
    parser.add_argument("--network", default="actor_slow", help="the flow to take (default: %(default)s)")
    parser.add_argument("--env", help="a note in the result: the domain that it was trained on")
    arguments = parser.parse_args(argv)
    try:
        params = import_checkpoint(arguments.pickle, arguments.out, network=arguments.network, env=arguments.env)
    except UserError as error:
        sys.exit(f"error: {error}")
    widths = [len(layer["bias"]) for name, layer in params.items() if name.startswith("Dense_")]
    norm = "with" if "LayerNorm_0" in params else "without"
    inputs = params["Dense_0"]["kernel"].shape[0]
    print(f"flow: hidden layers {widths[:-1]}, {norm} layer norm; O + D + 1 = {inputs}, D = {widths[-1]}")
    print(f"{arguments.out}: a BC policy of {checkpoint.read_meta(arguments.out)['steps']:,} updates")


if __name__ == "__main__":
    main()
