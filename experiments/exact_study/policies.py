"""Velocities that are fine-tuned: the base flow's, plus features of the action weighted anew at every step of the grid.

The weights start at zero. Every step has its own, so that none learns slowly beside another: small times weigh little
in the matching loss, and much in where the ODE ends.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.exact_study.flows import Mixture
from trqam_jax.flow import Field
from trqam_jax.types import Array, Params

REACH, END = 3.5, 0.5  # how far bumps lie, in standard deviations of a flow from N(0, I) to N(0, END^2 I)


class Policy(NamedTuple):
    """Parameters at the start, and what they mean."""

    params: Params
    velocity: Callable[[Params], Field]  # of (x, t), where t is a scalar of the grid


def affine(base: Mixture, num_steps: int) -> Policy:
    """v(x, t_i) = base + b_i + A_i x, which holds the optimum of a Gaussian with a critic that is at most quadratic."""
    ones = lambda x: jnp.ones((*x.shape[:-1], 1))
    return _policy(base, num_steps, 1 + base.dim, lambda x, t: jnp.concatenate([ones(x), x], -1))


def bumps(base: Mixture, num_steps: int, count: int) -> Policy:
    """v(x, t_i) = base + a sum of count^D Gaussian bumps on a lattice, which narrows as the flow does."""
    centres = np.linspace(-REACH, REACH, count, dtype=np.float32)
    spacing = centres[1] - centres[0]

    def features(x: Array, t: Array) -> Array:
        scale = jnp.sqrt((1 - t) ** 2 + (END * t) ** 2)
        along = jnp.exp(-jnp.square((x[..., None] / scale - centres) / spacing) / 2)  # (..., D, count)
        product = along[..., 0, :]
        for i in range(1, base.dim):
            product = (product[..., :, None] * along[..., i, None, :]).reshape(*x.shape[:-1], -1)
        return product

    return _policy(base, num_steps, count**base.dim, features)


def _policy(base: Mixture, num_steps: int, size: int, features: Callable[[Array, Array], Array]) -> Policy:
    """features: (x (..., D), t) -> (..., size)."""

    def velocity(weights: Float[Array, "K F D"]) -> Field:
        at = lambda t: weights[jnp.round(t * num_steps).astype(int)]
        return lambda x, t: base.velocity(x, t) + features(x, t) @ at(t)

    return Policy(jnp.zeros((num_steps, size, base.dim)), velocity)
