"""What a trained policy does: the exact density of its ODE's endpoint, by quadrature over the noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.exact_study.closed_forms import LogDensity, cells
from trqam_jax.backend import compiler_options
from trqam_jax.flow import Field, sample_ode
from trqam_jax.types import Array, Params

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


def terminals(velocity: Callable[[Params], Field], params: Params, dim: int, num_steps: int) -> list[Terminal]:
    """Of R policies, whose params have a leading R: of Euler's map x0 -> x1, whose Jacobian gives the density."""
    noise, volume = cells(BOX, CELLS[dim], dim)

    def ends(params: Params) -> tuple[Array, Array]:
        endpoint = lambda x0: sample_ode(velocity(params), x0, num_steps)
        return jax.vmap(lambda x0: (endpoint(x0), jax.jacfwd(endpoint)(x0)))(noise)

    mapped = jax.jit(lambda params: jax.lax.map(ends, params), compiler_options=compiler_options())
    log_noise = -np.sum(noise**2, -1) / 2 - dim / 2 * np.log(2 * np.pi)
    mass = np.exp(log_noise) * volume
    found = []
    for x1, jacobian in zip(*map(np.asarray, mapped(params)), strict=True):
        sign, log_stretch = np.linalg.slogdet(jacobian)
        if np.sum(mass[sign <= 0]) > MOST_FOLDED:
            raise ArithmeticError("the policy's ODE is folded: two noises give one action, and no density follows")
        found.append(Terminal(mass, x1, log_noise - log_stretch))
    return found
