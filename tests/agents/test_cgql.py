"""CGQL, CGQL-M and CGQL-L against the released implementation's reference vectors; guidance and Linex by hand."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import agents
from trqam_jax.flow import sample_ode
from trqam_jax.guidance import guided_velocity, linex_loss
from trqam_jax.networks import TimedCritic, Velocity, bind

DRAWS = {"next_action": "next_action_noise", "flow_x0": "flow_x0", "flow_t": "flow_t"}
NOISED_DRAWS = DRAWS | {"noised_x0": "critic_noise", "noised_t": "critic_t"}
INFO = {"critic_loss": "critic/critic_loss", "flow_loss": "actor/flow_loss"}
NOISED_INFO = INFO | {"noisy_critic_loss": "critic/noisy_critic_loss"}
CASES = {
    "cgql": golden.Case("cgql", DRAWS, INFO),
    "cgql_mse": golden.Case("cgql_mse", NOISED_DRAWS, NOISED_INFO),
    "cgql_linex": golden.Case("cgql_linex", NOISED_DRAWS, NOISED_INFO),
}
every = pytest.mark.parametrize("name", CASES)


@every
def test_one_update(name):
    golden.check_one_update(CASES[name], name)


@every
def test_gradients(name):
    golden.check_gradients(CASES[name], name)


def test_four_updates():
    golden.check_four_updates(CASES["cgql"], "cgql_steps")


@every
def test_draws_nothing_it_does_not_use(name):
    agent = golden.Vectors(name).load(name)
    assert set(agent.draw(jax.random.key(0), 6)) == set(CASES[name].noise)


def networks(agent):
    """The averaged flow and the online critic of (observations, x, time), as functions."""
    dims = agent.config.hidden_dims
    flow = Velocity(dims, golden.SPEC.chunk_dim), agent.train.targets["actor"]
    critic = TimedCritic(dims, agent.config.num_critics), agent.train.params["critic"]
    return [lambda *x, n=network, p=params: n.apply({"params": p}, *x) for network, params in (flow, critic)]


@every
def test_acts_with_the_guided_flow(name):
    """Euler by hand. Plain CGQL asks the critic at time 1 everywhere, the variants at the flow's time."""
    vectors = golden.Vectors(name)
    agent, observations = vectors.load(name, best_of_n=3), vectors.batch().observations
    config, (flow, critic) = agent.config, networks(agent)
    size, steps = len(observations), config.flow_steps
    time = lambda t: jnp.full((size, 1), t)
    noise = jax.random.normal(jax.random.key(0), (3, size, golden.SPEC.chunk_dim))
    candidates = []
    for x in noise:
        for i in range(steps):
            t = i / steps
            velocity = flow(observations, x, t)
            if i > 0:
                asked_at = time(1.0 if name == "cgql" else t)
                gradient = jax.grad(lambda x, s: critic(observations, x, s).mean(0).sum())(x, asked_at)
                velocity += ((1 - t) * config.inv_temp * gradient + x) * config.guidance_coef / t
            x = x + velocity / steps
        candidates.append(jnp.clip(x, -1, 1))
    scores = np.stack([critic(observations, chunks, time(1.0)).mean(0) for chunks in candidates])
    expected = [candidates[n][b] for b, n in enumerate(scores.argmax(0))]
    np.testing.assert_allclose(agent.sample(observations, noise), expected, atol=2e-5)
    np.testing.assert_allclose(agent.sample(observations, noise[2:]), candidates[2], atol=2e-5)
    assert agent.act(observations, jax.random.key(1)).shape == (size, 5, 3)


@every
def test_without_guidance_it_acts_as_pretrained(name):
    vectors = golden.Vectors(name)
    agent, observations, key = vectors.load(name, guidance_coef=0.0), vectors.batch().observations, jax.random.key(4)
    flow = bind(Velocity(agent.config.hidden_dims, 15), agent.train.targets["actor"], observations)
    x1 = sample_ode(flow, jax.random.normal(key, (1, len(observations), 15)), agent.config.flow_steps)
    expected = np.clip(x1[0], -1, 1).reshape(-1, 5, 3)
    np.testing.assert_allclose(agent.act(observations, key), expected, rtol=1e-6, atol=1e-6)
    with_guidance = vectors.load(name).act(observations, key)
    assert np.abs(with_guidance - expected).max() > 0.01


def test_guidance_adds_the_velocity_of_the_tilt():
    """For the base N(0, I) of both ends the marginal at t is N(0, c), c = (1-t)^2 + t^2, and its score -x / c. With the
    critic -x^2 / (2 c) that score comes once more: coef 1 doubles the velocity (2t - 1) x / c."""
    c = lambda t: (1 - t) ** 2 + t**2
    velocity = lambda x, t: (2 * t - 1) * x / c(t)
    value = lambda x, t: jnp.stack([-jnp.square(x).sum(-1) / (2 * c(t))] * 2)  # two equal critics
    x, t = jax.random.normal(jax.random.key(0), (4, 3)), jnp.float32(0.3)
    doubled = guided_velocity(velocity, value, inv_temp=1.0, coef=1.0)(x, t)
    np.testing.assert_allclose(doubled, 2 * velocity(x, t), rtol=1e-5, atol=1e-6)
    # inv_temp scales the critic's part alone.
    guided = guided_velocity(velocity, value, inv_temp=3.0, coef=0.5)(x, t)
    np.testing.assert_allclose(guided, velocity(x, t) + 0.5 * (x - 3 * 0.7 * x / c(0.3)) / 0.3, rtol=1e-5, atol=1e-6)


def test_linex():
    """Both branches by hand, at inv_temp 2 and clip 5: d = 3 and d = 6."""
    loss = lambda noised: linex_loss(jnp.array([2.0, 3.5]), noised, 2.0, 5.0)
    noised = jnp.array([0.5, 0.5])
    np.testing.assert_allclose(loss(noised), [np.exp(3.0) + 2 * 0.5, 6.0], rtol=1e-6)
    slopes = jax.grad(lambda noised: loss(noised).sum())(noised)
    np.testing.assert_allclose(slopes, [2 - 2 * np.exp(3.0), -2.0], rtol=1e-6)


def test_linex_stays_finite_far_above_its_clip():
    value, slope = jax.value_and_grad(lambda noised: linex_loss(jnp.float32(1e4), noised, 10.0, 5.0))(0.0)
    assert (value, slope) == (1e5, -10)


def test_linex_is_least_at_the_tilted_value():
    clean, inv_temp = jnp.array([0.0, 1.0, -0.5]), 2.0
    best = jnp.log(jnp.exp(inv_temp * clean).mean()) / inv_temp
    slope = jax.grad(lambda noised: linex_loss(clean, noised, inv_temp, 5.0).mean())(best)
    assert slope == pytest.approx(0, abs=1e-5)


@every
def test_pretrained_policy_reaches_the_flow_and_its_average(name):
    agent = golden.Vectors(name).load(name)
    velocity = jax.tree.map(jnp.zeros_like, agent.train.params["actor"])
    loaded = agent.load_pretrained(velocity).train
    expected = {**agent.train.params, "actor": velocity}, {**agent.train.targets, "actor": velocity}
    jax.tree.map(np.testing.assert_array_equal, (loaded.params, loaded.targets), expected)


def test_the_three_share_their_networks():
    """One seed starts all three from the same parameters."""
    started = [
        agents.AGENTS[name].create(jax.random.key(5), golden.SPEC, golden.Vectors("cgql").config(name)).train.params
        for name in CASES
    ]
    for other in started[1:]:
        jax.tree.map(np.testing.assert_array_equal, started[0], other)
