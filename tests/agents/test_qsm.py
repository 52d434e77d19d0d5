"""QSM against the released implementation's reference vectors; DAC's tests have what the two share."""

import diffusion_vectors as diffusion
import golden_vectors as golden
import jax.numpy as jnp

from trqam_jax.diffusion import data_step

CASE = golden.Case("qsm", diffusion.NOISE, diffusion.INFO)


def test_schedule_noised_chunks_and_predicted_noise():
    diffusion.check_schedule("qsm")
    diffusion.check_point(CASE, "qsm")


def test_sampler():
    chunks = diffusion.check_sampling(CASE, "qsm", data_step)
    assert (jnp.abs(chunks) == 1).mean() > 0.7  # the last clip is what most coordinates meet


def test_one_update():
    golden.check_one_update(CASE, "qsm")


def test_gradients():
    golden.check_gradients(CASE, "qsm")


def test_four_updates():
    """They also tell that the gradients are clipped."""
    golden.check_four_updates(CASE, "qsm_steps")


def test_acts_by_its_own_step_of_the_sampler():
    diffusion.check_acting("qsm", data_step)
