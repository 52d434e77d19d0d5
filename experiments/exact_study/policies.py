"""Velocities that are fine-tuned: the base flow's plus a correction that starts at zero.

An affine map for each step of the grid holds the optimum of a Gaussian base with a critic up to quadratic; where the
optimum is no such map, a small network does.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.exact_study.flows import Mixture
from trqam_jax.flow import Field
from trqam_jax.networks import Velocity, bind, init_params
from trqam_jax.types import Array, Key, Params


class Policy(NamedTuple):
    """Parameters at the start, and what they mean."""

    params: Params
    velocity: Callable[[Params], Field]  # of (x, t), where t is a scalar of the grid


def affine(base: Mixture, num_steps: int) -> Policy:
    """v(x, t_i) = base + A_i x + b_i."""
    dim = base.dim
    params = {"matrix": jnp.zeros((num_steps, dim, dim)), "shift": jnp.zeros((num_steps, dim))}

    def velocity(params: Params) -> Field:
        def field(x: Array, t: Array) -> Array:
            step = jnp.round(t * num_steps).astype(int)
            return base.velocity(x, t) + x @ params["matrix"][step] + params["shift"][step]

        return field

    return Policy(params, velocity)


def network(base: Mixture, key: Key, hidden_dims: tuple[int, ...]) -> Policy:
    """v(x, t) = base + a network of the library's, whose last layer starts at zero."""
    model = Velocity(hidden_dims, base.dim)
    params = init_params(key, {"policy": (model, (0, base.dim, 1))})["policy"]
    last = f"Dense_{len(hidden_dims)}"
    params = {**params, last: jax.tree.map(jnp.zeros_like, params[last])}

    def velocity(params: Params) -> Field:
        correction = bind(model, params, jnp.zeros(0))  # there are no observations
        return lambda x, t: base.velocity(x, t) + correction(x, t)

    return Policy(params, velocity)
