"""Reads the reference vectors of tests/golden into this suite's names, and compares leaf by leaf."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import FrozenConfigDict

import agents
from trqam_jax.types import Batch, Spec

FOLDER = pathlib.Path(__file__).parent / "golden"
SPEC = Spec(observation_dim=7, action_dim=3, horizon=5)

#: Names of the vectors' settings in this suite's configuration.
SETTINGS = {
    "discount": "discount",
    "actor_hidden_dims": "hidden_dims",
    "actor_layer_norm": "actor_layer_norm",
    "num_qs": "num_critics",
    "rho": "rho",
    "tau": "tau",
    "flow_steps": "flow_steps",
    "best_of_n": "best_of_n",
    "lr": "learning_rate",
    "kl_budget": "kl_budget",
    "eta_lambda": "eta",
    "kl_ema_coef": "kl_average",
    "kl_clip_coef": "kl_clip",
    "lambda_min": "lambda_min",
    "lambda_max": "lambda_max",
    "lam_scale": "lam_scale",
}


class Vectors:
    """One file: `tree("param")`, `batch()`, `noise(i)`, `out("info/...", i)`, `config(agent)`."""

    def __init__(self, name):
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.meta = json.loads(str(self.arrays["meta"]))

    def tree(self, root):
        """{network: parameters}; the wrapping module's name is dropped, which this suite's networks do not have."""
        flat = {}
        for path, value in self.arrays.items():
            parts = path.split("/")
            if parts[0] == root:
                inner = [p for p in parts[2:] if p not in ("mlp", "value_net", "MLP_0")]
                flat[(parts[1], *inner)] = jnp.asarray(value)
        return traverse_util.unflatten_dict(flat)

    def group(self, root, update=None):
        prefix = root + "/" if update is None else f"{root}/{update}/"
        return {k.removeprefix(prefix): jnp.asarray(v) for k, v in self.arrays.items() if k.startswith(prefix)}

    def batch(self, update=None):
        x = self.group("in", update)
        last = {name: x[name][:, -1] for name in ("rewards", "masks", "valid", "next_observations")}
        return Batch(observations=x["observations"], actions=x["actions"], **last)

    def config(self, agent, **overrides):
        config = agents.default_config(agent)
        for theirs, ours in SETTINGS.items():
            if theirs in self.meta and ours in config:
                value = self.meta[theirs]
                config[ours] = tuple(value) if isinstance(value, list) else value
        config.update(overrides)
        return FrozenConfigDict(config)


def assert_close(actual, expected, name, tolerance=1e-5):
    """max|a - b| <= tolerance * max|b|."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    error, scale = np.abs(actual - expected).max(), np.abs(expected).max()
    assert error <= tolerance * scale, f"{name}: off by {error:.3g} where the largest entry is {scale:.3g}"


def assert_trees_close(actual, expected, name, tolerance=1e-5):
    """Leaf by leaf, over the leaves of `actual`, all of which `expected` must have."""
    expected = traverse_util.flatten_dict(expected)
    for path, leaf in traverse_util.flatten_dict(actual).items():
        assert_close(leaf, expected[path], f"{name}/{'/'.join(path)}", tolerance)
