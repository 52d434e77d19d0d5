"""Of the settings that all methods share, a method declares those that it does not read."""

import jax
import jax.numpy as jnp
import pytest
import tiny

import agents
from trqam_jax.agent_config import AgentConfig


@pytest.fixture
def read(monkeypatch):
    """The names of the settings that are read, as they are."""
    names, get = set(), AgentConfig.__getattr__

    def noting(self, name):
        names.add({"bootstrap_discount": "discount"}.get(name, name))
        return get(self, name)

    monkeypatch.setattr(AgentConfig, "__getattr__", noting)
    return names


@pytest.mark.parametrize("name", ["fql", *(name for name, agent in agents.AGENTS.items() if agent.ignores)])
def test_what_is_ignored_is_what_is_not_read(read, name):
    def use(key):
        agent = agents.AGENTS[name].create(key, tiny.SPEC, tiny.config(name)).at_step(jnp.int32(1))
        agent, _ = agent.update(tiny.batch(2), key)
        observations = jnp.zeros((1, tiny.SPEC.observation_dim))
        return agent.act(observations, key), agent.act_online(observations, key)

    jax.eval_shape(use, jax.random.key(0))
    assert {*agents.SHARED} - read == {*agents.AGENTS[name].ignores}
