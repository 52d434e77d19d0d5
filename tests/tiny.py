"""A small dataset and small agents for tests of the machinery."""

import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

import agents
from trqam_jax.data import Dataset
from trqam_jax.types import Spec

SPEC = Spec(observation_dim=4, action_dim=2, horizon=3)


def config(agent, **overrides):
    """Two layers of 8, two critics, K = 3."""
    small = dict(hidden_dims=(8, 8), num_critics=2, flow_steps=3, learning_rate=1e-3)
    result = agents.default_config(agent)
    result.update({**small, **overrides})
    return FrozenConfigDict(result)


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
    )
