"""Many updates per dispatch, many replicas per process.

The loop over updates is compiled with its length as an argument: however a run is cut into dispatches, it is traced and
compiled once, and draws and sums come out the same.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from ml_collections import FrozenConfigDict

from trqam_jax import backend
from trqam_jax.agent import AbstractAgent, Info
from trqam_jax.data import Block, Dataset, draw, sample
from trqam_jax.errors import UserError
from trqam_jax.replay import Replay, draw_both, sample_both
from trqam_jax.streaming import Feed, Form, Stream
from trqam_jax.streams import Streams
from trqam_jax.types import Array, Params, Spec


@functools.partial(jax.jit, static_argnames=("agent_class", "spec", "config"))
def _create(agent_class: type[AbstractAgent], keys: Array, spec: Spec, config: FrozenConfigDict):
    # One after the other: vmap's program takes twice as long to compile from four replicas on.
    return jax.lax.map(lambda key: agent_class.create(key, spec, config), keys)


def create_replicas(agent_class: type[AbstractAgent], keys: Array, spec: Spec, config: FrozenConfigDict):
    """R fresh agents from keys (R,); every array of the result has a leading R."""
    return _create.lower(agent_class, keys, spec, config).compile(backend.compiler_options())(keys)


def replica_shapes(agent_class: type[AbstractAgent], keys: Array, spec: Spec, config: FrozenConfigDict):
    """What `create_replicas` returns, as shapes; nothing is computed."""
    return _create.eval_shape(agent_class, keys, spec, config)


@jax.jit
def load_cloned(agents: AbstractAgent, velocity: Params) -> AbstractAgent:
    """Every replica's flows from cloned velocities with a leading R."""
    return jax.vmap(lambda agent, params: agent.load_cloned(params))(agents, velocity)


class Source(NamedTuple):
    """What minibatches are drawn from: a dataset is shared by all replicas, all else is each one's own."""

    data: Dataset | Stream | Block  # on the device, on the host, or what of that an update's dispatch is given
    task: Array
    replay: Replay | None = None  # of the online phase

    def axes(self) -> "Source":
        """For vmap over replicas."""
        return Source(0 if isinstance(self.data, Block) else None, 0, None if self.replay is None else 0)

    def form(self, rules: "Rules", horizon: int) -> Form:
        """Of the blocks of a stream: online of the updates that a chunk may bring."""
        most = None if self.replay is None else horizon * rules.updates_per_step
        return self.data.form(len(self.task), rules.batch_size, horizon, most)

    def shown(self, form: Form) -> "Source":
        """As an update's dispatch gets it; of a stream the shapes of a block."""
        return self._replace(data=self.data.shapes(len(self.task), form)) if isinstance(self.data, Stream) else self


class Rules(NamedTuple):
    """How minibatches are drawn; the last three are of the online phase."""

    batch_size: int
    start_training: int = 0  # transitions that are stored when the first update is made
    updates_per_step: int = 1
    balanced: bool = False  # half of a minibatch from the dataset, half from what was played

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
            return draw(key, low, high, *sizes)
        starts = draw_both(key, high - low, self.visible(step), *sizes, balanced=self.balanced)
        return low + jnp.where(starts < high - low, starts, 0)


@functools.partial(jax.jit, static_argnames="rules", inline=True)  # traced once, whatever asks for its shapes first
def one_update(agent: AbstractAgent, source: Source, streams: Streams, step: Array, rules: Rules):
    """The update number `step` of one replica: (agent, info). The draws depend on streams and step alone."""
    batch_key, update_key = (jax.random.fold_in(key, step) for key in (streams.batch, streams.update))
    windows = dict(batch_size=rules.batch_size, horizon=agent.spec.horizon, discount=agent.config.discount, step=step)
    if source.replay is None:
        batch = sample(source.data, source.task, batch_key, **windows)
    else:
        batch = sample_both(*source, rules.visible(step), batch_key, balanced=rules.balanced, **windows)
    return agent.update(batch, update_key)


