"""What replicas have played online, on the device behind the dataset they share, and windows sampled from both."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from trqam_jax.data import Dataset, assemble
from trqam_jax.streams import named
from trqam_jax.types import Array, Batch


class Replay(struct.PyTreeNode):
    """Room for C transitions of one replica, the first `size` of them filled, in the order they were played.

    Unlike a dataset's, the end of a transition is stored beside it: episodes may end and start anywhere.
    """

    observations: Array  # (C, O) float32
    actions: Array  # (C, A) float32
    rewards: Array  # (C,) float32
    masks: Array  # (C,) float32, 0 where the step ended the task
    terminals: Array  # (C,) bool, an episode's last transition, by success or by time
    next_observations: Array  # (C, O) float32
    size: Array  # () int32

    @classmethod
    def empty(cls, capacity: int, observation_dim: int, action_dim: int) -> "Replay":
        """Nothing stored."""
        return cls(
            observations=jnp.zeros((capacity, observation_dim)),
            actions=jnp.zeros((capacity, action_dim)),
            rewards=jnp.zeros(capacity),
            masks=jnp.zeros(capacity),
            terminals=jnp.zeros(capacity, bool),
            next_observations=jnp.zeros((capacity, observation_dim)),
            size=jnp.int32(0),
        )

    @classmethod
    def of_replicas(cls, num_replicas: int, *sizes: int) -> "Replay":
        """R empty ones, with a leading R."""
        return jax.tree.map(lambda x: jnp.stack([x] * num_replicas), cls.empty(*sizes))

    def resized(self, capacity: int) -> "Replay":
        """R replays with room for `capacity` transitions each: cut, or filled up with zeros."""

        def resize(x: Array) -> Array:
            missing = [(0, max(0, capacity - x.shape[1])) if axis == 1 else (0, 0) for axis in range(x.ndim)]
            return jnp.pad(x[:, :capacity], missing)

        return jax.tree.map(lambda x: resize(x) if x.ndim > 1 else x, self)

    def store(self, played: dict[str, Array], length: Array) -> "Replay":
        """The first `length` rows of `played` {field: (H, ...)} appended. The room must hold size + H rows: what lies
        behind `size` is not looked at and overwritten by the next call."""
        rows = {
            name: jax.lax.dynamic_update_slice_in_dim(getattr(self, name), rows, self.size, 0)
            for name, rows in played.items()
        }
        return self.replace(**rows, size=self.size + length)


def sample_both(
    data: Dataset,
    task: Array,
    replay: Replay,
    visible: Array,
    key: Array,
    *,
    batch_size: int,
    horizon: int,
    discount: float,
    balanced: bool,
) -> Batch:
    """B windows over the dataset's N transitions and, behind them, the first `visible` of the replay's.

    Starts are uniform over 0 .. N + visible - H, and windows may run from the dataset into the replay, as in the
    released code's one buffer. balanced: one half from each; the replay's needs visible >= H.
    """
    num_rows = len(data.actions)
    if balanced:
        half = batch_size // 2
        new = jax.random.randint(named(key, "online"), (half,), 0, visible - horizon + 1)
        starts = jax.random.randint(key, (batch_size - half,), 0, num_rows - horizon + 1)
        starts = jnp.concatenate([starts, num_rows + new])
    else:
        starts = jax.random.randint(key, (batch_size,), 0, num_rows + visible - horizon + 1)

    def one(start: Array) -> Batch:
        """The window at `start`, its rows from either side of the border."""

        def rows(steps: Array, from_data: Callable[[Array], Array], from_replay: Array) -> Array:
            old = from_data(jnp.minimum(steps, num_rows - 1))
            new = from_replay[jnp.maximum(steps - num_rows, 0)]
            is_old = jnp.reshape(steps < num_rows, steps.shape + (1,) * (old.ndim - steps.ndim))
            return jnp.where(is_old, old, new)

        steps = start + jnp.arange(horizon)
        return assemble(
            rows(steps, lambda i: data.actions[i], replay.actions),
            rows(steps, lambda i: data.rewards[task, i], replay.rewards),
            rows(steps, lambda i: data.masks[task, i], replay.masks),
            rows(steps, lambda i: data.terminals[i], replay.terminals),
            observation=rows(start, lambda i: data.observations[data.rows[i]], replay.observations),
            next_observation=lambda i: rows(
                start + i, lambda j: data.observations[data.rows[j] + 1], replay.next_observations
            ),
            discount=discount,
        )

    return jax.vmap(one)(starts)
