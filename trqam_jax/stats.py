"""Statistics over seeds: few runs, so intervals by bootstrap and comparisons by rank."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A statistic of the sample and its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    sample: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval over resamples of sample (n,). `statistic` reduces the last axis of (n,) or (m, n)."""
    sample = np.asarray(sample, float)
    index = np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))
    draws = statistic(sample[index])
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(statistic(sample)), float(low), float(high))


def paired_difference(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> Interval:
    """Mean of a - b over seeds, (n,) each and seed by seed, with a 95 % bootstrap interval over seeds."""
    return bootstrap(lambda x: x.mean(-1), np.asarray(a, float) - np.asarray(b, float), seed=seed)


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """P(a run of the first method beats one of the second), ties counted half, over all pairs of runs.

    The Mann-Whitney statistic of Agarwal et al. 2021 (arXiv 2108.13264), equation 1.
    """
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None, :]
    return float(((a > b) + 0.5 * (a == b)).mean())
