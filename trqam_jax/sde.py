"""The memoryless SDE whose marginals are a flow's (Domingo-Enrich et al. 2024, arXiv 2409.08861, sections 3 and 4)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax.flow import Field
from trqam_jax.types import Array

UNROLLED_STEPS = 16  # at most


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
    num_steps = eps.shape[0]
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps

    def step(x, t_and_eps):
        t, e = t_and_eps
        v = velocity(x, t)
        noise = jnp.sqrt(h * noise_variance(t, h)) * e
        return x + h * drift(jax.lax.stop_gradient(v), x, t + h) + noise, (x, v)

    # A loop stacks what its gradient needs, which costs a tenth of an update; few steps do without it.
    x, (xs, vs) = jax.lax.scan(step, x0, (ts[:-1], eps[:-1]), unroll=num_steps <= UNROLLED_STEPS)
    last = base(x, ts[-1])
    delta_v = jnp.concatenate([vs - base(xs, ts[:-1, None, None]), (velocity(x, ts[-1]) - last)[None]])
    return Path(jnp.concatenate([xs, x[None]]), ts, x + h * jax.lax.stop_gradient(last), delta_v)
