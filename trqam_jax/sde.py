"""The memoryless SDE whose marginals are a flow's (Domingo-Enrich et al. 2024, arXiv 2409.08861, sections 3 and 4)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax import loops
from trqam_jax.backend import target_platform
from trqam_jax.flow import Field, rows_of_both, sample_ode
from trqam_jax.types import Array


class Path(NamedTuple):
    """A discretised trajectory on the grid t_i = i / K."""

    xs: Float[Array, "K B D"]  # the states at the grid's points
    ts: Float[Array, " K"]
    x1: Float[Array, "B D"]  # the endpoint, not clipped
    delta_v: Float[Array, "K B D"]  # the fine-tuned velocity minus the base's at (x_i, t_i)


def noise_variance(t: Float[Array, "*n"], h: float) -> Float[Array, "*n"]:
    """g(t)^2 = 2 (1 - t) / t, shifted by the step h at both ends so that it is finite on the grid."""
    return 2 * (1 - t + h) / (t + h)


def drift(velocity: Float[Array, "*n D"], x: Float[Array, "*n D"], s: Float[Array, "..."]) -> Float[Array, "*n D"]:
    """2 v - x / s of the velocity's value v at x; `s` is t + h in the rollout, where t starts at zero."""
    return 2 * velocity - x / s


def sample_path(velocity: Field, base: Field, x0: Float[Array, "B D"], eps: Float[Array, "K B D"]) -> Path:
    """Euler-Maruyama rollout of the fine-tuned flow; its last step is one ODE step of the base flow, without noise.

    x0, eps: standard normal; the last entry of eps is unused. The points are held fixed: of the result only `delta_v`
    has derivatives, by the parameters of the two flows. So a loss on it reuses the rollout's forward values.
    """
    num_steps = len(eps)
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps

    def step(x, t_and_eps):
        t, e = t_and_eps
        v = velocity(x, t)
        return x + h * drift(jax.lax.stop_gradient(v), x, t + h) + _noise(t, e, h), (x, v)

    # A loop stacks what its gradient needs, which costs a tenth of an update; few steps do without it.
    x, (xs, vs) = loops.scan(step, x0, (ts[:-1], eps[:-1]), unrolled=True)
    last = base(x, ts[-1])
    delta_v = jnp.concatenate([vs - base(xs, ts[:-1, None, None]), (velocity(x, ts[-1]) - last)[None]])
    return Path(jnp.concatenate([xs, x[None]]), ts, x + h * jax.lax.stop_gradient(last), delta_v)


def sample_ode_and_points(
    flow: Callable[[Float[Array, "*n O"]], Field],
    next_observations: Float[Array, "B O"],
    z: Float[Array, "n B D"],
    observations: Float[Array, "B O"],
    x0: Float[Array, "B D"],
    eps: Float[Array, "K B D"],
) -> tuple[Float[Array, "n B D"], Float[Array, "K B D"] | None]:
    """Endpoints of a flow's ODE from z at the next observations, not clipped, and `rollout_points` of the same flow.

    flow: observations -> velocity; z, x0, eps: standard normal. On a GPU both take their steps together, as rows of one
    batch. Elsewhere that gains nothing: the points are None.
    """
    num_steps = len(eps)
    if target_platform() != "gpu":
        return sample_ode(flow(next_observations), z, num_steps), None
    velocity, starts = rows_of_both(flow, (next_observations, z), (observations, x0))
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps
    of_sde = (jnp.arange(len(z) + 1) == len(z))[:, None, None]

    def step(x, t_and_eps):
        t, e = t_and_eps
        v = velocity(x, t)
        return x + h * jnp.where(of_sde, drift(v, x, t + h), v) + of_sde * _noise(t, e, h), x[-1]

    ends, xs = loops.scan(step, starts, (ts, eps))
    return ends[:-1], xs


def rollout_points(velocity: Field, x0: Float[Array, "B D"], eps: Float[Array, "K B D"]) -> Float[Array, "K B D"]:
    """Those of `sample_path` at the grid's points, fixed, without the velocities there."""
    num_steps = len(eps)
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps

    def step(x, t_and_eps):
        t, e = t_and_eps
        return x + h * drift(velocity(x, t), x, t + h) + _noise(t, e, h), x

    x, xs = loops.scan(step, x0, (ts[:-1], eps[:-1]))
    return jax.lax.stop_gradient(jnp.concatenate([xs, x[None]]))


def _noise(t: Float[Array, ""], eps: Float[Array, "B D"], h: float) -> Float[Array, "B D"]:
    """The SDE's, of a step at time t."""
    return jnp.sqrt(h * noise_variance(t, h)) * eps
