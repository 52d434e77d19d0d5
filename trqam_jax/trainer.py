"""Many updates per dispatch, many replicas per process.

The loop over updates is compiled with its length as an argument: however a run is cut into dispatches, it is traced and
compiled once, and draws and sums come out the same.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from trqam_jax.agent import AbstractAgent, Info
from trqam_jax.data import Dataset, sample
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


def zero_totals(agents: AbstractAgent, data: Dataset, tasks: Array, streams: Streams, *, batch_size: int) -> Info:
    """The running sums that `run_updates` adds to, at zero: {metric: (R,)}. Nothing is computed."""
    one = functools.partial(one_update, batch_size=batch_size)
    _, info = jax.eval_shape(jax.vmap(one, (0, None, 0, 0, None)), agents, data, tasks, streams, jnp.int32(0))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)


@functools.partial(jax.jit, static_argnames="batch_size", donate_argnames=("agents", "totals"))
def run_updates(
    agents: AbstractAgent,
    totals: Info,
    data: Dataset,
    tasks: Array,
    streams: Streams,
    first_step: Array,
    num_updates: Array,
    *,
    batch_size: int,
) -> tuple[AbstractAgent, Info]:
    """Updates number first_step .. first_step + num_updates - 1 of R replicas; `totals` gains the sum of their infos.

    agents, totals, tasks and streams have a leading R; agents and totals are donated. Sums instead of means leave the
    carry, so that a row of train.csv does not depend on how its updates were dispatched.
    """
    one = jax.vmap(functools.partial(one_update, batch_size=batch_size), (0, None, 0, 0, None))

    def body(i: Array, carry: tuple[Any, Info]) -> tuple[Any, Info]:
        agents, totals = carry
        agents, info = one(agents, data, tasks, streams, first_step + i)
        return agents, jax.tree.map(jnp.add, totals, info)

    return jax.lax.fori_loop(0, num_updates, body, (agents, totals))
