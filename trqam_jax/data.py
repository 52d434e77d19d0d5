"""The dataset on the device, and windows of H transitions sampled from it inside the compiled step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from trqam_jax.types import Array, Batch


class Dataset(struct.PyTreeNode):
    """N transitions in file order, one copy for all replicas.

    Observations are stored once: transition i starts at row `rows[i]` and ends at `rows[i] + 1`.
    """

    observations: Array  # (M, O) float32, every row of the file
    actions: Array  # (N, A) float32
    rows: Array  # (N,) int32
    terminals: Array  # (N,) bool, last transition of an episode
    rewards: Array  # (T, N) float32, one row per task
    masks: Array  # (T, N) float32, 0 where the task is solved


def to_device(arrays: Any) -> Dataset:
    """Any object with the fields of `Dataset` as numpy arrays -> the same on the device."""
    return Dataset(**{name: jnp.asarray(getattr(arrays, name)) for name in Dataset.__dataclass_fields__})


def size_in_bytes(arrays: Any) -> int:
    """What `to_device` will take."""
    return sum(np.asarray(getattr(arrays, name)).nbytes for name in Dataset.__dataclass_fields__)


def assemble(
    actions: Array,
    rewards: Array,
    masks: Array,
    terminals: Array,
    *,
    observation: Array,
    next_observation: Callable[[Array], Array],
    discount: float,
) -> Batch:
    """One window, without the batch axis, from its H rows. The released code's conventions:

    a window may run into the next episode; actions there are kept; step i is valid unless an earlier step of the window
    was terminal, so a window that ends on a terminal is valid; rewards accumulate and the mask takes its minimum
    over valid steps; the next observation is that of the last valid step. A mask of 0 inside an episode stops neither.

    actions (H, A); rewards, masks, terminals (H,); observation (O,) of the first row; next_observation gives that of
    row i of the window.
    """
    ended = jnp.cumsum(terminals) > 0
    valid = jnp.concatenate([jnp.ones(1, bool), ~ended[:-1]])
    discounts = discount ** jnp.arange(len(actions))
    return Batch(
        observations=observation,
        actions=actions,
        rewards=jnp.sum(valid * discounts * rewards),
        masks=jnp.min(jnp.where(valid, masks, 1.0)),
        valid=valid[-1].astype(jnp.float32),
        next_observations=next_observation(valid.sum() - 1),
    )


def window(data: Dataset, task: Array, start: Array, horizon: int, discount: float) -> Batch:
    """The window from transition `start` on."""
    steps = start + jnp.arange(horizon)
    return assemble(
        data.actions[steps],
        data.rewards[task, steps],
        data.masks[task, steps],
        data.terminals[steps],
        observation=data.observations[data.rows[start]],
        next_observation=lambda i: data.observations[data.rows[start + i] + 1],
        discount=discount,
    )


def sample(data: Dataset, task: Array, key: Array, batch_size: int, horizon: int, discount: float) -> Batch:
    """B windows, their starts uniform over transitions 0 .. N - H."""
    starts = jax.random.randint(key, (batch_size,), 0, len(data.actions) - horizon + 1)
    return jax.vmap(lambda start: window(data, task, start, horizon, discount))(starts)
