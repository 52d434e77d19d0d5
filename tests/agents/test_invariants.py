"""What must hold between the methods, and in each of them beyond the reference vectors."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import agents
from agents import matching
from agents.edits import edit_network
from agents.fql import FQL
from agents.shared import flow_chunks, one_step_losses
from trqam_jax.adjoint import bridge_regression, lean_adjoint
from trqam_jax.flow import sample_ode
from trqam_jax.networks import OneStep, bind

KEY = jax.random.key(3)
OBSERVATIONS = jax.random.normal(jax.random.key(7), (5, tiny.SPEC.observation_dim))


@pytest.mark.parametrize(
    "name", ["trqam", "trqam_external", "qam", "qam_edit", "qam_fql", "fql", "fedit", "fbrac", "fawac", "bam", "sqam"]
)
def test_the_best_of_n_is_the_candidate_of_the_highest_mean_critic(name):
    """A candidate is what the policy does from one noise; the critics are the online ones."""
    agent = tiny.agent(name, best_of_n=4)
    draws = [jax.random.normal(key, (4, 5, tiny.SPEC.chunk_dim)) for key in jax.random.split(KEY, 2)]
    draws = draws if name in ("qam_edit", "fedit") else draws[:1]
    sample = jax.jit(type(agent).sample)
    chosen = sample(agent, OBSERVATIONS, *draws)
    candidates = jnp.stack([sample(agent, OBSERVATIONS, *(draw[i : i + 1] for draw in draws)) for i in range(4)])
    critic = bind(agent.critic_network, agent.train.params["critic"], OBSERVATIONS)
    best = jnp.stack([critic(candidate).mean(0) for candidate in candidates]).argmax(0)
    assert len(set(best.tolist())) > 1
    np.testing.assert_allclose(chosen, jnp.stack([candidates[i, row] for row, i in enumerate(best)]), atol=1e-6)
    actions = agent.act(OBSERVATIONS, KEY)
    assert actions.shape == (5, tiny.SPEC.horizon, tiny.SPEC.action_dim)
    assert jnp.abs(actions).max() <= 1


def test_an_edit_moves_the_flows_action_by_at_most_its_scale():
    agent = tiny.agent("qam_edit", edit_scale=0.25)
    noise, eps = (jax.random.normal(key, (1, 5, tiny.SPEC.chunk_dim)) for key in jax.random.split(KEY))
    chunks = flow_chunks(agent, "actor_fast", OBSERVATIONS, noise)[0]
    edited = agent.sample(OBSERVATIONS, noise, eps)
    mean, log_std = bind(edit_network(agent), agent.train.params["edit_actor"], OBSERVATIONS)(chunks)
    by_hand = jnp.clip(chunks + 0.25 * jnp.tanh(mean + jnp.exp(log_std) * eps[0]), -1, 1)
    np.testing.assert_allclose(edited, by_hand, atol=1e-6)
    assert 0.1 < jnp.abs(edited - chunks).max() <= 0.25 + 1e-6


def test_the_one_step_policy_acts():
    for name, network in (("fql", "actor_onestep_flow"), ("qam_fql", "one_step_actor")):
        agent = tiny.agent(name)
        noise = jax.random.normal(KEY, (1, 5, tiny.SPEC.chunk_dim))
        chunks = bind(agent.one_step_network, agent.train.params[network], OBSERVATIONS)(noise[0])
        np.testing.assert_allclose(agent.sample(OBSERVATIONS, noise), jnp.clip(chunks, -1, 1), atol=1e-6)


@pytest.mark.parametrize(("name", "off"), [("qam_edit", {"edit_scale": 0.0}), ("qam_fql", {"fql_alpha": 0.0})])
def test_a_variant_that_is_switched_off_is_qam(name, off):
    """With the same networks, the same numbers in them after an update, and the same actions."""
    agent, info = tiny.update(tiny.agent(name, **off), KEY)
    qam, expected = tiny.update(tiny.agent("qam"), KEY)
    tiny.assert_trees_close(agent.train, qam.train)
    assert info.keys() == expected.keys()
    np.testing.assert_allclose(agent.act(OBSERVATIONS, KEY), qam.act(OBSERVATIONS, KEY), atol=1e-6)


def test_the_flows_of_the_variants_learn_as_in_qam():
    """Edits and one-step policies reach QAM's flows through neither gradient nor draws (their critics differ)."""
    expected = tiny.gradients(tiny.agent("qam"), KEY)
    for name in ("qam_edit", "qam_fql"):
        grads = tiny.gradients(tiny.agent(name), KEY)
        for flow in ("actor_slow", "actor_fast"):
            tiny.assert_trees_close(grads[flow], expected[flow])


