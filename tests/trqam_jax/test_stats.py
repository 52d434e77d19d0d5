"""Intervals against closed forms, comparisons by hand."""

import numpy as np
import pytest

from trqam_jax.stats import bootstrap, paired_difference, probability_of_improvement


def test_bootstrap_of_a_mean_tends_to_the_normal_interval():
    """For n = 400 the percentile interval of a mean is mean +- 1.96 std / sqrt(n), std with ddof 0."""
    sample = np.random.default_rng(0).normal(3.0, 2.0, 400)
    interval = bootstrap(lambda x: x.mean(-1), sample)
    half = 1.96 * sample.std() / 20
    assert interval.value == sample.mean()
    assert interval.low == pytest.approx(sample.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(sample.mean() + half, abs=0.02)


def test_bootstrap_is_exact_for_two_values():
    """Resampling {0, 1}: the mean is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert bootstrap(lambda x: x.mean(-1), np.array([0.0, 1.0])) == (0.5, 0.0, 1.0)
    assert bootstrap(lambda x: x.mean(-1), np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5, 0.5)


def test_the_seed_reproduces():
    sample = np.random.default_rng(1).normal(size=8)
    draw = lambda seed: bootstrap(lambda x: x.mean(-1), sample, seed=seed, resamples=50)
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_pairing_removes_what_two_methods_share():
    """A seed's luck that hits both methods alike leaves the paired difference, but not the spread, unmoved."""
    luck = np.random.default_rng(2).normal(0, 30, 8)
    interval = paired_difference(luck + 5, luck)
    assert interval == pytest.approx((5.0, 5.0, 5.0))


def test_probability_of_improvement():
    assert probability_of_improvement([2, 3], [0, 1]) == 1.0
    assert probability_of_improvement([0, 1], [2, 3]) == 0.0
    assert probability_of_improvement([1, 2], [1, 2]) == 0.5
    assert probability_of_improvement([1, 3], [2]) == 0.5
    assert probability_of_improvement([0, 1, 4], [1, 2]) == pytest.approx((0 + 0 + 0.5 + 0 + 1 + 1) / 6)
