"""Intervals against closed forms and scipy's bootstrap, statistics by hand and against scipy's."""

import numpy as np
import pytest
from scipy import stats as peer

from trqam_jax import stats
from trqam_jax.stats import bootstrap, paired_difference, probability_of_improvement, stratified_bootstrap


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
    assert probability_of_improvement(np.array([2, 3]), np.array([0, 1])) == 1.0
    assert probability_of_improvement(np.array([0, 1]), np.array([2, 3])) == 0.0
    assert probability_of_improvement(np.array([1, 2]), np.array([1, 2])) == 0.5
    assert probability_of_improvement(np.array([1, 3]), np.array([2])) == 0.5
    assert probability_of_improvement(np.array([0, 1, 4]), np.array([1, 2])) == pytest.approx(
        (0 + 0 + 0.5 + 0 + 1 + 1) / 6
    )


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 6, (4, 8)) / 5, rng.integers(0, 6, (4, 5)) / 5  # ties included
    expected = [peer.mannwhitneyu(x, y).statistic / 40 for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(probability_of_improvement(a, b), expected)
    assert stats.mean_improvement([*a, *b]) == pytest.approx(np.mean(expected))
    assert stats.mean_improvement([*a, *b]) + stats.mean_improvement([*b, *a]) == pytest.approx(1.0)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8])
def test_the_interquartile_mean_is_the_trimmed_mean(n):
    tasks = np.random.default_rng(n).random((5, n))
    assert stats.iqm(tasks) == pytest.approx(peer.trim_mean(tasks.ravel(), 0.25))


def test_aggregates_by_hand():
    """Of two tasks with means 0.5 and 1.1; one run of four is above the target of 1."""
    tasks = [np.array([0.0, 1.0]), np.array([0.8, 1.4])]
    assert stats.mean(tasks) == stats.median(tasks) == pytest.approx(0.8)
    assert stats.median([*tasks, np.array([3.0])]) == pytest.approx(1.1)
    assert stats.iqm(tasks) == pytest.approx(0.9)
    assert stats.optimality_gap(tasks) == pytest.approx(1 - (0.5 + 0.9) / 2)
    assert [stats.share_above(tasks, threshold) for threshold in (-0.1, 0.0, 0.8, 2)] == [1, 0.75, 0.5, 0]


def test_tasks_weigh_the_same_however_many_runs_they_have():
    tasks = [np.zeros(2), np.ones(6)]
    assert stats.mean(tasks) == stats.share_above(tasks, 0.5) == stats.optimality_gap(tasks) == 0.5


def test_the_stratified_interval_tends_to_the_normal_one():
    """Resampled within tasks, the mean over T tasks of n runs has the variance sum std^2 / n / T^2, std with ddof 0:
    that tasks differ by 10 does not widen it."""
    tasks = np.random.default_rng(4).normal([[0.0], [10.0], [20.0]], [[1.0], [2.0], [3.0]], (3, 300))
    interval = stratified_bootstrap(stats.mean, tasks)
    half = 1.96 * np.sqrt((tasks.var(-1) / 300).sum()) / 3
    assert interval.value == pytest.approx(tasks.mean())
    assert (interval.low, interval.high) == pytest.approx((tasks.mean() - half, tasks.mean() + half), abs=0.01)


@pytest.mark.parametrize("statistic", [stats.iqm, stats.median, stats.mean, stats.optimality_gap])
def test_the_stratified_interval_is_scipys(statistic):
    """scipy resamples several samples independently, each within itself."""
    tasks = np.random.default_rng(5).random((4, 8)) * np.array([[0.2], [0.5], [0.9], [1.5]])
    ours = stratified_bootstrap(statistic, tasks, resamples=20_000)
    independent = peer.bootstrap(
        tuple(tasks),
        lambda *drawn, axis: statistic(np.broadcast_arrays(*drawn)),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(6),
        vectorized=True,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((independent.low, independent.high), abs=0.006)


def test_the_seed_reproduces_the_stratified_interval():
    tasks = [np.random.default_rng(7).random(n) for n in (3, 8)]
    draw = lambda seed: stratified_bootstrap(stats.iqm, tasks, seed=seed, resamples=100)
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_one_run_per_task_has_no_width():
    assert stratified_bootstrap(stats.mean, [np.array([0.2]), np.array([0.6])]) == pytest.approx((0.4, 0.4, 0.4))
