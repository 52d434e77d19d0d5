"""Flow matching on straight lines, and sampling a flow's ODE (Lipman et al. 2023, arXiv 2210.02747)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from trqam_jax.types import Array

Field = Callable[[Array, Array], Array]  # velocity(x (B, D), t) -> (B, D), the observation already bound


def interpolate(x0: Array, x1: Array, t: Array) -> Array:
    """Point at time t in [0, 1] of the line from noise x0 to data x1."""
    return (1 - t) * x0 + t * x1


def flow_matching_loss(velocity: Field, x1: Array, x0: Array, t: Array, valid: Array) -> Array:
    """Mean of |v(x_t, t) - (x1 - x0)|^2 over batch and dimensions.

    x1, x0: (B, D), t: (B, 1); valid: (B,), the windows' weights, whose zeros count in the average.
    """
    error = velocity(interpolate(x0, x1, t), t) - (x1 - x0)
    return jnp.mean(valid * jnp.square(error).mean(-1))


def sample_ode(velocity: Field, x0: Array, num_steps: int) -> Array:
    """Euler's endpoint x1 (B, D) from x0 (B, D) at t = 0, 1/K, ..., (K-1)/K; not clipped."""
    h = 1 / num_steps
    x1, _ = jax.lax.scan(lambda x, t: (x + h * velocity(x, t), None), x0, jnp.arange(num_steps) / num_steps)
    return x1
