"""Many replicas in one process: created, divided into passes of one dispatch each, spread over the devices."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from trqam_jax import backend
from trqam_jax.agent import AbstractAgent
from trqam_jax.agent_config import AgentConfig
from trqam_jax.ahead import Ahead
from trqam_jax.data import Block, Dataset
from trqam_jax.errors import UserError
from trqam_jax.replay import Replay
from trqam_jax.streaming import Feed, Stream
from trqam_jax.streams import Streams
from trqam_jax.types import Array, Params, Spec
from trqam_jax.update_loop import ReplicaData, SamplingConfig, Totals, run_updates, zero_totals


def _create(agent_class: type[AbstractAgent], keys: Array, spec: Spec, configs: AgentConfig) -> AbstractAgent:
    # One after the other: vmap's program takes twice as long to compile from four replicas on.
    return jax.lax.map(lambda each: agent_class.create(each[0], spec, each[1]), (keys, configs))


@functools.cache
def _compiled_create() -> Any:
    """Not at import, because the options depend on the devices that JAX finds."""
    options = backend.compiler_options()
    return jax.jit(_create, static_argnames=("agent_class", "spec"), compiler_options=options)


class Creation:
    """R fresh agents from keys (R,), whose program can be compiled ahead; every array of them has a leading R.

    configs: leaves (R,), or scalars that hold for all replicas.
    """

    def __init__(self, agent_class: type[AbstractAgent], keys: Array, spec: Spec, configs: AgentConfig):
        configs = _prepared(agent_class, keys, spec, configs)
        self._given = keys, configs
        self._traced = _compiled_create().trace(agent_class, keys, spec, configs)
        self._program: Ahead | None = None

    @property
    def shapes(self) -> AbstractAgent:
        """Of the agents."""
        return self._traced.out_info

    def compile_ahead(self) -> None:
        """Begin to compile. A program that takes longer and comes later is better begun before."""
        self._program = Ahead(self._traced.lower())

    def agents(self) -> AbstractAgent:
        """The agents, created anew at every call."""
        if self._program is None:
            self.compile_ahead()
        assert self._program is not None
        return self._program.result()(*self._given)


def create_replicas(agent_class: type[AbstractAgent], keys: Array, spec: Spec, configs: AgentConfig) -> AbstractAgent:
    """What `Creation` creates, there and then."""
    return Creation(agent_class, keys, spec, configs).agents()


def replica_shapes(agent_class: type[AbstractAgent], keys: Array, spec: Spec, configs: AgentConfig) -> AbstractAgent:
    """What `create_replicas` returns, as shapes; nothing is computed."""
    of_arrays = lambda keys, configs: _create(agent_class, keys, spec, configs)
    return jax.eval_shape(of_arrays, keys, _prepared(agent_class, keys, spec, configs))


def _prepared(agent_class: type[AbstractAgent], keys: Array, spec: Spec, configs: AgentConfig) -> AgentConfig:
    """On the host still: what is derived from the settings, and leaves (R,)."""
    return configs.derive(agent_class.DERIVED, spec).broadcast(len(keys))


@jax.jit
def load_pretrained(agents: AbstractAgent, velocity: Params) -> AbstractAgent:
    """Every replica's flows start from a pretrained policy: `velocity` has a leading R."""
    return jax.vmap(lambda agent, params: agent.load_pretrained(params))(agents, velocity)


