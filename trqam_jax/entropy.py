"""Tanh-Gaussian policies with a tuned entropy temperature (soft actor-critic, arXiv 1812.05905)."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax.types import Array, Scalar


def tanh_sample(
    mean: Float[Array, "*#n D"], log_std: Float[Array, "*#n D"], eps: Float[Array, "*n D"]
) -> tuple[Float[Array, "*n D"], Float[Array, "*n"]]:
    """e = tanh(u) of u = mean + exp(log_std) eps, and log pi(e) in nats, summed over D. eps: standard normal."""
    u = mean + jnp.exp(log_std) * eps
    return jnp.tanh(u), _log_prob(eps, log_std, u)


def tanh_log_prob(
    mean: Float[Array, "*#n D"], log_std: Float[Array, "*#n D"], actions: Float[Array, "*n D"]
) -> Float[Array, "*n"]:
    """log pi(a) in nats, summed over D, of given actions in (-1, 1)."""
    u = jnp.arctanh(actions)
    return _log_prob((u - mean) * jnp.exp(-log_std), log_std, u)


def _log_prob(eps: Float[Array, "*n D"], log_std: Float[Array, "*#n D"], u: Float[Array, "*n D"]) -> Float[Array, "*n"]:
    """Of tanh(u), where u = mean + exp(log_std) eps."""
    log_normal = -0.5 * jnp.square(eps) - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_slope = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))  # log d tanh / du, without cancellation
    return (log_normal - log_slope).sum(-1)


def temperature_loss(
    log_alpha: Float[Array, ""], log_prob: Float[Array, " B"], target_entropy: Scalar
) -> Float[Array, ""]:
    """alpha (entropy - target), whose descent raises alpha while the entropy is below the target; in nats."""
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(-log_prob.mean() - target_entropy)
