"""Flow matching on straight lines, and sampling a flow's ODE (Lipman et al. 2023, arXiv 2210.02747)."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax import loops
from trqam_jax.backend import target_platform
from trqam_jax.types import Array, Scalar

#: velocity(x, t) -> v, the observation already bound: (*n, B, D), a scalar or (..., 1) -> (*n, B, D).
Field = Callable[[Array, Array], Array]


def interpolate(
    x0: Float[Array, "*#n"], x1: Float[Array, "*#n"], t: Scalar | Float[Array, "*#n"]
) -> Float[Array, "*n"]:
    """Point at time t in [0, 1] of the line from noise x0 to data x1; leading axes broadcast."""
    return x0 * (1 - t) + x1 * t


def flow_matching_loss(
    velocity: Field,
    x1: Float[Array, "B D"],
    x0: Float[Array, "B D"],
    t: Float[Array, "B 1"],
    valid: Float[Array, " B"],
) -> Float[Array, ""]:
    """Mean of |v(x_t, t) - (x1 - x0)|^2 over batch and dimensions (arXiv 2210.02747, equation 23 with sigma_min = 0).

    valid: the windows' weights, whose zeros count in the average.
    """
    return jnp.mean(valid * flow_matching_errors(velocity, x1, x0, t))


def flow_matching_errors(
    velocity: Field, x1: Float[Array, "B D"], x0: Float[Array, "B D"], t: Float[Array, "B 1"]
) -> Float[Array, " B"]:
    """Mean of |v(x_t, t) - (x1 - x0)|^2 over dimensions."""
    error = velocity(interpolate(x0, x1, t), t) - (x1 - x0)
    return jnp.square(error).mean(-1)


def sample_ode(velocity: Field, x0: Float[Array, "*n D"], num_steps: int) -> Float[Array, "*n D"]:
    """Euler's endpoint x1 from x0, in steps at t = 0, 1/K, ..., (K-1)/K; not clipped."""
    h = 1 / num_steps
    x1, _ = loops.scan(lambda x, t: (x + h * velocity(x, t), None), x0, jnp.arange(num_steps) / num_steps)
    return x1


def sample_ode_at_both(
    flow: Callable[[Float[Array, "*n O"]], Field],
    first: tuple[Float[Array, "B O"], Float[Array, "n B D"]],
    second: tuple[Float[Array, "B O"], Float[Array, "B D"]],
    num_steps: int,
) -> tuple[Float[Array, "n B D"], Float[Array, "B D"]]:
    """`sample_ode` of one flow at two pairs of observations and noise. flow: observations -> velocity.

    On a GPU as rows of one batch, which starts half as many kernels. Elsewhere that gains nothing.
    """
    if target_platform() != "gpu":
        of_first, of_second = (sample_ode(flow(observations), x0, num_steps) for observations, x0 in (first, second))
        return of_first, of_second
    ends = sample_ode(*rows_of_both(flow, first, second), num_steps)
    return ends[:-1], ends[-1]


def rows_of_both(
    flow: Callable[[Float[Array, "*n O"]], Field],
    first: tuple[Float[Array, "B O"], Float[Array, "n B D"]],
    second: tuple[Float[Array, "B O"], Float[Array, "B D"]],
) -> tuple[Field, Float[Array, "n_and_1 B D"]]:
    """The velocity at both pairs' observations, and their starts, of which the second's is the last."""
    observations, x0 = first
    alike = jnp.broadcast_to(observations, (len(x0), *observations.shape))
    return flow(jnp.concatenate([alike, second[0][None]])), jnp.concatenate([x0, second[1][None]])