def load_pretrained_ahead(agents: AbstractAgent, velocity: Params) -> Ahead:
    """`load_pretrained`, compiled ahead for agents and parameters of these shapes."""
    return Ahead(load_pretrained.lower(agents, velocity))


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
        device = SingleDeviceSharding(devices[0])
        return device, device
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

    A pass holds at most `per_pass` replicas; no number depends on it but by rounding. 0: chosen here, on a CPU
    one replica per device (its products fill the cores already, and stay nearer to the caches), elsewhere as many as
    fit the device's memory.
    """

    def __init__(
        self,
        agents: AbstractAgent,
        data: ReplicaData,
        streams: Streams,
        sampling: SamplingConfig,
        *,
        per_pass: int = 0,
        totals: Totals | None = None,
        plan: "Plan | None" = None,
    ):
        """plan: of these replicas; if it turns out to be one of others, it is not used."""
        self.spec = agents.spec
        agents = jax.tree.map(jnp.asarray, agents)  # settings may lie on the host
        if totals is None:
            totals = zero_totals(agents, data, streams, sampling)
        spec = data.block_spec(sampling, agents.spec.horizon)
        own = _Pass(agents, totals, data.task, data.replay, streams)
        if plan is None or not plan.fits(agents, totals, data, streams, sampling, per_pass):
            plan = Plan(agents, totals, data, streams, sampling, per_pass)
        self._programs, self._slices, self.memory = plan.result()
        self._passes: list[_Pass] = []
        self._feeds: list[Callable[[np.ndarray, np.ndarray], tuple[Dataset | Block, np.ndarray]]] = []
        copies: dict[Sharding, Dataset] = {}
        for part, piece in zip(self._slices, _cut(own, self._slices), strict=True):
            split, copied = shardings(part.stop - part.start)
            piece = jax.device_put(piece, split)
            self._passes.append(piece)
            if isinstance(data.dataset, Stream):
                assert spec is not None
                online = data.replay is not None
                starts = functools.partial(sampling.starts, stream=data.dataset, horizon=spec.horizon, online=online)
                keys = piece.streams.batch
                feed = Feed(data.dataset, piece.task, keys, starts, spec, split, at_once=not online)
            else:
                if copied not in copies:
                    copies[copied] = jax.device_put(data.dataset, copied)
                feed = functools.partial(_all_at_once, copies[copied])
            self._feeds.append(feed)

    @property
    def agents(self) -> AbstractAgent:
        """All replicas with a leading R. Valid until the next `run`, which overwrites the arrays."""
        return _join([own.agents for own in self._passes])

    @property
    def shapes(self) -> AbstractAgent:
        """Of `agents`, on a machine with one device."""
        replicas = self._slices[-1].stop
        shape = lambda x: jax.ShapeDtypeStruct((replicas, *x.shape[1:]), x.dtype, sharding=x.sharding)
        return jax.tree.map(shape, self._passes[0].agents)

    @property
    def totals(self) -> Totals:
        """What they have done since `restart_totals`, leaves (R,)."""
        return _join([own.totals for own in self._passes])

    @property
    def replay(self) -> Replay | None:
        """What they have played, with a leading R. Valid until the next `store`."""
        return _join([own.replay for own in self._passes])

    def map_replicas(self, function: Callable[..., Array], *rows: Any) -> np.ndarray:
        """function(agents, *rows) of every pass, (R, ...), where agents and rows have a leading axis over its replicas.

        Unlike `agents` it copies no parameter.
        """
        results = []
        for own, part in zip(self._passes, self._slices, strict=True):
            results.append(function(own.agents, *(x[part] for x in rows)))
        return np.concatenate(results)

    def restart_totals(self) -> None:
        """Sums at zero; who has diverged has done so for good."""
        self._passes = [own._replace(totals=own.totals.restarted()) for own in self._passes]

    def store(self, played: dict[str, np.ndarray], lengths: np.ndarray) -> None:
        """Append lengths (R,) rows of `played` {field: (R, H, ...)} to the replicas' replays."""
        for i, (own, part) in enumerate(zip(self._passes, self._slices, strict=True)):
            rows = {name: rows[part] for name, rows in played.items()}
            count = jnp.asarray(lengths[part], jnp.int32)
            self._passes[i] = own._replace(replay=_store(own.replay, rows, count))

    def run(self, first_step: int | np.ndarray, num_updates: int | np.ndarray) -> None:
        """Updates number first_step .. first_step + num_updates - 1 of every replica; returns when they are done."""
        replicas = self._slices[-1].stop
        all_first = np.broadcast_to(np.asarray(first_step, np.int32), replicas)
        all_counts = np.broadcast_to(np.asarray(num_updates, np.int32), replicas)
        for i, (feed, part) in enumerate(zip(self._feeds, self._slices, strict=True)):
            split, _ = shardings(part.stop - part.start)
            program = self._programs[part.stop - part.start]
            first, count = all_first[part], all_counts[part]
            while count.any():
                own = self._passes[i]
                dataset, now = feed(first, count)
                data = ReplicaData(dataset, own.task, own.replay)
                steps = jax.device_put((first, now), split)
                agents, totals = jax.block_until_ready(program(own.agents, own.totals, data, own.streams, *steps))
                self._passes[i] = own._replace(agents=agents, totals=totals)
                first, count = first + now, count - now


