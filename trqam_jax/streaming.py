"""Data that do not fit a device: what the next updates see is gathered on the host while the present ones run.

Minibatches are those of resident data: the same keys draw the same windows from all rows. A host thread reads them,
from memory or from memory-mapped files, into blocks of L updates. Of every pass two blocks are on the devices: the one
that trains, and the next. Windows scattered over files that the host's memory cannot keep cost a disk access each;
there a cycle (`data.Spans`) confines the draws to one shard at a time.
"""

import functools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from trqam_jax.data import Block, Dataset, Spans, episode_ends
from trqam_jax.types import Array, Windows

BLOCK_BYTES = 128 * 2**20  # of the present updates of all replicas; the next ones take as much again
MOST_UPDATES = 1000  # in a block


class BlockSpec(NamedTuple):
    """How large blocks are."""

    num_updates: int  # L
    batch_size: int
    horizon: int
    windows: Windows = Windows.ROWS


class Stream:
    """A dataset on the host, to be trained on in blocks."""

    def __init__(self, arrays: Any, cycle: int = 0, most_updates: int = MOST_UPDATES):
        """arrays: any object with `data.ARRAYS` as numpy arrays or lists of them, and `bounds`."""
        self.arrays, self.spans, self._most = arrays, Spans(arrays.bounds, cycle), most_updates
        self.waited = 0.0  # seconds that updates waited for a block, but for the first of a feed
        self.pool = ThreadPoolExecutor(1, "stream")

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """The last transition of every episode, (E,)."""
        return episode_ends(self.arrays)

    def shapes(self, num_replicas: int, spec: BlockSpec) -> Block:
        """Shapes and types of a block, with a leading R."""
        windows = spec.num_updates * spec.batch_size
        n = windows * spec.horizon

        def leaf(dtype: Any, *shape: int) -> Any:
            return jax.ShapeDtypeStruct((num_replicas, *shape), dtype)

        return Block(
            Dataset(
                observations=leaf(jnp.float32, 2 * windows, self.arrays.observations.shape[1]),
                actions=leaf(jnp.float32, n, self.arrays.actions.shape[1]),
                rows=leaf(jnp.int32, n),
                terminals=leaf(jnp.bool_, n),
                rewards=leaf(jnp.float32, 1, n),
                masks=leaf(jnp.float32, 1, n),
                spans=self.spans,
            ),
            first=leaf(jnp.int32),
        )

    def block_spec(
        self,
        num_replicas: int,
        batch_size: int,
        horizon: int,
        windows: Windows = Windows.ROWS,
        most_updates: int | None = None,
    ) -> BlockSpec:
        """As many updates of all replicas as BLOCK_BYTES hold, one at least, `most_updates` at most."""
        one = self.shapes(num_replicas, BlockSpec(1, batch_size, horizon))
        fitting = BLOCK_BYTES // sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(one))
        return BlockSpec(max(1, min(fitting, most_updates or self._most)), batch_size, horizon, windows)


def gather(stream: Stream, task: int, first: np.ndarray, spec: BlockSpec) -> Dataset:
    """The windows from transitions `first` (K,) on, one after the other, as a dataset of numpy arrays: from k H on,
    `data.window`, or `data.repeated_window`, finds in it what it finds from first[k] on in the whole."""
    arrays, horizon = stream.arrays, spec.horizon
    if spec.windows is Windows.ROWS:
        # A replay may follow the data's end.
        steps = np.minimum(first[:, None] + np.arange(horizon), len(arrays.actions) - 1)
        terminals = arrays.terminals[steps]
        last = first + (np.cumsum(terminals[:, :-1], axis=1) == 0).sum(axis=1)  # the last valid step
        next_rows = arrays.rows[last] + 1
    else:
        end = stream.ends[np.searchsorted(stream.ends, first)]
        steps = np.minimum(first[:, None] + np.arange(horizon), end[:, None])
        terminals = arrays.terminals[steps]
        next_rows = arrays.rows[np.minimum(first + horizon, end)]
    seen = np.stack([arrays.rows[first], next_rows], axis=1)  # all of the observations that a window needs
    rows: Any = np.repeat(2 * np.arange(len(first), dtype=np.int32), horizon)
    return Dataset(
        observations=arrays.observations[seen.ravel()],
        actions=arrays.actions[steps.ravel()],
        rows=rows,
        terminals=terminals.ravel(),
        rewards=arrays.rewards[task][steps].reshape(1, -1),
        masks=arrays.masks[task][steps].reshape(1, -1),
        spans=stream.spans,
    )


class Feed:
    """The blocks of the R replicas of one pass, each made while what comes before it trains."""

    def __init__(
        self,
        stream: Stream,
        tasks: Array,
        keys: Array,
        draw: Callable[[Array, Array], Array],
        spec: BlockSpec,
        sharding: Sharding,
        *,
        at_once: bool,
    ):
        """tasks, keys: (R,). draw: (key, number of an update) -> where its windows start (B,). sharding: of the axis R.

        at_once: the replicas' updates go in step, so a block is used up before the next one begins. Else every call
        gets a block of its own, from where the replicas will then be.
        """
        self._stream, self._tasks, self._keys, self._sharding = stream, np.asarray(tasks), keys, sharding
        self._spec, self._at_once = spec, at_once
        # Of the block in use, and of the next: the replicas' first updates in it (R,), and itself, perhaps to come.
        self._first: np.ndarray | None = None
        self._block: Block | None = None
        self._next_first: np.ndarray | None = None
        self._next: Future[Block] | None = None

        def starts(keys: Array, first: Array) -> Array:
            of_replica = lambda key, first: jax.vmap(lambda i: draw(key, first + i))(jnp.arange(spec.num_updates))
            return jax.vmap(of_replica)(keys, first)

        self._starts = jax.jit(starts)

    def __call__(self, first: np.ndarray, count: np.ndarray) -> tuple[Block, np.ndarray]:
        """For updates from `first` (R,) on, `count` (R,) of them: a block, and how many of them it holds."""
        length = self._spec.num_updates
        if self._first is None or not (
            self._at_once and ((self._first <= first) & (first < self._first + length)).all()
        ):
            began, is_first = time.perf_counter(), self._first is None
            if self._next is None or (self._next_first != first).any():
                self._prepare(first)
            assert self._next is not None
            self._first, self._block, self._next = first, self._next.result(), None
            self._stream.waited += 0.0 if is_first else time.perf_counter() - began
        held = np.minimum(count, self._first + length - first)
        following = self._first + length if self._at_once else first + held
        if self._next is None:
            self._prepare(following)
        assert self._block is not None
        return self._block, held

    def _prepare(self, first: np.ndarray) -> None:
        """Begin with the block from `first` on. The device draws before it gets the updates the thread works beside."""
        drawn = self._starts(self._keys, jnp.asarray(first, jnp.int32))
        self._next_first, self._next = first, self._stream.pool.submit(self._gather, drawn, first)

    def _gather(self, drawn: Array, first: np.ndarray) -> Block:
        each = [
            gather(self._stream, task, own.ravel(), self._spec)
            for task, own in zip(self._tasks, np.asarray(drawn), strict=True)
        ]
        stacked, of_replicas = jax.tree.map(lambda *xs: np.stack(xs), *each), cast(Any, np.asarray(first, np.int32))
        block = Block(stacked, of_replicas)
        return jax.block_until_ready(jax.device_put(block, self._sharding))
