"""Many updates of many replicas in one dispatch.

The loop over updates is compiled with its length as an argument: however a run is cut into dispatches, it is traced and
compiled once, and draws and sums come out the same.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trqam_jax import loops
from trqam_jax.agent import AbstractAgent, Info
from trqam_jax.data import Block, Dataset, draw_windows, sample
from trqam_jax.replay import Replay, draw_both, sample_both
from trqam_jax.streaming import BlockSpec, Stream
from trqam_jax.streams import Streams
from trqam_jax.types import Array, Batch, Windows


class ReplicaData(NamedTuple):
    """What minibatches are drawn from: the dataset is shared by all replicas, all else is each one's own."""

    dataset: Dataset | Stream | Block  # on the device, on the host, or the part of that which one dispatch is given
    task: Array  # (), or (R,) for R replicas: its row of the dataset's rewards and masks
    replay: Replay | None = None  # of the online phase

    def axes(self) -> "ReplicaData":
        """For vmap over replicas."""
        of_dataset = 0 if isinstance(self.dataset, Block) else None
        of_replay = None if self.replay is None else 0
        return ReplicaData(of_dataset, 0, of_replay)  # type: ignore[arg-type]

    def block_spec(self, sampling: "SamplingConfig", horizon: int) -> BlockSpec | None:
        """The size of a stream's blocks, online of the updates that a chunk may bring; None for data on the device."""
        if not isinstance(self.dataset, Stream):
            return None
        if self.replay is None:
            return self.dataset.block_spec(len(self.task), sampling.batch_size, horizon, sampling.windows)
        most = horizon * sampling.updates_per_step
        return self.dataset.block_spec(len(self.task), sampling.batch_size, horizon, most_updates=most)

    def with_block_shapes(self, spec: BlockSpec | None) -> "ReplicaData":
        """As one dispatch gets it: in place of a stream the shapes of its blocks."""
        if not isinstance(self.dataset, Stream) or spec is None:
            return self
        return self._replace(dataset=self.dataset.shapes(len(self.task), spec))