def _all_at_once(dataset: Dataset, _: np.ndarray, count: np.ndarray) -> tuple[Dataset, np.ndarray]:
    """In place of a feed for data on the device: it holds the windows of every update."""
    return dataset, count


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


class _Shapes(NamedTuple):
    """What a plan is made for."""

    own: _Pass
    dataset: Dataset | Block
    sampling: SamplingConfig
    per_pass: int


def _shapes(
    agents: AbstractAgent, totals: Totals, data: ReplicaData, streams: Streams, sampling: SamplingConfig, per_pass: int
) -> _Shapes:
    own = _Pass(agents, totals, data.task, data.replay, streams)
    dataset = data.with_block_shapes(data.block_spec(sampling, agents.spec.horizon)).dataset
    found = jax.eval_shape(lambda given: given, (own, dataset))  # settings may lie on the host
    own, dataset = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), found)
    return _Shapes(own, dataset, sampling, per_pass)


class Plan:
    """How R replicas train: in which passes, by which programs, in how much memory. It is made from shapes, which may
    stand in place of any array, and compiles ahead what it will probably need."""

    def __init__(
        self,
        agents: AbstractAgent,
        totals: Totals,
        data: ReplicaData,
        streams: Streams,
        sampling: SamplingConfig,
        per_pass: int = 0,
    ):
        self._shapes = _shapes(agents, totals, data, streams, sampling, per_pass)
        self._programs: dict[int, Ahead] = {}
        self._limit, replicas = memory_limit(), len(data.task)
        self._size = min(replicas, per_pass or (len(jax.devices()) if self._limit is None else replicas))
        self._compile(self._size)

    def fits(self, *given: Any) -> bool:
        """Whether it was made for what is given, as to `Plan`."""
        other = _shapes(*given)
        same = jax.tree.structure(other) == jax.tree.structure(self._shapes)
        return same and jax.tree.leaves(other) == jax.tree.leaves(self._shapes)

    def result(self) -> tuple[dict[int, Any], list[slice], Memory]:
        """{size of a pass: its program}, the passes, and their memory; UserError if the device's does not suffice."""
        own, dataset, _, per_pass = self._shapes
        replicas, limit, size = len(own.task), self._limit, self._size
        while True:
            slices = self._compile(size)
            programs = {part.stop - part.start: self._programs[part.stop - part.start].result() for part in slices}
            largest = max(programs)
            temporary = programs[largest].memory_analysis().temp_size_in_bytes  # pyright: ignore
            devices = shardings(largest)[0].num_devices
            rows = _nbytes(dataset)
            if isinstance(dataset, Block):  # the one in use and the next
                rows = 2 * rows // devices
            memory = Memory(_nbytes(own) // devices, rows, temporary)
            if limit is None or sum(memory) < 0.9 * limit:
                return programs, slices, memory
            if per_pass or size == 1:
                raise UserError(
                    f"{replicas} replicas, {size} in a pass, need {memory}; the device has {limit / 2**20:,.0f} MiB. "
                    "Take fewer seeds or tasks at a time, fewer replicas per pass, or data streamed from the host"
                )
            size = -(-size // 2)

    def _compile(self, size: int) -> list[slice]:
        """The passes of at most `size` replicas; the programs of their sizes are there or being compiled."""
        own, dataset, sampling, _ = self._shapes
        slices = passes(len(own.task), size)
        for number in {part.stop - part.start for part in slices} - self._programs.keys():
            self._programs[number] = Ahead(_lower(own, dataset, sampling, number), backend.compiler_options(number))
        return slices


def _nbytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _lower(own: _Pass, dataset: Dataset | Block, sampling: SamplingConfig, size: int) -> Any:
    """`run_updates` for passes of `size` replicas."""
    split, copied = shardings(size)
    leading = lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype, sharding=split)
    whole = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=copied)
    own = jax.tree.map(leading, own)
    dataset = jax.tree.map(leading if isinstance(dataset, Block) else whole, dataset)
    steps = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=split)
    data = ReplicaData(dataset, own.task, own.replay)
    return run_updates.lower(own.agents, own.totals, data, own.streams, steps, steps, sampling=sampling)
