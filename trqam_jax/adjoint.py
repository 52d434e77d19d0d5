"""Adjoint matching: the lean adjoint of the base SDE and the regression that fits a velocity to it.

Domingo-Enrich et al. 2024 (arXiv 2409.08861), equations 38 to 40; QAM (arXiv 2601.14234) applies it to a critic.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax import loops
from trqam_jax.backend import target_platform
from trqam_jax.flow import Field, interpolate
from trqam_jax.sde import drift, noise_variance, rollout_points, sample_path
from trqam_jax.types import Array, Scalar

Value = Callable[[Array], Array]  # critics (B, D) -> (Q, B), the observation already bound


class Regression(NamedTuple):
    """What a fine-tuned velocity regresses on: adjoints at points that are held fixed."""

    xs: Float[Array, "K B D"]
    ts: Float[Array, " K"]
    delta_v: Float[Array, "K B D"]  # v - v_base there: what has derivatives
    adjoints: Float[Array, "K B D"]
    a1: Float[Array, "B D"]  # the adjoint at the endpoint


def lean_regression(
    fine_tuned: Field,
    base: Field,
    value: Value,
    x0: Float[Array, "B D"],
    eps: Float[Array, "K B D"],
    inv_temp: Scalar = 1.0,
    xs: Float[Array, "K B D"] | None = None,
) -> Regression:
    """Along an SDE rollout of the fine-tuned flow, with the lean adjoint of inv_temp times the value (QAM).

    x0, eps: standard normal; the last entry of eps is unused. xs: the rollout's points, where they are known.
    """
    if target_platform() == "gpu":
        xs = rollout_points(fine_tuned, x0, eps) if xs is None else xs
        return _regression_in_batches(fine_tuned, base, value, xs, inv_temp)
    path = sample_path(fine_tuned, base, x0, eps)
    a1 = value_gradient(value, path.x1) * -inv_temp
    return Regression(path.xs, path.ts, path.delta_v, lean_adjoint(base, path.xs, path.ts, a1), a1)


def _regression_in_batches(
    fine_tuned: Field, base: Field, value: Value, xs: Float[Array, "K B D"], inv_temp: Scalar
) -> Regression:
    """`lean_regression` for a GPU, at known points of the rollout: all velocities are computed in batches, those of the
    loss once more. That is 1.1 x the arithmetic in half the kernels."""
    num_steps = len(xs)
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps
    times = ts[:, None, None]
    base_velocities = base(xs, times)
    a1 = value_gradient(value, xs[-1] + h * base_velocities[-1]) * -inv_temp
    adjoints = lean_adjoint(base, xs, ts, a1)
    # In this order, so that what the adjoints and what the loss's gradient need are not in memory at one time.
    xs, adjoints = jax.lax.optimization_barrier((xs, adjoints))
    return Regression(xs, ts, fine_tuned(xs, times) - base_velocities, adjoints, a1)


def bridge_regression(
    fine_tuned: Field, base: Field, value: Value, x1: Float[Array, "B D"], eps: Float[Array, "K B D"]
) -> Regression:
    """On the straight lines from noise to endpoints, at t = 1/K, ..., 1, with the scalar adjoint a_t = t a_1 (SQAM).

    x1: not clipped; eps: standard normal. A flow of constant velocity has this lean adjoint.
    """
    ts = jnp.arange(1, len(eps) + 1) / len(eps)
    times = ts[:, None, None]
    xs = interpolate(eps, x1[None], times)
    a1 = -value_gradient(value, x1)
    return Regression(xs, ts, fine_tuned(xs, times) - base(xs, times), times * a1, a1)


def value_gradient(value: Value, x1: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Gradient of the mean critic at the clipped endpoint; zero where |x1| > 1. value: (B, D) -> (Q, B).

    Differentiated through the clip, so that a saturated coordinate is not pushed further out.
    """
    return jax.grad(lambda x: value(jnp.clip(x, -1, 1)).mean(0).sum())(x1)


def lean_adjoint(
    base: Field, xs: Float[Array, "K B D"], ts: Float[Array, " K"], a1: Float[Array, "B D"]
) -> Float[Array, "K B D"]:
    """Adjoints a_i at points xs and times ts: backwards from a1 along the base drift at (x_i, t_i + h) (arXiv
    2409.08861, equations 38 and 39). On a GPU the drifts at all points are linearised in one batch, before."""
    h = 1 / len(ts)

    def linearise(x: Array, t: Array) -> Callable[[Array], tuple[Array]]:
        return jax.vjp(lambda x: drift(base(x, t + h), x, t + h), x)[1]

    def step(a: Array, pull: Callable[[Array], tuple[Array]]) -> tuple[Array, Array]:
        a = a + h * pull(a)[0]
        return a, a

    if target_platform() == "gpu":
        return loops.scan(step, a1, jax.vmap(linearise)(xs, ts), reverse=True)[1]
    return loops.scan(lambda a, x_and_t: step(a, linearise(*x_and_t)), a1, (xs, ts), reverse=True)[1]


def matching_loss(
    delta_v: Float[Array, "K B D"],
    adjoints: Float[Array, "K B D"],
    ts: Float[Array, " K"],
    lambda_eff: Scalar = 1.0,
) -> Float[Array, ""]:
    """Mean over B of sum_K sum_D (2 dv / sigma + sigma a)^2, sigma = g(t) / sqrt(lambda_eff) (arXiv 2409.08861,
    equation 40; lambda_eff is that of arXiv 2605.27079).

    delta_v: dv = v - v_base.
    """
    h = 1 / len(ts)
    sigma = jnp.sqrt(noise_variance(ts, h) / jnp.maximum(lambda_eff, 1e-8))[:, None, None]
    return jnp.square(2 * delta_v / sigma + sigma * adjoints).sum((0, 2)).mean()
