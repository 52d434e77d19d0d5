"""The pytrees everything else passes around, and the shape letters of every docstring.

R replicas (seeds x tasks), B batch, K flow steps, H chunk length, O observation size, A action size, D = H * A (a
chunk, flattened time-major), Q critics of an ensemble, N transitions, M rows of a file (N plus one last state per
episode).
"""

from typing import Any, NamedTuple

import jax

Params = Any  # a pytree of arrays
Array = jax.Array


class Spec(NamedTuple):
    """Sizes an agent is built for."""

    observation_dim: int  # O
    action_dim: int  # A
    horizon: int  # H

    @property
    def chunk_dim(self) -> int:
        """D = H * A."""
        return self.horizon * self.action_dim


class Batch(NamedTuple):
    """B windows of H transitions (conventions: `trqam_jax.data.assemble`)."""

    observations: Array  # (B, O), before the first action
    actions: Array  # (B, H, A)
    rewards: Array  # (B,), sum of gamma^i r_i over the window's valid steps
    masks: Array  # (B,), 0 where a valid step of the window ended the task
    valid: Array  # (B,), 0 where the window crosses an episode's end; weighs the losses
    next_observations: Array  # (B, O), after the last valid step

    @property
    def chunks(self) -> Array:
        """Actions as (B, D)."""
        return self.actions.reshape(self.actions.shape[0], -1)
