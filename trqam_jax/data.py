"""The data that updates see, and windows of H transitions sampled from them inside the compiled step."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Bool, Float, Int

from trqam_jax.errors import UserError
from trqam_jax.streams import named
from trqam_jax.types import Array, Batch, Key, Scalar, Windows

Index = Int[Array, ""] | int


class Dataset(struct.PyTreeNode):
    """N transitions in file order, one copy for all replicas.

    Observations are stored once: transition i starts at row `rows[i]` and ends at `rows[i] + 1`.
    """

    observations: Float[Array, "M O"]  # every row of the file
    actions: Float[Array, "N A"]
    rows: Int[Array, " N"]
    terminals: Bool[Array, " N"]  # last transition of an episode
    rewards: Float[Array, "tasks N"]
    masks: Float[Array, "tasks N"]  # 0 where the task is solved
    ends: Int[Array, " E"] | None = None  # the last transition of every episode; None in a block
    spans: "Spans | None" = struct.field(pytree_node=False, default=None)  # None: all at once

    def span(self, step: Index) -> tuple[Index, Index]:
        """Update `step` draws from transitions low .. high - 1."""
        return (self.spans or Spans((0, len(self.actions)))).at(step)


class Spans(NamedTuple):
    """Which transitions an update draws from."""

    bounds: tuple[int, ...]  # (S + 1,), the first transition of every shard, and N
    cycle: int = 0  # updates; 0: from all shards at once

    def at(self, step: Index) -> tuple[Index, Index]:
        """(low, high) of update `step`: 0 and N, or with a cycle those of shard step // cycle, modulo S, alone, as the
        released code does with its sharded data (the next one every 1,000 updates)."""
        if not self.cycle:
            return 0, self.bounds[-1]
        shard, bounds = step // self.cycle % (len(self.bounds) - 1), jnp.array(self.bounds)
        return bounds[shard], bounds[shard + 1]


class Block(struct.PyTreeNode):
    """The minibatches of a few updates of one replica: of the data, only what these see."""

    windows: Dataset  # of one task; window k of update first + i begins at transition (i B + k) H
    first: Int[Array, ""]

    def places(self, step: Index, batch_size: int, horizon: int) -> Int[Array, " B"]:
        """Where in `windows` those of update `step` begin."""
        return ((step - self.first) * batch_size + jnp.arange(batch_size)) * horizon


ARRAYS = ("observations", "actions", "rows", "terminals", "rewards", "masks")


def to_device(arrays: Any, cycle: int = 0) -> Dataset:
    """Any object with `ARRAYS` as numpy arrays or lists of them, and `bounds` -> the same on the device."""
    # A copy even of what lies in the same memory: it may be a map of a file.
    fields = {name: jnp.array(np.asarray(getattr(arrays, name))) for name in ARRAYS}
    return Dataset(**fields, ends=jnp.asarray(episode_ends(arrays)), spans=Spans(arrays.bounds, cycle))


def device_shapes(arrays: Any, cycle: int = 0) -> Dataset:
    """What `to_device` returns, as shapes, of arrays whose entries do not count, each but an episode's last state being
    followed by a transition."""

    def leaf(name: str) -> Any:
        given = getattr(arrays, name)
        listed = isinstance(given, list)
        first = given[0] if listed else given
        return jax.ShapeDtypeStruct((len(given), *first.shape) if listed else first.shape, first.dtype)

    episodes = len(arrays.observations) - len(arrays.actions)
    ends: Any = jax.ShapeDtypeStruct((episodes,), jnp.int32)
    return Dataset(**{name: leaf(name) for name in ARRAYS}, ends=ends, spans=Spans(arrays.bounds, cycle))


def episode_ends(arrays: Any) -> Int[np.ndarray, " E"]:
    """Which of the transitions are an episode's last; what follows the last of them belongs to no episode."""
    return np.flatnonzero(np.asarray(arrays.terminals)).astype(np.int32)


def check_episodes(ends: Int[np.ndarray, " E"], spans: "Spans") -> None:
    """UserError if some update would find no episode of two transitions or more, as `Windows.EPISODES` asks for."""
    firsts = np.concatenate([[0], ends[:-1] + 1])
    bounds = spans.bounds if spans.cycle else (0, spans.bounds[-1])
    for low, high in itertools.pairwise(bounds):
        if not ((firsts >= low) & (ends < high) & (firsts < ends)).any():
            raise UserError(
                f"transitions {low:,} to {high - 1:,} of the data hold no whole episode of two transitions or more, "
                'from which windows could be drawn; agent.windows="rows" draws them over all rows'
            )


def _in_episode(terminals: Bool[Array, " H"]) -> Bool[Array, " H"]:
    """Whether each step of a window belongs to its first episode."""
    ended = jnp.cumsum(terminals) > 0
    return jnp.concatenate([jnp.ones(1, bool), ~ended[:-1]])


