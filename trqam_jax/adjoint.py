"""Adjoint matching: the lean adjoint of the base SDE and the regression that fits a velocity to it.

Domingo-Enrich et al. 2024 (arXiv 2409.08861), equations 38 to 40; QAM (arXiv 2601.14234) applies it to a critic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from trqam_jax.flow import Field
from trqam_jax.sde import Path, drift, noise_variance
from trqam_jax.types import Array


def value_gradient(value: Callable[[Array], Array], x1: Array) -> Array:
    """Gradient of the mean critic at the clipped endpoint; zero where |x1| > 1. value: (B, D) -> (Q, B); result (B, D).

    Differentiated through the clip, so that a saturated coordinate is not pushed further out.
    """
    return jax.grad(lambda x: value(jnp.clip(x, -1, 1)).mean(0).sum())(x1)


def lean_adjoint(base: Field, path: Path, a1: Array) -> Array:
    """Adjoints a_i (K, B, D) at x_i, backwards from a1 (B, D) along the base drift, evaluated at (x_i, t_i + h)."""
    h = 1 / len(path.ts)

    def step(a, x_and_t):
        x, t = x_and_t
        _, pull = jax.vjp(lambda x: drift(base, x, t + h, t + h), x)
        a = a + h * pull(a)[0]
        return a, a

    return jax.lax.scan(step, a1, (path.xs, path.ts), reverse=True)[1]


def matching_loss(velocity_gap: Array, adjoints: Array, ts: Array, lambda_eff: Array | float = 1.0) -> Array:
    """Mean over B of sum_K sum_D (2 dv / sigma + sigma a)^2, sigma = g(t) / sqrt(lambda_eff); a scalar.

    velocity_gap dv = v - v_base and adjoints: (K, B, D); ts: (K,).
    """
    h = 1 / len(ts)
    sigma = jnp.sqrt(noise_variance(ts, h) / jnp.maximum(lambda_eff, 1e-8))[:, None, None]
    return jnp.square(2 * velocity_gap / sigma + sigma * adjoints).sum((0, 2)).mean()
