"""Base flows whose velocity is known: straight lines from N(0, I) to a mixture of isotropic Gaussians."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trqam_jax.types import Array, Scalar


class Mixture(NamedTuple):
    """sum_m w_m N(mu_m, s_m^2 I) in D dimensions; a Gaussian is a mixture of one."""

    means: Float[np.ndarray, "M D"]
    stds: Float[np.ndarray, " M"]
    weights: Float[np.ndarray, " M"]

    @classmethod
    def create(cls, means: list[list[float]], stds: list[float], weights: list[float]) -> "Mixture":
        """Of plain numbers."""
        return cls(*(np.asarray(values, np.float32) for values in (means, stds, weights)))

    @property
    def dim(self) -> int:
        """D."""
        return self.means.shape[-1]

    def velocity(self, x: Float[Array, "*n D"], t: Scalar | Float[Array, "*t 1"]) -> Float[Array, "*m D"]:
        """E[x1 - x0 | x_t = x]: each component's m + k (x - t m), weighted by its share of the density at (x, t).

        x_t of one component is N(t m, c I), c = (1 - t)^2 + t^2 s^2, and k = (t s^2 - (1 - t)) / c.
        """
        t = jnp.asarray(t)
        variance = (1 - t) ** 2 + t**2 * self.stds**2  # (..., M)
        slope = (t * self.stds**2 - (1 - t)) / variance
        offset = x[..., None, :] - t[..., None] * self.means  # (*n, M, D)
        share = jax.nn.softmax(self._log_terms(offset, variance))
        return (share[..., None] * (self.means + slope[..., None] * offset)).sum(-2)

    def log_density(self, x: Float[Array | np.ndarray, "*n D"]) -> Float[Array, "*n"]:
        """At t = 1."""
        return jax.nn.logsumexp(self._log_terms(x[..., None, :] - self.means, self.stds**2), -1)

    def _log_terms(self, offset: Array | np.ndarray, variance: Array | np.ndarray) -> Float[Array, "*n M"]:
        """log w_m N(offset; 0, variance), of offsets (*n, M, D) and variances (..., M)."""
        exponent = -jnp.square(offset).sum(-1) / (2 * variance)
        return jnp.log(self.weights) + exponent - self.dim / 2 * jnp.log(2 * jnp.pi * variance)