def test_trqam_at_a_fixed_lambda_is_qam():
    """lambda_eff times the matching loss of QAM at inv_temp = 1 / lambda_eff, and so are its gradients.

    With sigma = g / sqrt(l) and adjoints a: (2 dv / sigma + sigma a)^2 = l (2 dv / g + g a / l)^2, and the lean adjoint
    is linear in its start, so that a / l is QAM's adjoint at inv_temp 1 / l. The two then have the same optimum; only
    the loss's weight beside the others, which the joint clip sees, goes with lambda in TRQAM.
    """
    inv_temp = 3.0
    trqam, qam = tiny.agent("trqam"), tiny.agent("qam", inv_temp=inv_temp)
    trqam = trqam.replace(dual=trqam.dual.replace(lam=jnp.float32(1 / (inv_temp * trqam.config.lam_scale))))
    ours, theirs = tiny.update(trqam, KEY)[1], tiny.update(qam, KEY)[1]
    assert ours["adjoint_loss"] == pytest.approx(float(theirs["adjoint_loss"]) / inv_temp, rel=1e-4)
    for name in ("critic_loss", "flow_loss", "path_kl"):
        assert ours[name] == pytest.approx(float(theirs[name]), rel=1e-5)
    ours, theirs = tiny.gradients(trqam, KEY), tiny.gradients(qam, KEY)
    tiny.assert_trees_close(ours["actor_fast"], jax.tree.map(lambda g: g / inv_temp, theirs["actor_fast"]))
    tiny.assert_trees_close(ours["critic"], theirs["critic"])


def test_the_scalar_adjoint_is_the_lean_one_of_a_constant_velocity():
    """a_i = a_1 prod_{j >= i} (1 - h / (t_j + h)) = t_i a_1: exact on the grid, not only in the limit."""
    value = lambda x: jnp.stack([(3 * x).sum(-1), jnp.square(x).sum(-1)])
    base, num_steps = lambda x, t: jnp.full_like(x, 0.4), 5
    x1, eps = 0.5 * jax.random.normal(KEY, (3, 2)), jax.random.normal(KEY, (num_steps, 3, 2))
    regression = bridge_regression(base, base, value, x1, eps)
    np.testing.assert_allclose(regression.adjoints[-1], regression.a1)
    np.testing.assert_allclose(regression.xs[-1], x1, rtol=1e-6)
    # The lean adjoint is on t = 0, h, ..., 1 - h, the scalar one on h, ..., 1: the inner points are in both.
    lean = lean_adjoint(base, eps, jnp.arange(num_steps) / num_steps, regression.a1)
    np.testing.assert_allclose(lean[0], 0, atol=1e-6)
    np.testing.assert_allclose(lean[1:], regression.adjoints[:-1], rtol=1e-5)


def perfect_one_step(agent, shift):
    """In place of FQL's one-step network: the flow's ODE map, shifted by the one-step policy's output bias."""
    network = mock.Mock(spec=OneStep)
    network.apply = lambda variables, observations, noise: (
        flow_chunks(agent, "actor_bc_flow", observations, noise) + shift(variables["params"])
    )
    return network


