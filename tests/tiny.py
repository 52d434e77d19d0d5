"""A small dataset and small agents for tests of the machinery."""

import functools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np

import agents
from trqam_jax.agent_config import AgentConfig
from trqam_jax.data import ARRAYS, Dataset, sample
from trqam_jax.replicas import create_replicas
from trqam_jax.streams import stack_streams
from trqam_jax.types import Spec
from trqam_jax.update_loop import ReplicaData, SamplingConfig, zero_totals

SPEC = Spec(observation_dim=4, action_dim=2, horizon=3)


def config(agent, **overrides):
    """Two layers of 8, two critics, K = 2."""
    small = dict(hidden_dims=(8, 8), num_critics=2, flow_steps=2, learning_rate=1e-3)
    return AgentConfig.create(agents.settings(agent), {**small, **overrides})


def dataset(num_tasks=2, episodes=6, length=20, seed=0):
    """Noise in the shape of episodes."""
    rng = np.random.default_rng(seed)
    n = episodes * length
    rows = np.arange(n) + np.arange(n) // length
    return Dataset(
        observations=jnp.asarray(rng.normal(size=(n + episodes, SPEC.observation_dim)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, size=(n, SPEC.action_dim)), jnp.float32),
        rows=jnp.asarray(rows, jnp.int32),
        terminals=jnp.asarray((np.arange(n) + 1) % length == 0),
        rewards=jnp.asarray(rng.integers(-2, 1, size=(num_tasks, n)), jnp.float32),
        masks=jnp.asarray(rng.random((num_tasks, n)) > 0.1, jnp.float32),
        ends=jnp.arange(length - 1, n, length, dtype=jnp.int32),
    )


def on_host(data):
    """Its arrays as numpy's, in three shards of unequal sizes that end with episodes."""
    ends = np.flatnonzero(data.terminals) + 1
    bounds = (0, *ends[[0, 2, -1]].tolist())
    return types.SimpleNamespace(**{name: np.asarray(getattr(data, name)) for name in ARRAYS}, bounds=bounds)


def agent(name, **overrides):
    """A fresh agent that clips no gradient; one key, so networks of one name are equal in all of them."""
    return agents.AGENTS[name].create(jax.random.key(0), SPEC, config(name, **{"clip_norm": None, **overrides}))


def cloned(name, **overrides):
    """The same, started from a BC policy: (the agent of behaviour cloning, the agent)."""
    cloner = agent("bc")
    return cloner, agent(name, **overrides).load_pretrained(cloner.train.params["actor"])


def batch(size=16):
    return sample(dataset(), jnp.int32(0), jax.random.key(1), size, SPEC.horizon, 0.99)


def update(agent, key):
    """One update on `batch()`: (agent, info)."""
    return _compiled_update(type(agent))(agent, batch(), key)


@functools.cache
def _compiled_update(agent_class):
    """A function of each class's own: of the one they inherit JAX was seen to run another class's program."""
    return jax.jit(lambda agent, batch, key: agent.update(batch, key))


def gradients(agent, key):
    """Of one update's loss: Adam's first moment over (1 - .9)."""
    return jax.tree.map(lambda mu: mu / (1 - 0.9), update(agent, key)[0].train.opt_state[0].mu)


def assert_trees_close(actual, expected, rtol=1e-4):
    """Leaf by leaf, against the leaf's largest entry."""
    chex.assert_trees_all_equal_shapes(actual, expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * float(jnp.abs(b).max()))


SAMPLING = SamplingConfig(batch_size=16)


def start(name, seeds, tasks, data):
    """Fresh replicas of an agent, their totals and the streams of their offline phase."""
    streams = stack_streams(seeds, "offline")
    made = create_replicas(agents.AGENTS[name], streams.init, SPEC, config(name))
    totals = zero_totals(made, ReplicaData(data, jnp.array(tasks)), streams, SAMPLING)
    return made, totals, streams


def leaves(tree):
    """As numpy arrays."""
    return [np.asarray(x) for x in jax.tree.leaves(tree)]
