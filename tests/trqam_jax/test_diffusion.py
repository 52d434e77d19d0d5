"""The diffusion's schedule, its reverse steps and its samplers, by closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trqam_jax import diffusion
from trqam_jax.networks import NoisePredictor

STEPS = {"posterior": diffusion.posterior_step, "data": diffusion.data_step}


@pytest.mark.parametrize("num_steps", [1, 5, 10])
def test_the_schedule_is_that_of_the_sde(num_steps):
    """alpha_bar_t = exp(-integral of the rate 0.1 + 9.9 s over s from 0 to t / T); at T it is exp(-5.05)."""
    betas, alphas, alpha_bars = diffusion.vp_schedule(num_steps)
    s = np.arange(num_steps + 1) / num_steps
    np.testing.assert_allclose(alpha_bars, np.exp(-(0.1 * s + 9.9 * s**2 / 2)), rtol=1e-12)
    assert alpha_bars[-1] == pytest.approx(np.exp(-5.05), rel=1e-12)
    np.testing.assert_allclose(alphas, 1 - betas)
    assert (betas[0], alphas[0], alpha_bars[0]) == (0, 1, 1)


def test_the_posteriors_mean_is_bayes():
    """Of x_{t-1} with the prior N(sqrt(ab') x0, 1 - ab') and the observation x_t ~ N(sqrt(a) x_{t-1}, beta)."""
    schedule, x0, x = diffusion.vp_schedule(7), 0.3, -1.7
    steps = diffusion.reverse_steps(schedule)
    assert steps.t.tolist() == [7, 6, 5, 4, 3, 2, 1]
    for i, t in enumerate(range(7, 1, -1)):
        variance, alpha, beta = 1 - schedule.alpha_bars[t - 1], schedule.alphas[t], schedule.betas[t]
        prior, observed = np.sqrt(schedule.alpha_bars[t - 1]) * x0 / variance, np.sqrt(alpha) * x / beta
        mean = (prior + observed) / (1 / variance + alpha / beta)
        assert steps.mean_x0[i] * x0 + steps.mean_x[i] * x == pytest.approx(mean, rel=1e-5)
        assert steps.std[i] == pytest.approx(np.sqrt(beta), rel=1e-6)
    assert (steps.mean_x0[-1], steps.mean_x[-1], steps.std[-1]) == (1, 0, 0)


def test_noised_data_keep_their_variance():
    schedule, shape = diffusion.vp_schedule(4), (5, 100_000)
    x0, noise = jax.random.normal(jax.random.key(0), (2, *shape))
    t = jnp.array([0, 1, 2, 3, 4])
    x = diffusion.noised(schedule, x0, t, noise)
    np.testing.assert_allclose(x.std(-1), 1, atol=0.02)
    np.testing.assert_allclose((x * x0).mean(-1), np.sqrt(schedule.alpha_bars), atol=0.02)
    np.testing.assert_array_equal(x[0], x0[0])


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("num_steps", [1, 2, 10])
def test_the_exact_predictor_of_a_point_leads_to_it(name, num_steps):
    """Whatever the noise, also with leading axes; at t = 1 none is added."""
    schedule, point = diffusion.vp_schedule(num_steps), jnp.array([0.9, -0.4, 0.0])
    x, *z = jax.random.normal(jax.random.key(1), (num_steps + 1, 2, 4, 3))

    def exact(x, t):
        alpha_bar = jnp.asarray(schedule.alpha_bars)[t.astype(int)]
        return (x - jnp.sqrt(alpha_bar) * point) / jnp.sqrt(1 - alpha_bar)

    found = diffusion.sample_reverse(exact, STEPS[name], x, jnp.stack(z), schedule)
    np.testing.assert_allclose(found, jnp.broadcast_to(point, found.shape), atol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_samples_are_clipped_whatever_is_predicted(name):
    x, *z = 3 * jax.random.normal(jax.random.key(1), (6, 4, 3))
    found = diffusion.sample_reverse(lambda x, t: -2 * x, STEPS[name], x, jnp.stack(z), diffusion.vp_schedule(5))
    assert jnp.abs(found).max() == 1
    last = jnp.stack(z).at[-1].add(1.0)
    again = diffusion.sample_reverse(lambda x, t: -2 * x, STEPS[name], x, last, diffusion.vp_schedule(5))
    np.testing.assert_array_equal(again, found)


def test_the_two_samplers_clip_at_their_own_places():
    """One step from x = 0 with eps = 0 and much noise: the posterior's leaves [-1, 1], the other one's does not."""
    constants = diffusion.ReverseStep(*(value[0] for value in diffusion.reverse_steps(diffusion.vp_schedule(5))))
    x, z = jnp.zeros((1, 2)), jnp.array([[5.0, 0.1]])
    after = diffusion.posterior_step(x, x, z, constants)
    np.testing.assert_allclose(after, constants.std * z, rtol=1e-6)
    np.testing.assert_allclose(diffusion.data_step(x, x, z, constants), jnp.clip(constants.std * z, -1, 1), rtol=1e-6)
    assert jnp.abs(after).max() > 1
    # From data predicted at 3, which count as 1 before the noise is added, or as 1 with it.
    x, z = jnp.full((1, 2), 3.0 * constants.signal), jnp.array([[0.0, -0.5]])
    mean = constants.mean_x0 * 1.0 + constants.mean_x * x
    np.testing.assert_allclose(diffusion.posterior_step(x, 0 * x, z, constants), mean + constants.std * z, rtol=1e-5)
    np.testing.assert_array_equal(diffusion.data_step(x, 0 * x, z, constants), [[1.0, 1.0]])


def test_the_noise_predictors_parts():
    """The step's own MLP has the policy's widths and no layer norm, which the main one has where it is asked for."""
    network = NoisePredictor((6, 5), chunk_dim=3, time_dim=400, layer_norm=True)
    params = network.init(jax.random.key(0), jnp.zeros(4), jnp.zeros(3), jnp.ones(1))["params"]
    assert set(params["condition"]) == {"Dense_0", "Dense_1"}
    assert set(params["main"]) == {"Dense_0", "Dense_1", "Dense_2", "LayerNorm_0", "LayerNorm_1"}
    assert params["condition"]["Dense_1"]["bias"].shape == (5,)
    assert params["main"]["Dense_0"]["kernel"].shape == (3 + 4 + 5, 6)
    assert params["frequencies"].std() == pytest.approx(0.2, rel=0.15)