def test_fql_leaves_a_perfect_one_step_policy_to_the_critic(monkeypatch):
    """Where it computes the flow's ODE map, the distillation and its gradient are 0, and it acts as the flow does."""
    agent = tiny.agent("fql", alpha=1e3)
    shift = lambda params: params["Dense_2"]["bias"]
    monkeypatch.setattr(FQL, "one_step_network", perfect_one_step(agent, shift))
    assert not shift(agent.train.params["actor_onestep_flow"]).any()
    noise = jax.random.normal(KEY, (1, 5, tiny.SPEC.chunk_dim))
    chunks = flow_chunks(agent, "actor_bc_flow", OBSERVATIONS, noise)[0]
    np.testing.assert_allclose(agent.sample(OBSERVATIONS, noise), chunks, atol=1e-6)
    assert tiny.update(agent, KEY)[1]["distill_loss"] == pytest.approx(0, abs=1e-12)
    grad = shift(tiny.gradients(agent, KEY)["actor_onestep_flow"])

    observations, z = tiny.batch().observations, agent.draw(KEY, 16)["distill_z"]
    endpoints = flow_chunks(agent, "actor_bc_flow", observations, z)
    value = bind(agent.critic_network, agent.train.params["critic"], observations)
    of_critic = jax.grad(lambda bias: -value(jnp.clip(endpoints + bias, -1, 1)).mean())(jnp.zeros_like(grad))
    assert jnp.abs(of_critic).max() > 1e-4
    np.testing.assert_allclose(grad, of_critic, rtol=1e-4, atol=1e-6)


def test_the_one_step_policy_pays_for_leaving_the_range_but_is_valued_within_it():
    """The distillation sees the chunk before the clip, the critic after it."""
    value = lambda chunks: jnp.stack([chunks.sum(-1), 3 * chunks.sum(-1)])
    distill, q = one_step_losses(jnp.array([[2.0, 0.5]]), jnp.array([[1.0, 0.5]]), value)
    assert distill == pytest.approx(0.5)
    assert q == pytest.approx(-3.0)


@pytest.mark.parametrize("name", [name for name in agents.AGENTS if name != "bc"])
def test_a_pretrained_policy_reaches_the_flows_and_their_averages(name):
    cloner, agent = tiny.agent("bc"), tiny.agent(name)
    loaded = agent.load_pretrained(cloner.train.params["actor"])
    for network in agent.train.params:
        source = cloner.train.params["actor"] if network in agent.pretrained_networks else agent.train.params[network]
        tiny.assert_trees_close(loaded.train.params[network], source, rtol=0)
        if network in loaded.train.targets:
            tiny.assert_trees_close(loaded.train.targets[network], source, rtol=0)


def test_trqam_with_sqams_penalty():
    """It adds gap_coef (mean Q(policy) - mean Q(data)) to the critics' loss and nothing to the flows'; 0 is TRQAM."""
    plain, penalised = tiny.agent("trqam"), tiny.agent("trqam", gap_coef=0.3)
    expected, grads = tiny.gradients(plain, KEY), tiny.gradients(penalised, KEY)
    for flow in ("actor_slow", "actor_fast"):
        tiny.assert_trees_close(grads[flow], expected[flow])
    batch, noise = tiny.batch(), plain.draw(KEY, 16)
    velocity = bind(plain.flow_network, plain.train.params["actor_fast"], batch.observations)
    x1 = sample_ode(velocity, noise["rollout_x0"], plain.config.flow_steps)
    gap = jax.grad(lambda params: matching.value_gap(plain, params, batch, x1))(plain.train.params)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gap["critic"])) > 1e-3
    tiny.assert_trees_close(grads["critic"], jax.tree.map(lambda g, p: g + 0.3 * p, expected["critic"], gap["critic"]))
    assert "q_gap" not in tiny.update(plain, KEY)[1]


def test_no_two_methods_have_equal_trees():
    """By which JAX would take the compiled program of one for another's."""
    structures = {name: jax.tree.structure(tiny.agent(name)) for name in agents.AGENTS}
    same = [(a, b) for a in structures for b in structures if a < b and structures[a] == structures[b]]
    assert not same
