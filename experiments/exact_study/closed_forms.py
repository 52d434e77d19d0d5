"""Exact values: of a Gaussian base N(m, s^2 I) in closed form, of any base by quadrature.

The optimum of adjoint matching is base * exp(Q / lambda), and because the SDE is memoryless its path KL is the terminal
KL (arXiv 2409.08861). Both hold in continuous time; what a grid of K steps makes of the linear case is here, too.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.exact_study.flows import Mixture
from trqam_jax.types import Array

LogDensity = Callable[[Any], Array]  # points (N, D) -> (N,)
BOX, CELLS = 2.0, {1: 4000, 2: 500}  # of the quadrature over actions: half its width, cells along each dimension


# ---- a linear critic Q = q.x on a Gaussian


def linear_kl(std: float, gradient: np.ndarray, horizon: int) -> float:
    """KL of the tilted N(m + s^2 q / lambda, s^2 I) at lambda = 1, s^2 |q|^2 / (2 H) nats per action; / lambda^2."""
    return std**2 * float(gradient @ gradient) / (2 * horizon)


class Grid(NamedTuple):
    """What K steps make of the linear case, in multiples of its value in continuous time."""

    kl: float  # path KL at a given lambda
    shift: float  # of the mean of the ODE's endpoint
    std: float  # of the ODE's endpoint, which is not the tilt's doing


def linear_on_grid(std: float, num_steps: int) -> Grid:
    """The matching loss's minimiser is dv_i = (g_i^2 / 2) P_i q / lambda with the discrete adjoint's product
    P_i = prod_{j >= i} (1 + h (2 k(t_j + h) - 1 / (t_j + h))); path KL and Euler's ODE follow by their sums."""
    h, t = 1 / num_steps, np.arange(num_steps) / num_steps
    slope = lambda t: (t * std**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * std**2)
    product = np.cumprod((1 + h * (2 * slope(t + h) - 1 / (t + h)))[::-1])[::-1]
    variance = 2 * (1 - t + h) / (t + h)
    shift, spread = 0.0, 1.0
    for i in range(num_steps):
        growth = 1 + h * slope(t[i])
        shift = growth * shift + h * variance[i] / 2 * product[i]
        spread *= growth
    kl = float(np.sum(h * variance * product**2) / 2)
    return Grid(kl / (std**2 / 2), float(shift) / std**2, float(spread) / std)


# ---- a quadratic critic Q = -(kappa / 2) |x - mu|^2 + e.x on a Gaussian


class Tilted(NamedTuple):
    """A Gaussian N(mean, std^2 I) and its KL to the base in nats."""

    mean: np.ndarray
    std: float
    kl: float


def quadratic_tilt(
    mean: np.ndarray, std: float, kappa: float, peak: np.ndarray, error: np.ndarray, inv_temp: float
) -> Tilted:
    """base * exp(inv_temp Q): precisions add, 1 / s*^2 = 1 / s^2 + kappa inv_temp, and so do the gradients."""
    shrink = 1 + inv_temp * kappa * std**2
    new_mean = (mean + inv_temp * std**2 * (kappa * peak + error)) / shrink
    ratio = 1 / shrink  # s*^2 / s^2
    distance = float(np.sum((new_mean - mean) ** 2))
    kl = len(mean) / 2 * (ratio - 1 - np.log(ratio)) + distance / (2 * std**2)
    return Tilted(new_mean, std * ratio**0.5, float(kl))


def tilt_at_budget(tilt: Callable[[float], Tilted], budget: float) -> Tilted:
    """The tilt whose KL is the budget, by bisection over inv_temp = 1 / lambda: the KL grows with it."""
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if tilt(middle).kl < budget else (low, middle)
    return tilt(low)


# ---- any critic on any base


class Target(NamedTuple):
    """base * exp(reward) by quadrature."""

    log_density: LogDensity
    kl: float  # to the base: E*[r] - log Z, in nats
    value: float  # E*[r]


def tilted(base: Mixture, reward: Callable[[Array], Array]) -> Target:
    """reward: (N, D) -> (N,), of the clipped action, as the critics have it."""
    points, volume = cells(BOX, CELLS[base.dim], base.dim)
    clipped = lambda x: reward(jnp.clip(x, -1, 1))
    rewards, log_base = clipped(points), base.log_density(points)
    log_z = jax.nn.logsumexp(log_base + rewards) + np.log(volume)
    value = float(jnp.sum(jnp.exp(log_base + rewards - log_z) * rewards) * volume)
    return Target(lambda x: base.log_density(x) + clipped(x) - log_z, value - float(log_z), value)


@functools.cache
def cells(half_width: float, count: int, dim: int) -> tuple[Float[np.ndarray, "N D"], float]:
    """Midpoints of count^D cells of [-half_width, half_width]^D, and a cell's volume."""
    side = 2 * half_width / count
    line = -half_width + side * (np.arange(count) + 0.5)
    return np.array(list(itertools.product(line, repeat=dim)), np.float32), side**dim
