"""Targets and losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trqam_jax.critic import best_by_mean, best_of_n, pessimistic, td_loss, td_target
from trqam_jax.types import Batch


def test_target():
    batch = Batch(None, jnp.zeros((2, 3, 1)), jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]), None, None)
    np.testing.assert_allclose(td_target(batch, jnp.array([10.0, 10.0]), 0.9**3), [1 + 0.9**3 * 10, 2.0], rtol=1e-6)


def test_pessimism_subtracts_population_deviations():
    qs = jnp.array([[1.0], [3.0]])
    assert pessimistic(qs, 0.5)[0] == pytest.approx(2 - 0.5 * 1.0)
    assert pessimistic(qs, 0.0)[0] == pytest.approx(2.0)


def test_one_critic_has_no_deviation_and_a_gradient():
    slope = jax.grad(lambda qs: pessimistic(qs, 0.5).sum())(jnp.array([[1.0, -2.0]]))
    np.testing.assert_array_equal(slope, [[1.0, 1.0]])
    np.testing.assert_array_equal(pessimistic(jnp.array([[1.0, -2.0]]), 0.5), [1.0, -2.0])


def test_critics_that_agree_have_a_gradient():
    """Of two critics some outputs are equal floats now and then; the mean's slope is left."""
    qs = jnp.array([[-29.0, 1.0], [-29.0, 3.0]])
    slope = jax.grad(lambda qs: pessimistic(qs, 0.5).sum())(qs)
    np.testing.assert_allclose(slope, [[0.5, 0.75], [0.5, 0.25]])
    np.testing.assert_array_equal(pessimistic(qs, 0.5), [-29.0, 1.5])


def test_invalid_windows_weigh_nothing_but_count():
    qs, targets = jnp.array([[1.0, 5.0], [3.0, 5.0]]), jnp.zeros(2)
    assert td_loss(qs, targets, jnp.array([1.0, 0.0])) == pytest.approx((1 + 9) / 4)


def test_best_of_n_takes_each_row_its_own_best():
    candidates = jnp.arange(12.0).reshape(3, 2, 2)
    chosen = best_of_n(candidates, jnp.array([[0.0, 9.0], [5.0, 1.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(chosen, [candidates[1, 0], candidates[0, 1]])


def test_best_by_mean_asks_the_critics_only_about_a_choice():
    candidates = jnp.arange(12.0).reshape(3, 2, 2)
    chosen = best_by_mean(candidates, lambda x: jnp.stack([-x.sum(-1), jnp.zeros(x.shape[:-1])]))
    np.testing.assert_array_equal(chosen, candidates[0])

    def never(_):
        raise AssertionError("there is nothing to choose between")

    np.testing.assert_array_equal(best_by_mean(candidates[2:], never), candidates[2])
