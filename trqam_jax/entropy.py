"""Tanh-Gaussian policies with a tuned entropy temperature (soft actor-critic, arXiv 1812.05905)."""

import jax
import jax.numpy as jnp

from trqam_jax.types import Array


def tanh_sample(mean: Array, log_std: Array, eps: Array) -> tuple[Array, Array]:
    """e = tanh(u) of u = mean + exp(log_std) eps, and log pi(e), summed over the last axis. All (..., D) -> (...)."""
    u = mean + jnp.exp(log_std) * eps
    log_normal = -0.5 * jnp.square(eps) - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_slope = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))  # log d tanh / du, without cancellation
    return jnp.tanh(u), (log_normal - log_slope).sum(-1)


def temperature_loss(log_alpha: Array, log_prob: Array, target_entropy: float) -> Array:
    """alpha (entropy - target), whose descent raises alpha while the entropy is below the target; log_prob: (B,)."""
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(-log_prob.mean() - target_entropy)
