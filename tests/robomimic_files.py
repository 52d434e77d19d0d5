"""Small files in robomimic's layout, for tests: random numbers of the right shapes. Without h5py, tests are skipped."""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from envs.base import Domain
from envs.robomimic.domains import ENV_NAMES, observation_widths

h5py = pytest.importorskip("h5py", reason="h5py writes the files")


def env_args(domain: Domain) -> dict:
    """What files of version 1.5 say of their environment, as far as it is checked."""
    controllers = {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE"}}}
    kwargs = {"robots": ["Panda"], "controller_configs": controllers}
    return {"env_name": ENV_NAMES[domain.name], "env_version": "1.5.1", "type": 1, "env_kwargs": kwargs}


def write(
    path: pathlib.Path,
    domain: Domain,
    lengths: Sequence[int] = (8, 6),
    *,
    seed: int = 0,
    order: Sequence[int] | None = None,
    change: Callable[[Any], None] | None = None,
) -> pathlib.Path:
    """demo_i has lengths[i] transitions, the last of which solves the task.

    order: in which the demonstrations are written. change: what to spoil before the file is closed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args(domain))
        data.attrs["total"] = sum(lengths)
        for number in range(len(lengths)) if order is None else order:
            rng, length = np.random.default_rng([seed, number]), lengths[number]
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["model_file"] = length, "<mujoco/>"
            demo["actions"] = rng.uniform(-1, 1, (length, domain.action_dim))
            demo["states"] = rng.normal(size=(length, 30))
            last = np.arange(length) == length - 1
            demo["rewards"], demo["dones"] = last.astype(np.float64), last.astype(np.int64)
            for key, width in observation_widths(domain).items():
                values = rng.normal(size=(length + 1, width))
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = values[:-1], values[1:]
        if change is not None:
            change(file)
    return path
