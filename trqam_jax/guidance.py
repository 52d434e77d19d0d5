"""Classifier guidance of a flow by a critic, and critics of noised actions (the CGQL family of arXiv 2601.14234)."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax import loops
from trqam_jax.flow import Field
from trqam_jax.types import Array, Scalar


def guided_velocity(velocity: Field, value: Field, inv_temp: Scalar, coef: Scalar) -> Field:
    """v + coef ((1 - t) inv_temp grad_x Q(x, t) + x) / t, for t > 0.

    On straight lines from Gaussian noise a marginal of score s has the velocity ((1 - t) s + x) / t: what is added is
    coef times the velocity of the score inv_temp grad Q. value: (x (..., D), t) -> (Q, ...), averaged over the critics.
    """

    def guided(x: Array, t: Array) -> Array:
        gradient = jax.grad(lambda x: value(x, t).mean(0).sum())(x)
        return velocity(x, t) + coef * ((1 - t) * inv_temp * gradient + x) / t

    return guided


def sample_guided_ode(velocity: Field, guided: Field, x0: Float[Array, "*n D"], num_steps: int) -> Float[Array, "*n D"]:
    """Euler's endpoint, not clipped, as `sample_ode` gives it; the step at t = 0 follows the flow alone."""
    h = 1 / num_steps
    x = x0 + h * velocity(x0, jnp.zeros(()))
    x1, _ = loops.scan(lambda x, t: (x + h * guided(x, t), None), x, jnp.arange(1, num_steps) / num_steps)
    return x1


def linex_loss(
    clean: Float[Array, "*#n"], noised: Float[Array, "*#n"], inv_temp: Scalar, clip: Scalar
) -> Float[Array, "*n"]:
    """Elementwise exp(d) + inv_temp noised, where d = inv_temp (clean - noised) <= clip; d itself above it.

    Up to a constant in `noised` the first is Linex, exp(d) - d, whose minimiser log E exp(inv_temp clean) / inv_temp is
    the value of a noised action under the tilted distribution. The jump at the clip is the released code's.
    """
    d = inv_temp * (clean - noised)
    return jnp.where(d <= clip, jnp.exp(jnp.minimum(d, clip)) + inv_temp * noised, d)
