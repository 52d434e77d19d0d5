"""The pytrees everything else passes around, and the shape letters of every type and docstring.

R replicas (seeds x tasks x values of settings), B batch, K flow steps, H chunk length, O observation size, A action
size, D = H * A (a chunk, flattened time-major), Q critics of an ensemble, N transitions, M rows of a file (N plus one
last state per episode), n candidates of which one acts; "*n B" are any leading axes before B.
"""

import enum
from typing import Any, NamedTuple

import jax
import jaxtyping
import numpy as np
from jaxtyping import Float

Params = Any  # a pytree of arrays
Array = jax.Array
Key = jaxtyping.Key[Array, ""]  # of one random stream
Scalar = Float[Array, ""] | Float[np.ndarray, ""] | float  # a setting: traced, on the host, or a plain number


class Spec(NamedTuple):
    """Sizes an agent is built for."""

    observation_dim: int  # O
    action_dim: int  # A
    horizon: int  # H

    @property
    def chunk_dim(self) -> int:
        """D = H * A."""
        return self.horizon * self.action_dim


class Windows(enum.Enum):
    """How the windows of a minibatch are drawn from a dataset, and what they hold behind an episode's end."""

    ROWS = "rows"  # uniform over all rows; a window may run into the next episode (`trqam_jax.data.assemble`)
    EPISODES = "episodes"  # uniform over episodes, then rows; an episode's last row is repeated (`assemble_repeated`)


class Batch(NamedTuple):
    """B windows of H transitions (conventions: `Windows`)."""

    observations: Float[Array, "*B O"]  # before the first action
    actions: Float[Array, "*B H A"]
    rewards: Float[Array, "*B"]  # sum of gamma^i r_i over the window's valid steps
    masks: Float[Array, "*B"]  # 0 where a valid step of the window ended the task
    in_episode: Float[Array, "*B H"]  # 0 from the step on that follows the end of the window's first episode
    next_observations: Float[Array, "*B O"]  # after the last step of that episode

    @property
    def valid(self) -> Float[Array, "*B"]:
        """0 where the window crosses an episode's end; weighs the losses."""
        return self.in_episode[..., -1]

    @property
    def chunks(self) -> Float[Array, "B D"]:
        """Actions, flattened time-major."""
        return self.actions.reshape(self.actions.shape[0], -1)
