"""DAC against the released implementation's reference vectors, and what it shares with QSM."""

import diffusion_vectors as diffusion
import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from agents import diffusion_policy
from trqam_jax.diffusion import posterior_step
from trqam_jax.errors import UserError

CASE = golden.Case("dac", diffusion.NOISE, diffusion.INFO)


def test_schedule_noised_chunks_and_predicted_noise():
    diffusion.check_schedule("dac")
    diffusion.check_point(CASE, "dac")


def test_sampler():
    diffusion.check_sampling(CASE, "dac", posterior_step)


def test_one_update():
    golden.check_one_update(CASE, "dac")


def test_gradients():
    golden.check_gradients(CASE, "dac")


def test_four_updates():
    """They also tell that the gradients are clipped."""
    golden.check_four_updates(CASE, "dac_steps")


def test_acts_by_its_own_step_of_the_sampler():
    diffusion.check_acting("dac", posterior_step)


def test_a_mean_of_powers():
    """Of losses that may be negative or zero, where a power's own gradient would not be finite."""
    losses, valid = jnp.array([-2.0, 0.0, 3.0, -5.0, 0.0]), jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])
    value, slope = jax.value_and_grad(diffusion_policy.mean_of_powers)(losses, valid)
    np.testing.assert_allclose(value, (-2 + 0 + 3 + 1 + 1) / 5, rtol=1e-6)
    np.testing.assert_allclose(slope, valid / 5, rtol=1e-6)


@pytest.mark.parametrize("name", ["qsm", "dac"])
def test_windows_that_cross_an_episodes_end_teach_nothing_and_add_one(name):
    agent, batch = tiny.agent(name, alpha=10.0, diffusion_steps=3), tiny.batch()
    batch = batch._replace(in_episode=jnp.zeros_like(batch.in_episode))
    new, info = jax.jit(type(agent).update)(agent, batch, jax.random.key(2))
    assert (info["critic_loss"], info["actor_loss"], info["denoising_loss"]) == (0, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, new.train.params, agent.train.params)


@pytest.mark.parametrize("name", ["qsm", "dac"])
def test_steps_of_the_diffusion_are_drawn_from_1_to_t(name):
    drawn = tiny.agent(name, diffusion_steps=3).draw(jax.random.key(0), 200)
    assert set(drawn["diffusion_t"].tolist()) == {1, 2, 3}
    assert drawn["next_sampler"].shape == (3, 200, tiny.SPEC.chunk_dim)


def test_both_start_from_the_same_networks():
    started = [tiny.agent(name).train.params for name in ("qsm", "dac")]
    jax.tree.map(np.testing.assert_array_equal, *started)


def test_an_odd_number_of_features_is_refused():
    with pytest.raises(UserError, match="time_dim is 7, expected a multiple of 2"):
        tiny.agent("dac", time_dim=7)