class Totals(NamedTuple):
    """What replicas have done since the last row; leaves are scalars, or (R,) for R replicas."""

    sums: Info  # of every metric, over the updates that count
    count: Array  # of those updates
    frozen_at: Array  # the update that was not finite and changed nothing, as none after it; -1: there was none

    def means(self) -> dict[str, np.ndarray]:
        """{metric: (R,)} per update; not a number where none counts."""
        with np.errstate(invalid="ignore"):
            return {name: np.asarray(total) / np.asarray(self.count, np.float32) for name, total in self.sums.items()}

    def restarted(self) -> "Totals":
        """Sums at zero; what is frozen stays so."""
        sums, count = jax.tree.map(jnp.zeros_like, (self.sums, self.count))
        return Totals(sums, count, self.frozen_at)


def guarded_update(
    agent: AbstractAgent, totals: Totals, source: Source, streams: Streams, step: Array, due: Array, rules: Rules
) -> tuple[AbstractAgent, Totals]:
    """`one_update` if it is due. From one that is not finite on, the replica stays as it was before it."""
    updated, info = one_update(agent, source, streams, step, rules=rules)
    finite = jnp.stack([jnp.isfinite(x).all() for x in info.values()]).all()
    alive = due & (totals.frozen_at < 0)
    keep = lambda new, old: jnp.where(alive & finite, new, old)
    # The sums are chosen between and not added to: 0 * nan is nan.
    added = Totals(jax.tree.map(jnp.add, totals.sums, info), totals.count + 1, totals.frozen_at)
    totals = jax.tree.map(keep, added, totals)
    frozen_at = jnp.where(alive & ~finite, step, totals.frozen_at)
    return jax.tree.map(keep, updated, agent), totals._replace(frozen_at=frozen_at)


def zero_totals(agents: AbstractAgent, source: Source, streams: Streams, rules: Rules) -> Totals:
    """What `run_updates` adds to, at zero, all R replicas alive. Nothing is computed."""
    if isinstance(source.data, Stream):
        source = source.shown(Form(1, rules.batch_size, agents.spec.horizon))
    one = jax.vmap(functools.partial(one_update, rules=rules), (0, source.axes(), 0, None))
    _, info = jax.eval_shape(one, agents, source, streams, jnp.int32(0))
    sums, replicas = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info), source.task.shape
    return Totals(sums, jnp.zeros(replicas, jnp.int32), jnp.full(replicas, -1, jnp.int32))


@functools.partial(jax.jit, static_argnames="rules", donate_argnames=("agents", "totals"))
def run_updates(
    agents: AbstractAgent,
    totals: Totals,
    source: Source,
    streams: Streams,
    first_step: Array,
    num_updates: Array,
    *,
    rules: Rules,
) -> tuple[AbstractAgent, Totals]:
    """Updates number first_step .. first_step + num_updates - 1 of R replicas; `totals` gains the sum of their infos.

    All but a dataset has a leading R, first_step and num_updates are (R,); agents and totals are donated.
    Sums instead of means leave the carry, so that a row of train.csv does not depend on how its updates were
    dispatched. A replica whose update is not finite is frozen as it was before it, and the others do not notice.
    """
    one = functools.partial(guarded_update, rules=rules)
    carry, rest, count = (agents, totals), (source, streams, first_step, num_updates), num_updates.max()
    alone, axes = len(num_updates) == 1, source.axes()
    if alone:  # a batch axis of length one makes XLA's CPU programs slower by a tenth and more
        first = lambda tree: jax.tree.map(lambda x: x[0], tree)
        whole = source.data if axes.data is None else first(source.data)
        carry, rest = first(carry), (first(source._replace(data=None))._replace(data=whole), *first(rest[1:]))
    else:
        one = jax.vmap(one, (0, 0, axes, 0, 0, 0))

    def body(i: Array, carry: tuple[Any, Totals]) -> tuple[Any, Totals]:
        source, streams, first_step, num_updates = rest
        return one(*carry, source, streams, first_step + i, i < num_updates)

    carry = jax.lax.fori_loop(0, count, body, carry)
    return jax.tree.map(lambda x: x[None], carry) if alone else carry


@functools.partial(jax.jit, donate_argnames="stored")
def _store(stored: Replay, played: dict[str, Array], lengths: Array) -> Replay:
    return jax.vmap(Replay.store)(stored, played, lengths)


