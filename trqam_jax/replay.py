"""What replicas have played online, on the device behind the dataset they share, and windows sampled from both."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int

from trqam_jax.data import Block, Dataset, Index, assemble, draw
from trqam_jax.streams import named
from trqam_jax.types import Array, Batch, Key, Scalar


class Replay(struct.PyTreeNode):
    """Room for C transitions of one replica, the first `size` of them filled, in the order they were played.

    Unlike a dataset's, the end of a transition is stored beside it: episodes may end and start anywhere.
    """

    observations: Float[Array, "C O"]
    actions: Float[Array, "C A"]
    rewards: Float[Array, " C"]
    masks: Float[Array, " C"]  # 0 where the step ended the task
    terminals: Bool[Array, " C"]  # an episode's last transition, by success or by time
    next_observations: Float[Array, "C O"]
    size: Int[Array, ""]

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

    def store(self, played: dict[str, Array], length: Index) -> "Replay":
        """The first `length` rows of `played` {field: (H, ...)} appended. The room must hold size + H rows: what lies
        behind `size` is not looked at and overwritten by the next call."""
        rows = {
            name: jax.lax.dynamic_update_slice_in_dim(getattr(self, name), rows, self.size, 0)
            for name, rows in played.items()
        }
        return self.replace(**rows, size=self.size + length)


def draw_both(
    key: Key, num_rows: Index, visible: Index, batch_size: int, horizon: int, *, balanced: bool
) -> Int[Array, " B"]:
    """Where windows start in `num_rows` transitions of a dataset with the first `visible` of a replay behind.

    Uniform over 0 .. num_rows + visible - H. balanced: one half from each; the replay's needs visible >= H.
    """
    if not balanced:
        return draw(key, 0, num_rows + visible, batch_size, horizon)
    half = batch_size // 2
    new = draw(named(key, "online"), 0, visible, half, horizon)
    return jnp.concatenate([draw(key, 0, num_rows, batch_size - half, horizon), num_rows + new])


def sample_both(
    data: Dataset | Block,
    task: Index,
    replay: Replay,
    visible: Index,
    key: Key,
    *,
    batch_size: int,
    horizon: int,
    discount: Scalar,
    balanced: bool,
    step: Index = 0,
) -> Batch:
    """The minibatch of update `step`: B windows over the dataset's transitions and, behind them, the first `visible` of
    the replay's. They may run from the dataset into the replay, as in the released code's one buffer."""
    whole, row = (data.windows, 0) if isinstance(data, Block) else (data, task)
    low, high = whole.span(step)
    num_rows = high - low
    starts = draw_both(key, num_rows, visible, batch_size, horizon, balanced=balanced)
    # Where their rows lie in the dataset. What a block has in place of a window of the replay is not looked at.
    places = data.places(step, batch_size, horizon) if isinstance(data, Block) else low + starts

    def one(start: Index, place: Index) -> Batch:
        """The window at `start`, its rows from either side of the border."""

        def rows(i: Int[Array, "..."], from_data: Callable[[Array], Array], from_replay: Array) -> Array:
            """Those number i of the window."""
            is_old = start + i < num_rows
            old = from_data(jnp.where(is_old, place + i, 0))
            new = from_replay[jnp.maximum(start + i - num_rows, 0)]
            return jnp.where(jnp.reshape(is_old, i.shape + (1,) * (old.ndim - i.ndim)), old, new)

        first, all_rows = jnp.int32(0), jnp.arange(horizon)
        return assemble(
            rows(all_rows, lambda i: whole.actions[i], replay.actions),
            rows(all_rows, lambda i: whole.rewards[row, i], replay.rewards),
            rows(all_rows, lambda i: whole.masks[row, i], replay.masks),
            rows(all_rows, lambda i: whole.terminals[i], replay.terminals),
            observation=rows(first, lambda i: whole.observations[whole.rows[i]], replay.observations),
            next_observation=lambda i: rows(
                i, lambda j: whole.observations[whole.rows[j] + 1], replay.next_observations
            ),
            discount=discount,
        )

    return jax.vmap(one)(starts, places)