class SamplingConfig(NamedTuple):
    """How minibatches are drawn; the three in the middle are of the online phase."""

    batch_size: int
    start_training: int = 0  # transitions that are stored when the first update is made
    updates_per_step: int = 1
    balanced: bool = False  # half of a minibatch from the dataset, half from what was played
    windows: Windows = Windows.ROWS  # of the offline phase; online, where a replay follows the dataset, always ROWS

    def visible(self, update: Array) -> Array:
        """Transitions that were stored when it was this update's turn."""
        return self.start_training + update // self.updates_per_step

    def updates(self, stored: np.ndarray, played: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(first, how many) of the updates due once `played` transitions follow the `stored` ones."""
        first = np.maximum(stored + 1, self.start_training)
        count = np.maximum(stored + played - first + 1, 0)
        return (first - self.start_training) * self.updates_per_step, count * self.updates_per_step

    def starts(self, key: Array, step: Array, stream: Stream, horizon: int, *, online: bool) -> Array:
        """Where in a stream's dataset the windows of an update begin (B,), as `one_update` draws them. For those of the
        replay, any place."""
        low, high = stream.spans.at(step)
        key, sizes = jax.random.fold_in(key, step), (self.batch_size, horizon)
        if not online:
            ends = None if self.windows is Windows.ROWS else jnp.asarray(stream.ends)
            return draw_windows(key, ends, low, high, *sizes, self.windows)
        starts = draw_both(key, high - low, self.visible(step), *sizes, balanced=self.balanced)
        return low + jnp.where(starts < high - low, starts, 0)


@functools.partial(jax.jit, static_argnames="sampling", inline=True)  # traced once, whatever asks for its shapes first
def one_update(
    agent: AbstractAgent, data: ReplicaData, streams: Streams, step: Array, sampling: SamplingConfig
) -> tuple[AbstractAgent, Info]:
    """The update number `step` of one replica. The draws depend on streams and step alone."""
    batch_key = jax.random.fold_in(streams.batch, step)
    update_key = jax.random.fold_in(streams.update, step)
    batch = _minibatch(agent, data, batch_key, step, sampling)
    number = step + 1 if data.replay is None else sampling.visible(step)
    return agent.at_step(number).update(batch, update_key)


def _minibatch(agent: AbstractAgent, data: ReplicaData, key: Array, step: Array, sampling: SamplingConfig) -> Batch:
    assert not isinstance(data.dataset, Stream), "a dispatch is given a block of it"
    sizes = dict(batch_size=sampling.batch_size, horizon=agent.spec.horizon)
    discount = agent.config.discount
    if data.replay is None:
        return sample(data.dataset, data.task, key, **sizes, discount=discount, step=step, windows=sampling.windows)
    return sample_both(
        data.dataset,
        data.task,
        data.replay,
        sampling.visible(step),
        key,
        **sizes,
        discount=discount,
        balanced=sampling.balanced,
        step=step,
    )


class Totals(NamedTuple):
    """What replicas have done since the last row; leaves are scalars, or (R,) for R replicas."""

    sums: Info  # of every metric, over the updates that count
    count: Array  # of those updates  # pyright: ignore[reportIncompatibleMethodOverride]
    #: The update that diverged: it was not finite and changed nothing, as none after it. -1: there was none.
    #: (Checkpoints know it by this name.)
    frozen_at: Array

    def means(self) -> dict[str, np.ndarray]:
        """{metric: (R,)} per update; not a number where none counts."""
        count = np.asarray(self.count, np.float32)
        with np.errstate(invalid="ignore"):
            return {name: np.asarray(total) / count for name, total in self.sums.items()}

    def restarted(self) -> "Totals":
        """Sums at zero; who has diverged has done so for good."""
        sums, count = jax.tree.map(jnp.zeros_like, (self.sums, self.count))
        return Totals(sums, count, self.frozen_at)


def guarded_update(
    agent: AbstractAgent,
    totals: Totals,
    data: ReplicaData,
    streams: Streams,
    step: Array,
    due: Array,
    sampling: SamplingConfig,
) -> tuple[AbstractAgent, Totals]:
    """`one_update` if it is due. A replica diverges at an update that is not finite: it stays as it was before that."""
    updated, info = one_update(agent, data, streams, step, sampling=sampling)
    finite = jnp.stack([jnp.isfinite(x).all() for x in info.values()]).all()
    alive = due & (totals.frozen_at < 0)
    kept = loops.shared(alive & finite)
    keep = lambda new, old: jnp.where(kept, new, old)
    state = jax.tree.map(keep, updated.state(), agent.state())
    # The sums are chosen between and not added to: 0 * nan is nan.
    added = Totals(jax.tree.map(jnp.add, totals.sums, info), totals.count + 1, totals.frozen_at)
    totals = jax.tree.map(keep, added, totals)
    frozen_at = jnp.where(alive & ~finite, step, totals.frozen_at)
    return agent.with_state(state), totals._replace(frozen_at=frozen_at)


def zero_totals(agents: AbstractAgent, data: ReplicaData, streams: Streams, sampling: SamplingConfig) -> Totals:
    """What `run_updates` adds to, at zero, no replica diverged. Nothing is computed."""
    if isinstance(data.dataset, Stream):
        data = data.with_block_shapes(BlockSpec(1, sampling.batch_size, agents.spec.horizon))
    one = jax.vmap(functools.partial(one_update, sampling=sampling), (0, data.axes(), 0, None))
    _, info = jax.eval_shape(one, agents, data, streams, jnp.int32(0))
    replicas = data.task.shape
    return Totals(
        sums=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info),
        count=jnp.zeros(replicas, jnp.int32),
        frozen_at=jnp.full(replicas, -1, jnp.int32),
    )


@functools.partial(jax.jit, static_argnames="sampling", donate_argnames=("agents", "totals"))
def run_updates(
    agents: AbstractAgent,
    totals: Totals,
    data: ReplicaData,
    streams: Streams,
    first_step: Array,
    num_updates: Array,
    *,
    sampling: SamplingConfig,
) -> tuple[AbstractAgent, Totals]:
    """Updates number first_step .. first_step + num_updates - 1 of R replicas; `totals` gains the sum of their infos.

    All but a dataset has a leading R, first_step and num_updates are (R,); agents and totals are donated.
    Sums instead of means leave the carry, so that a row of train.csv does not depend on how its updates were
    dispatched. A replica whose update is not finite stays as it was before it, and the others do not notice.
    """
    update = functools.partial(guarded_update, sampling=sampling)
    count = num_updates.max()
    alone = len(num_updates) == 1
    if alone:  # a batch axis of length one makes XLA's CPU programs slower by a tenth and more
        agents, totals, streams, first_step, num_updates = _first((agents, totals, streams, first_step, num_updates))
        data = _first(data) if isinstance(data.dataset, Block) else _first_but_dataset(data)
    else:
        update = jax.vmap(update, (0, 0, data.axes(), 0, 0, 0))

    def body(i: Array, carry: tuple[AbstractAgent, Totals]) -> tuple[AbstractAgent, Totals]:
        return update(*carry, data, streams, first_step + i, i < num_updates)

    agents, totals = jax.lax.fori_loop(0, count, body, (agents, totals))
    return jax.tree.map(lambda x: x[None], (agents, totals)) if alone else (agents, totals)


def _first(tree: Any) -> Any:
    """The first of the replicas along the leading axis."""
    return jax.tree.map(lambda x: x[0], tree)


def _first_but_dataset(data: ReplicaData) -> ReplicaData:
    return data._replace(task=data.task[0], replay=_first(data.replay))
