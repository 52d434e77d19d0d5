"""Statistics over seeds: few runs, so intervals by bootstrap and comparisons by rank.

"Agarwal et al." is Agarwal et al. 2021, arXiv 2108.13264. A method's scores are `tasks`: for every task an array of one
score per run, (..., n); tasks may differ in n. The statistics of several tasks reduce those last axes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

Tasks = Sequence[np.ndarray] | np.ndarray
Scores = np.ndarray | np.floating  # one statistic, or one for every resample


class Interval(NamedTuple):
    """A statistic of the sample and its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def stratified_bootstrap(
    statistic: Callable[[Tasks], Any],
    tasks: Tasks,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval over resamples that draw each task's runs from its own, (n,) each (Agarwal et al.)."""
    tasks = [np.asarray(runs, float) for runs in tasks]
    rng = np.random.default_rng(seed)
    draws = statistic([runs[rng.integers(0, len(runs), (resamples, len(runs)))] for runs in tasks])
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(statistic(tasks)), float(low), float(high))


def bootstrap(statistic: Callable[[np.ndarray], Any], sample: np.ndarray, **options: Any) -> Interval:
    """The same for one sample (n,). `statistic` reduces the last axis of (n,) or (m, n)."""
    return stratified_bootstrap(lambda tasks: statistic(tasks[0]), [sample], **options)


def paired_difference(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " n"], *, seed: int = 0) -> Interval:
    """Mean of a - b over seeds, (n,) each and seed by seed, with a 95 % bootstrap interval over seeds."""
    return bootstrap(lambda x: x.mean(-1), np.asarray(a, float) - np.asarray(b, float), seed=seed)


def probability_of_improvement(a: Num[np.ndarray, "*m n"], b: Num[np.ndarray, "*m k"]) -> Scores:
    """P(a run of the first method, (..., n), beats one of the second, (..., m)), ties counted half, over all pairs.

    The Mann-Whitney statistic of Agarwal et al., equation 1.
    """
    a, b = np.asarray(a, float)[..., :, None], np.asarray(b, float)[..., None, :]
    return ((a > b) + 0.5 * (a == b)).mean((-2, -1))


def mean_improvement(tasks: Tasks) -> Scores:
    """probability_of_improvement, averaged over tasks. tasks: the first method's, then as many of the second's."""
    half = len(tasks) // 2
    return _mean([probability_of_improvement(a, b) for a, b in zip(tasks[:half], tasks[half:], strict=True)])


def iqm(tasks: Tasks) -> Scores:
    """Interquartile mean: of all tasks' runs together, without the lowest and the highest quarter (rounded down)."""
    runs = np.sort(np.concatenate(tasks, -1), -1)
    cut = runs.shape[-1] // 4
    return runs[..., cut : runs.shape[-1] - cut].mean(-1)


def median(tasks: Tasks) -> Scores:
    """Over tasks, of their means."""
    return np.median([runs.mean(-1) for runs in tasks], axis=0)


def mean(tasks: Tasks) -> Scores:
    """Over tasks, of their means."""
    return _mean([runs.mean(-1) for runs in tasks])


def optimality_gap(tasks: Tasks, target: float = 1.0) -> Scores:
    """How far runs fall short of the target on average; what is above it does not count. Smaller is better."""
    return target - mean([np.minimum(runs, target) for runs in tasks])


def share_above(tasks: Tasks, threshold: float | int) -> Scores:
    """One point of the performance profile: the share of runs that score above the threshold, averaged over tasks."""
    return mean([runs > threshold for runs in tasks])


def _mean(per_task: Sequence[Scores]) -> Scores:
    return np.mean(per_task, axis=0)
