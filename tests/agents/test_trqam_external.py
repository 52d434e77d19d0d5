"""The ablation with the path KL as a penalty, which no reference vectors cover: what it shares with TRQAM and QAM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from trqam_jax.adjoint import lean_regression, matching_loss
from trqam_jax.networks import bind
from trqam_jax.sde import noise_variance
from trqam_jax.trust_region import Dual, path_kl

KEY = jax.random.key(3)


def matching_problem(agent, observations, noise):
    """The regression that TRQAM's family shares, as a function of the fast flow's parameters."""
    flow = lambda params: bind(agent.flow_network, params, observations)
    critic = bind(agent.critic_network, agent.train.targets["critic"], observations)
    base = flow(agent.train.targets["actor_slow"])
    return lambda fast: lean_regression(flow(fast), base, critic, noise["rollout_x0"], noise["rollout_eps"])


def test_the_external_penalty_adds_lambda_times_the_gradient_of_the_kl():
    """To that of QAM's matching loss at inv_temp 1."""
    agent, observations = tiny.agent("trqam_external"), tiny.batch().observations
    agent = agent.replace(dual=agent.dual.replace(lam=jnp.float32(40.0)))
    regression = matching_problem(agent, observations, agent.draw(KEY, len(observations)))
    kl = lambda regression: path_kl(regression.delta_v, regression.ts, tiny.SPEC.horizon)
    kl_gradient = jax.grad(lambda fast: kl(regression(fast)))(agent.train.params["actor_fast"])
    matching = tiny.gradients(tiny.agent("qam"), KEY)["actor_fast"]
    weight = 40.0 * agent.config.lam_scale
    expected = jax.tree.map(lambda g, k: g + weight * k, matching, kl_gradient)
    tiny.assert_trees_close(tiny.gradients(agent, KEY)["actor_fast"], expected)
    without = agent.replace(dual=agent.dual.replace(lam=jnp.float32(0.0)))
    tiny.assert_trees_close(tiny.gradients(without, KEY)["actor_fast"], matching)


def test_the_external_penalty_pulls_as_trqam_does_at_another_lambda():
    """A weight of w on the KL moves the optimal delta_v to that of lambda_eff = 1 + w / (2 H K)."""
    ts, horizon, weight = jnp.arange(4) / 4, 3, 50.0
    adjoints = jax.random.normal(KEY, (4, 2, 6))
    penalised = lambda delta_v: matching_loss(delta_v, adjoints, ts) + weight * path_kl(delta_v, ts, horizon)
    inside = 1 + weight / (2 * horizon * 4)
    best = -0.5 * (noise_variance(ts, 0.25) / inside)[:, None, None] * adjoints
    np.testing.assert_allclose(jax.grad(penalised)(best), 0, atol=1e-4)
    np.testing.assert_allclose(matching_loss(best, adjoints, ts, inside), 0, atol=1e-4)


def test_the_external_penalty_shares_the_dual_of_trqam():
    """The same path KL from the same networks and draws, hence the same lambda; only the loss differs."""
    states = []
    for name in ("trqam", "trqam_external"):
        agent = tiny.agent(name, kl_budget=0.3)
        agent = agent.replace(dual=Dual(lam=jnp.float32(0.7), kl=jnp.float32(0.2)))
        states.append(tiny.update(agent, KEY))
    (trqam, info), (external, external_info) = states
    assert info["path_kl"] > 0
    for ours, theirs in zip(jax.tree.leaves(external.dual), jax.tree.leaves(trqam.dual), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert external_info["lambda"] == pytest.approx(float(info["lambda"]))
    assert external_info["adjoint_loss"] != pytest.approx(float(info["adjoint_loss"]), rel=1e-2)