def assemble(
    actions: Float[Array, "H A"],
    rewards: Float[Array, " H"],
    masks: Float[Array, " H"],
    terminals: Bool[Array, " H"],
    *,
    observation: Float[Array, " O"],
    next_observation: Callable[[Array], Array],
    discount: Scalar,
) -> Batch:
    """One window, without the batch axis, from its H rows. The released code's conventions:

    a window may run into the next episode; actions there are kept; step i is valid unless an earlier step of the window
    was terminal, so a window that ends on a terminal is valid; rewards accumulate and the mask takes its minimum
    over valid steps; the next observation is that of the last valid step. A mask of 0 inside an episode stops neither.

    observation: of the first row; next_observation gives that of row i of the window.
    """
    valid = _in_episode(terminals)
    discounts = discount ** jnp.arange(len(actions))
    return Batch(
        observations=observation,
        actions=actions,
        rewards=jnp.sum(valid * discounts * rewards),
        masks=jnp.min(jnp.where(valid, masks, 1.0)),
        in_episode=valid.astype(jnp.float32),
        next_observations=next_observation(valid.sum() - 1),
    )


def assemble_repeated(
    actions: Float[Array, "H A"],
    rewards: Float[Array, " H"],
    masks: Float[Array, " H"],
    terminals: Bool[Array, " H"],
    *,
    observation: Float[Array, " O"],
    next_observation: Float[Array, " O"],
    discount: Scalar,
) -> Batch:
    """One window of `Windows.EPISODES`, without the batch axis, from its H rows, as in RQL's released code:

    past the episode's end its last row is repeated; rewards accumulate up to the end; the mask is the last row's.

    next_observation: of row H of the window. At the episode's end that is its last row: the one before its last action.
    """
    in_episode = _in_episode(terminals)
    discounts = discount ** jnp.arange(len(actions))
    return Batch(
        observations=observation,
        actions=actions,
        rewards=jnp.sum(in_episode * discounts * rewards),
        masks=masks[-1],
        in_episode=in_episode.astype(jnp.float32),
        next_observations=next_observation,
    )


def window(data: Dataset, task: Index, start: Index, horizon: int, discount: Scalar) -> Batch:
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


def repeated_window(data: Dataset, task: Index, start: Index, horizon: int, discount: Scalar) -> Batch:
    """The window from transition `start` on, its episode's last row repeated. In a block that is done already."""
    if data.ends is None:
        steps = start + jnp.arange(horizon)
        next_row = data.rows[start] + 1
    else:
        end = data.ends[jnp.searchsorted(data.ends, start)]
        steps = jnp.minimum(start + jnp.arange(horizon), end)
        next_row = data.rows[jnp.minimum(start + horizon, end)]
    return assemble_repeated(
        data.actions[steps],
        data.rewards[task, steps],
        data.masks[task, steps],
        data.terminals[steps],
        observation=data.observations[data.rows[start]],
        next_observation=data.observations[next_row],
        discount=discount,
    )


def draw(key: Key, low: Index, high: Index, batch_size: int, horizon: int) -> Int[Array, " B"]:
    """Where windows within transitions low .. high - 1 start, uniform over all of them."""
    return jax.random.randint(key, (batch_size,), low, high - horizon + 1)


def draw_in_episodes(key: Key, ends: Int[Array, " E"], low: Index, high: Index, batch_size: int) -> Int[Array, " B"]:
    """Where windows of `Windows.EPISODES` start, within transitions low .. high - 1.

    The B episodes are uniform over those of two rows or more, and distinct if there are more than B of them; the row is
    uniform over all of the episode but its last.
    """
    firsts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1] + 1])
    eligible = (firsts >= low) & (ends < high) & (firsts < ends)
    count = eligible.sum()
    # The eligible episodes in random order, then the others.
    order = jnp.argsort(jnp.where(eligible, jax.random.uniform(named(key, "order"), ends.shape), 2.0))
    distinct = jnp.minimum(jnp.arange(batch_size), len(ends) - 1)
    with_repeats = jax.random.randint(named(key, "repeats"), (batch_size,), 0, count)
    episodes = order[jnp.where(count > batch_size, distinct, with_repeats)]
    return jax.random.randint(named(key, "start"), (batch_size,), firsts[episodes], ends[episodes])


def draw_windows(
    key: Key,
    ends: Int[Array, " E"] | None,
    low: Index,
    high: Index,
    batch_size: int,
    horizon: int,
    windows: Windows,
) -> Int[Array, " B"]:
    """Where windows of either kind start within transitions low .. high - 1; EPISODES alone need `ends`."""
    if windows is Windows.ROWS:
        return draw(key, low, high, batch_size, horizon)
    assert ends is not None
    return draw_in_episodes(key, ends, low, high, batch_size)


def sample(
    data: Dataset | Block,
    task: Index,
    key: Key,
    batch_size: int,
    horizon: int,
    discount: Scalar,
    step: Index = 0,
    windows: Windows = Windows.ROWS,
) -> Batch:
    """The minibatch of update `step`: B windows drawn by `key`, or what a block holds for it."""
    if isinstance(data, Block):
        whole, row = data.windows, 0
        places = data.places(step, batch_size, horizon)
    else:
        whole, row = data, task
        places = draw_windows(key, data.ends, *data.span(step), batch_size, horizon, windows)
    one = window if windows is Windows.ROWS else repeated_window
    return jax.vmap(lambda start: one(whole, row, start, horizon, discount))(places)