def passes(num_replicas: int, per_pass: int) -> list[slice]:
    """Replicas 0 .. R - 1 in as few passes of at most `per_pass` as possible, of sizes that differ by one at most."""
    bounds = np.linspace(0, num_replicas, -(-num_replicas // per_pass) + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(bounds)]


def shardings(size: int) -> tuple[Sharding, Sharding]:
    """For a pass of `size` replicas: their leading axis split over as many of the machine's devices as divide it, and a
    copy on each of those."""
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    if count == 1:  # a mesh of one is another type to JAX, which would trace the update anew
        return (SingleDeviceSharding(devices[0]),) * 2
    mesh = Mesh(np.array(devices[:count]), ("replica",))
    return NamedSharding(mesh, PartitionSpec("replica")), NamedSharding(mesh, PartitionSpec())


def memory_limit() -> int | None:
    """Bytes that a device's allocator may use; None on a CPU, which does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("bytes_limit")


class Memory(NamedTuple):
    """What training takes on each device, in bytes, as the compiler states it."""

    replicas: int  # parameters, averages, optimiser: of all replicas, resident throughout
    data: int  # all of them, or two blocks
    temporary: int  # of the pass that is running

    def __str__(self) -> str:
        parts = (f"{name} {value / 2**20:,.0f}" for name, value in self._asdict().items())
        return f"{sum(self) / 2**20:,.0f} MiB per device ({', '.join(parts)})"


class Population:
    """R replicas in training: states and running sums, in passes of one dispatch each, spread over the devices. What it
    is given of them (agents, totals, replay) is its own from then on: the arrays are overwritten or freed.

    A pass holds at most `per_pass` replicas; no number depends on it but by rounding. 0 lets the suite choose: on a CPU
    one replica per device (its products fill the cores already, and stay nearer to the caches), elsewhere as many as
    fit the device's memory.
    """

    def __init__(
        self,
        agents: AbstractAgent,
        source: Source,
        streams: Streams,
        rules: Rules,
        *,
        per_pass: int = 0,
        totals: Totals | None = None,
    ):
        if totals is None:
            totals = zero_totals(agents, source, streams, rules)
        self.spec = agents.spec
        form = source.form(rules, agents.spec.horizon) if isinstance(source.data, Stream) else None
        own = _Pass(agents, totals, source.task, source.replay, streams)
        self._programs, self._slices, self.memory = _plan(own, source.shown(form).data, rules, per_pass)
        self._passes, self._feeds, copies = [], [], {}
        for part, piece in zip(self._slices, _cut(own, self._slices), strict=True):
            split, copied = shardings(part.stop - part.start)
            piece = jax.device_put(piece, split)
            self._passes.append(piece)
            if isinstance(source.data, Stream):
                online = source.replay is not None
                starts = functools.partial(rules.starts, stream=source.data, horizon=form.horizon, online=online)
                feed = Feed(source.data, piece.task, piece.streams.batch, starts, form, split, at_once=not online)
            else:
                if copied not in copies:
                    copies[copied] = jax.device_put(source.data, copied)
                feed = lambda _, count, data=copies[copied]: (data, count)
            self._feeds.append(feed)

    @property
    def agents(self) -> AbstractAgent:
        """All replicas with a leading R. Valid until the next `run`, which overwrites the arrays."""
        return _join([own.agents for own in self._passes])

    @property
    def totals(self) -> Totals:
        """What they have done since `restart_totals`, leaves (R,)."""
        return _join([own.totals for own in self._passes])

    @property
    def replay(self) -> Replay | None:
        """What they have played, with a leading R. Valid until the next `store`."""
        return _join([own.replay for own in self._passes])

    def ask(self, function: Callable[..., Array], *rows: Any) -> np.ndarray:
        """function(agents, *rows) of every pass, (R, ...), where agents and rows have a leading axis over its replicas.

        Unlike `agents` it copies no parameter.
        """
        each = zip(self._passes, self._slices, strict=True)
        return np.concatenate([function(own.agents, *(x[part] for x in rows)) for own, part in each])

    def restart_totals(self) -> None:
        """Sums at zero; what is frozen stays so."""
        self._passes = [own._replace(totals=own.totals.restarted()) for own in self._passes]

    def store(self, played: dict[str, np.ndarray], lengths: np.ndarray) -> None:
        """Append lengths (R,) rows of `played` {field: (R, H, ...)} to the replicas' replays."""
        for i, (own, part) in enumerate(zip(self._passes, self._slices, strict=True)):
            rows, size = {name: rows[part] for name, rows in played.items()}, jnp.asarray(lengths[part], jnp.int32)
            self._passes[i] = own._replace(replay=_store(own.replay, rows, size))

    def run(self, first_step: int | np.ndarray, num_updates: int | np.ndarray) -> None:
        """Updates number first_step .. first_step + num_updates - 1 of every replica; returns when they are done."""
        replicas = self._slices[-1].stop
        steps = [np.broadcast_to(np.asarray(x, np.int32), replicas) for x in (first_step, num_updates)]
        for i, (feed, part) in enumerate(zip(self._feeds, self._slices, strict=True)):
            split, _ = shardings(part.stop - part.start)
            program, (first, count) = self._programs[part.stop - part.start], (x[part] for x in steps)
            while count.any():
                own, (data, now) = self._passes[i], feed(first, count)
                source, sizes = Source(data, own.task, own.replay), jax.device_put((first, now), split)
                agents, totals = jax.block_until_ready(program(own.agents, own.totals, source, own.streams, *sizes))
                self._passes[i] = own._replace(agents=agents, totals=totals)
                first, count = first + now, count - now


class _Pass(NamedTuple):
    """What belongs to the replicas of one pass, with a leading axis over them."""

    agents: AbstractAgent
    totals: Totals
    task: Array
    replay: Replay | None
    streams: Streams


_part = jax.jit(jax.lax.dynamic_slice_in_dim, static_argnames="slice_size")  # one program wherever the part begins


def _cut(own: _Pass, slices: list[slice]) -> list[_Pass]:
    """The passes' pieces. Of several the whole is freed array by array, so that no memory must hold replicas twice."""
    if len(slices) == 1:
        return [own]
    leaves, structure = jax.tree.flatten(own)
    freed = {id(x) for x in jax.tree.leaves((own.agents, own.totals, own.replay))}
    pieces = []
    for leaf in leaves:
        pieces.append([_part(leaf, part.start, slice_size=part.stop - part.start) for part in slices])
        if id(leaf) in freed:
            leaf.delete()
    return [jax.tree.unflatten(structure, piece) for piece in zip(*pieces, strict=True)]


def _join(parts: list[Any]) -> Any:
    """Of passes in their order; where they lie on different devices they meet on the first."""
    if len(parts) == 1:
        return parts[0]
    if len({frozenset(x.sharding.device_set) for x in jax.tree.leaves(parts)}) > 1:
        parts = jax.device_put(parts, jax.devices()[0])
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)


def _plan(own: _Pass, data: Dataset | Block, rules: Rules, per_pass: int) -> tuple[dict, list[slice], Memory]:
    """{size of a pass: its program}, the passes, and their memory; UserError if the device's does not suffice."""
    num_replicas, limit = len(own.task), memory_limit()
    size = min(num_replicas, per_pass or (len(jax.devices()) if limit is None else num_replicas))
    while True:
        slices = passes(num_replicas, size)
        programs = {n: _compile(own, data, rules, n) for n in {s.stop - s.start for s in slices}}
        largest = max(programs)
        resident, rows = (sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for tree in (own, data))
        temporary = programs[largest].memory_analysis().temp_size_in_bytes
        devices = shardings(largest)[0].num_devices
        memory = Memory(resident // devices, 2 * rows // devices if isinstance(data, Block) else rows, temporary)
        if limit is None or sum(memory) < 0.9 * limit:
            return programs, slices, memory
        if per_pass or size == 1:
            raise UserError(
                f"{num_replicas} replicas, {size} in a pass, need {memory}; the device has {limit / 2**20:,.0f} MiB. "
                "Take fewer seeds or tasks at a time, a smaller --replicas_per_pass, or --config.data.resident=false"
            )
        size = -(-size // 2)


def _compile(own: _Pass, data: Dataset | Block, rules: Rules, size: int) -> Any:
    """`run_updates` for passes of `size` replicas."""
    split, copied = shardings(size)
    leading = lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype, sharding=split)
    whole = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=copied)
    own = jax.tree.map(leading, own)
    data = jax.tree.map(leading if isinstance(data, Block) else whole, data)
    steps = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=split)
    source = Source(data, own.task, own.replay)
    lowered = run_updates.lower(own.agents, own.totals, source, own.streams, steps, steps, rules=rules)
    return lowered.compile(backend.compiler_options())
