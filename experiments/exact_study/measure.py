"""What a trained policy does: the exact density of its ODE's endpoint, by quadrature over the noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.exact_study.closed_forms import LogDensity, cells
from trqam_jax.flow import Field, sample_ode
from trqam_jax.types import Array

BOX, CELLS = 5.0, {1: 4000, 2: 160}  # of the quadrature over noise
MOST_FOLDED = 1e-3  # of the mass


class Terminal(NamedTuple):
    """The policy's actions, not clipped, on a grid of noise: N cells."""

    mass: Float[np.ndarray, " N"]  # of the noise in the cell
    x1: Float[np.ndarray, "N D"]
    log_density: Float[np.ndarray, " N"]  # of the action, by the change of variables

    def mean(self, function: Callable[[Array], Array] = lambda x: x) -> np.ndarray:
        """E of a function of the action."""
        return np.tensordot(self.mass, np.asarray(function(jnp.asarray(self.x1))), 1)

    def kl(self, log_density: LogDensity) -> float:
        """To another density, in nats."""
        return float(np.sum(self.mass * (self.log_density - np.asarray(log_density(jnp.asarray(self.x1))))))

    def total_variation(self, log_density: LogDensity) -> float:
        """To another density, in [0, 1]; what of it lies where no action of the grid does, counts."""
        ratio = np.exp(np.asarray(log_density(jnp.asarray(self.x1))) - self.log_density)
        return float(np.sum(self.mass * np.abs(1 - ratio)) + max(0, 1 - np.sum(self.mass * ratio))) / 2


def terminal(velocity: Field, dim: int, num_steps: int) -> Terminal:
    """Of Euler's map x0 -> x1, whose Jacobian gives the density."""
    noise, volume = cells(BOX, CELLS[dim], dim)
    endpoint = lambda x0: sample_ode(velocity, x0, num_steps)
    x1, jacobian = jax.jit(jax.vmap(lambda x0: (endpoint(x0), jax.jacfwd(endpoint)(x0))))(noise)
    sign, log_stretch = (np.asarray(x) for x in jnp.linalg.slogdet(jacobian))
    log_noise = -np.sum(noise**2, -1) / 2 - dim / 2 * np.log(2 * np.pi)
    mass = np.exp(log_noise) * volume
    if np.sum(mass[sign <= 0]) > MOST_FOLDED:
        raise ArithmeticError("the policy's ODE is folded: two noises give one action, and no density follows")
    return Terminal(mass, np.asarray(x1), log_noise - log_stretch)
