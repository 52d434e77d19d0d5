"""Many updates per dispatch, many replicas per process.

The loop over updates is compiled with its length as an argument: however a run is cut into dispatches, it is traced and
compiled once, and draws and sums come out the same.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from ml_collections import FrozenConfigDict

from trqam_jax.agent import AbstractAgent, Info
from trqam_jax.data import Dataset, sample
from trqam_jax.errors import UserError
from trqam_jax.streams import Streams
from trqam_jax.types import Array, Params, Spec


@functools.partial(jax.jit, static_argnames=("agent_class", "spec", "config"))
def create_replicas(agent_class: type[AbstractAgent], keys: Array, spec: Spec, config: FrozenConfigDict):
    """R fresh agents from keys (R,); every array of the result has a leading R."""
    return jax.vmap(lambda key: agent_class.create(key, spec, config))(keys)


@jax.jit
def load_cloned(agents: AbstractAgent, velocity: Params) -> AbstractAgent:
    """Every replica's flows from cloned velocities with a leading R."""
    return jax.vmap(lambda agent, params: agent.load_cloned(params))(agents, velocity)


def one_update(agent: AbstractAgent, data: Dataset, task: Array, streams: Streams, step: Array, batch_size: int):
    """The update number `step` of one replica: (agent, info). The draws depend on streams and step alone."""
    batch_key, update_key = (jax.random.fold_in(key, step) for key in (streams.batch, streams.update))
    batch = sample(data, task, batch_key, batch_size, agent.spec.horizon, agent.config.discount)
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
    agent: AbstractAgent, totals: Totals, data: Dataset, task: Array, streams: Streams, step: Array, batch_size: int
) -> tuple[AbstractAgent, Totals]:
    """`one_update` if it is finite and all before it were; else the replica stays as it is, for good."""
    updated, info = one_update(agent, data, task, streams, step, batch_size)
    finite = jnp.stack([jnp.isfinite(x).all() for x in info.values()]).all()
    alive = totals.frozen_at < 0
    keep = lambda new, old: jnp.where(alive & finite, new, old)
    # The sums are chosen between and not added to: 0 * nan is nan.
    added = Totals(jax.tree.map(jnp.add, totals.sums, info), totals.count + 1, totals.frozen_at)
    totals = jax.tree.map(keep, added, totals)
    frozen_at = jnp.where(alive & ~finite, step, totals.frozen_at)
    return jax.tree.map(keep, updated, agent), totals._replace(frozen_at=frozen_at)


def zero_totals(agents: AbstractAgent, data: Dataset, tasks: Array, streams: Streams, *, batch_size: int) -> Totals:
    """What `run_updates` adds to, at zero, all R replicas alive. Nothing is computed."""
    one = functools.partial(one_update, batch_size=batch_size)
    _, info = jax.eval_shape(jax.vmap(one, (0, None, 0, 0, None)), agents, data, tasks, streams, jnp.int32(0))
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)
    return Totals(sums, jnp.zeros(tasks.shape, jnp.int32), jnp.full(tasks.shape, -1, jnp.int32))


@functools.partial(jax.jit, static_argnames="batch_size", donate_argnames=("agents", "totals"))
def run_updates(
    agents: AbstractAgent,
    totals: Totals,
    data: Dataset,
    tasks: Array,
    streams: Streams,
    first_step: Array,
    num_updates: Array,
    *,
    batch_size: int,
) -> tuple[AbstractAgent, Totals]:
    """Updates number first_step .. first_step + num_updates - 1 of R replicas; `totals` gains the sum of their infos.

    agents, totals, tasks and streams have a leading R; agents and totals are donated. Sums instead of means leave the
    carry, so that a row of train.csv does not depend on how its updates were dispatched. A replica whose update is not
    finite is frozen as it was before it, and the others do not notice.
    """
    one = functools.partial(guarded_update, batch_size=batch_size)
    alone = len(tasks) == 1
    if alone:  # a batch axis of length one makes XLA's CPU programs slower by a tenth and more
        agents, totals, tasks, streams = jax.tree.map(lambda x: x[0], (agents, totals, tasks, streams))
    else:
        one = jax.vmap(one, (0, 0, None, 0, 0, None))

    def body(i: Array, carry: tuple[Any, Totals]) -> tuple[Any, Totals]:
        return one(*carry, data, tasks, streams, first_step + i)

    result = jax.lax.fori_loop(0, num_updates, body, (agents, totals))
    return jax.tree.map(lambda x: x[None], result) if alone else result


