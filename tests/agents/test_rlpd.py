"""RLPD against the released implementation's reference vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from golden_vectors import Case, Vectors, assert_close, check_four_updates, check_gradients, check_one_update

from agents.rlpd import INSIDE
from trqam_jax.entropy import tanh_log_prob, tanh_sample

CASE = Case(
    "rlpd",
    noise={"next_action": "next_action_eps", "action": "action_eps"},
    info={
        "critic_loss": "critic/critic_loss",
        "q_mean": "critic/q_mean",
        "actor_loss": "actor/actor_loss",
        "alpha_loss": "actor/alpha_loss",
        "bc_loss": "actor/bc_loss",
        "alpha": "actor/alpha",
        "entropy": "actor/entropy",
        "policy_q": "actor/q",
    },
)


def test_one_update():
    check_one_update(CASE, "rlpd")


def test_gradients():
    check_gradients(CASE, "rlpd")


def test_four_updates():
    """They also tell that nothing is clipped."""
    check_four_updates(CASE, "rlpd_steps")


def test_acting_and_densities():
    vectors = Vectors("rlpd")
    agent, noise, batch = vectors.load("rlpd"), vectors.group("noise"), vectors.batch()
    with jax.default_matmul_precision("highest"):
        heads = agent.heads(agent.train.params, batch.observations)
        chunks, log_prob = tanh_sample(*heads, noise["action_eps"])
        data_log_prob = tanh_log_prob(*heads, jnp.clip(batch.chunks, -INSIDE, INSIDE))
        acted = agent.sample(batch.observations, noise["policy_eps"][None])
    assert_close(chunks, vectors.arrays["out/action"], "action")
    assert_close(log_prob, vectors.arrays["out/action_log_prob"], "log density")
    assert_close(data_log_prob, vectors.arrays["out/data_log_prob"], "log density of the data")
    assert_close(acted, vectors.arrays["out/policy_action"], "acting")


def test_the_density_of_a_sample_is_that_of_its_action():
    mean, log_std = jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.2])
    actions, log_prob = tanh_sample(mean, log_std, jnp.array([[0.7, -0.2], [-1.1, 0.4]]))
    np.testing.assert_allclose(tanh_log_prob(mean, log_std, actions), log_prob, rtol=1e-4)


def test_actions_at_the_edge_have_a_finite_density():
    """Demonstrations saturate their actions; a tanh-Gaussian has no density at 1."""
    agent = tiny.agent("rlpd", bc_alpha=1.0)
    batch = tiny.batch()
    batch = batch._replace(actions=jnp.sign(batch.actions))
    _, info = agent.update(batch, jax.random.key(0))
    assert all(jnp.isfinite(value) for value in info.values())
    assert info["bc_loss"] > 1
