"""IFQL against the released implementation's reference vectors, its acting rule, and the expectile by hand."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trqam_jax.critic import expectile_loss
from trqam_jax.networks import bind

IFQL = golden.Case(
    agent="ifql",
    noise={"flow_x0": "flow_x0", "flow_t": "flow_t"},
    info={
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/actor_loss",
        "value_loss": "value/value_loss",
        "v_mean": "value/v_mean",
    },
)


def test_one_update():
    golden.check_one_update(IFQL, "ifql")


def test_gradients():
    golden.check_gradients(IFQL, "ifql")


def test_four_updates():
    golden.check_four_updates(IFQL, "ifql_steps")


def test_acts_with_the_best_of_32_samples_by_the_critics_minimum():
    vectors = golden.Vectors("ifql")
    agent, observations = vectors.load("ifql"), vectors.batch().observations
    train, config, key = agent.train, agent.config, jax.random.key(3)
    assert config.num_samples == 32
    x = jax.random.normal(key, (32, len(observations), golden.SPEC.chunk_dim))
    flow = bind(agent.flow_network, train.params["actor_flow"], observations)
    for i in range(config.flow_steps):
        x = x + flow(x, i / config.flow_steps) / config.flow_steps
    candidates = jnp.clip(x, -1, 1)
    critic = bind(agent.critic_network, train.params["critic"], observations)
    qs = np.stack([critic(chunks) for chunks in candidates])  # (32, Q, B)
    chosen = qs.min(1).argmax(0)
    expected = np.stack([candidates[n, b] for b, n in enumerate(chosen)])
    np.testing.assert_allclose(agent.act(observations, key).reshape(len(observations), -1), expected, atol=1e-5)
    assert (chosen != qs.mean(1).argmax(0)).any(), "these numbers do not tell the minimum from the mean"


def test_expectile():
    """kappa weighs what lies above the estimate, 1 - kappa what lies below."""
    assert expectile_loss(jnp.array([2.0]), 0.9) == pytest.approx(0.9 * 4)
    assert expectile_loss(jnp.array([-2.0]), 0.9) == pytest.approx(0.1 * 4)
    assert expectile_loss(jnp.array([2.0, -1.0]), 0.9) == pytest.approx((0.9 * 4 + 0.1 * 1) / 2)
    # Of 0 and 1 the kappa-expectile is kappa: there the weighted gaps balance.
    slope = jax.grad(lambda v: expectile_loss(jnp.array([0.0, 1.0]) - v, 0.9))(0.9)
    assert slope == pytest.approx(0, abs=1e-6)


def test_pretrained_policy_reaches_the_flow():
    agent = golden.Vectors("ifql").load("ifql")
    velocity = jax.tree.map(jnp.zeros_like, agent.train.params["actor_flow"])
    loaded = agent.load_pretrained(velocity).train
    expected = {**agent.train.params, "actor_flow": velocity}, agent.train.targets
    jax.tree.map(np.testing.assert_array_equal, (loaded.params, loaded.targets), expected)