def passes(num_replicas: int, per_pass: int) -> list[slice]:
    """Replicas 0 .. R - 1 in as few passes of at most `per_pass` as possible, of sizes that differ by one at most."""
    bounds = np.linspace(0, num_replicas, -(-num_replicas // per_pass) + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(bounds)]


def shardings(size: int) -> tuple[Sharding, Sharding]:
    """For a pass of `size` replicas: their leading axis split over as many of the machine's devices as divide it, and a
    copy on each of those."""
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    mesh = Mesh(np.array(devices[:count]), ("replica",))
    return NamedSharding(mesh, PartitionSpec("replica")), NamedSharding(mesh, PartitionSpec())


def memory_limit() -> int | None:
    """Bytes that a device's allocator may use; None on a CPU, which does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("bytes_limit")


class Memory(NamedTuple):
    """What training takes on each device, in bytes, as the compiler states it."""

    replicas: int  # parameters, averages, optimiser: of all replicas, resident throughout
    data: int
    temporary: int  # of the pass that is running

    def __str__(self) -> str:
        parts = (f"{name} {value / 2**20:,.0f}" for name, value in self._asdict().items())
        return f"{sum(self) / 2**20:,.0f} MiB per device ({', '.join(parts)})"


class Population:
    """R replicas in training: states and running sums, in passes of one dispatch each, spread over the devices.

    A pass holds at most `per_pass` replicas; no number depends on it but by rounding. 0 lets the suite choose: on a CPU
    one replica per device (its products fill the cores already, and stay nearer to the caches), elsewhere as many as
    fit the device's memory.
    """

    def __init__(
        self,
        agents: AbstractAgent,
        data: Dataset,
        tasks: Array,
        streams: Streams,
        *,
        batch_size: int,
        per_pass: int = 0,
        totals: Totals | None = None,
    ):
        if totals is None:
            totals = zero_totals(agents, data, tasks, streams, batch_size=batch_size)
        moving, fixed = (agents, totals), (tasks, streams)
        self._programs, slices, self.memory = _plan(moving, data, fixed, batch_size, per_pass)
        self._passes, copies = [], {}
        for part in slices:
            split, copied = shardings(part.stop - part.start)
            own = (moving, fixed)
            if len(slices) > 1:
                own = jax.tree.map(lambda x, part=part: x[part], own)
            if copied not in copies:
                copies[copied] = jax.device_put(data, copied)
            self._passes.append([*jax.device_put(own, split), copies[copied]])

    @property
    def agents(self) -> AbstractAgent:
        """All replicas with a leading R. Valid until the next `run`, which overwrites the arrays."""
        return _join([agents for (agents, _), _, _ in self._passes])

    @property
    def totals(self) -> Totals:
        """What they have done since `restart_totals`, leaves (R,)."""
        return _join([totals for (_, totals), _, _ in self._passes])

    def restart_totals(self) -> None:
        """Sums at zero; what is frozen stays so."""
        for current in self._passes:
            agents, totals = current[0]
            current[0] = agents, totals.restarted()

    def run(self, first_step: int, num_updates: int) -> None:
        """Updates number first_step .. first_step + num_updates - 1 of every replica; returns when they are done."""
        for current in self._passes:
            (agents, totals), (tasks, streams), data = current
            program = self._programs[len(tasks)]
            current[0] = program(agents, totals, data, tasks, streams, jnp.int32(first_step), jnp.int32(num_updates))
            jax.block_until_ready(current[0])


def _join(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)


def _plan(moving: Any, data: Dataset, fixed: Any, batch_size: int, per_pass: int) -> tuple[dict, list[slice], Memory]:
    """{size of a pass: its program}, the passes, and their memory; UserError if the device's does not suffice."""
    num_replicas = len(fixed[0])
    limit = memory_limit()
    size = min(num_replicas, per_pass or (len(jax.devices()) if limit is None else num_replicas))
    while True:
        slices = passes(num_replicas, size)
        programs = {n: _compile(moving, data, fixed, batch_size, n) for n in {s.stop - s.start for s in slices}}
        largest = max(programs)
        resident, rows = (sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (moving, data))
        temporary = programs[largest].memory_analysis().temp_size_in_bytes
        memory = Memory(resident // shardings(largest)[0].num_devices, rows, temporary)
        if limit is None or sum(memory) < 0.9 * limit:
            return programs, slices, memory
        if per_pass or size == 1:
            raise UserError(
                f"{num_replicas} replicas, {size} in a pass, need {memory}; the device has {limit / 2**20:,.0f} MiB. "
                "Take fewer seeds or tasks in one process, or a smaller --replicas_per_pass"
            )
        size = -(-size // 2)


def _compile(moving: Any, data: Dataset, fixed: Any, batch_size: int, size: int) -> Any:
    """`run_updates` for passes of `size` replicas."""
    split, copied = shardings(size)
    leading = lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype, sharding=split)
    whole = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=copied)
    (agents, totals), (tasks, streams) = jax.tree.map(leading, (moving, fixed))
    data, count = jax.tree.map(whole, (data, jnp.int32(0)))
    lowered = run_updates.lower(agents, totals, data, tasks, streams, count, count, batch_size=batch_size)
    return lowered.compile()
