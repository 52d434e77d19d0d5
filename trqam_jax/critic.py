"""Ensemble critics: pessimistic targets over action chunks, the TD loss, best-of-n."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax.types import Array, Batch, Scalar


def pessimistic(qs: Float[Array, "Q B"], rho: Scalar) -> Float[Array, " B"]:
    """Mean minus rho standard deviations (ddof 0) over the ensemble.

    Where all critics agree, the deviation's gradient is 0. Of two critics that are float32 numbers of one size, some
    agree every few thousand updates, and the derivative of the square root at 0 would make that update infinite.
    """
    variance = qs.var(0)
    differ = variance > 0
    deviation = jnp.where(differ, jnp.sqrt(jnp.where(differ, variance, 1.0)), 0.0)
    return qs.mean(0) - rho * deviation


def td_target(batch: Batch, next_values: Float[Array, " B"], bootstrap_discount: Scalar) -> Float[Array, " B"]:
    """y = sum_i gamma^i r_i + gamma^H m V(s'); the window's rewards come discounted and summed.

    bootstrap_discount: gamma^H.
    """
    return batch.rewards + bootstrap_discount * batch.masks * next_values


def td_loss(qs: Float[Array, "Q B"], targets: Float[Array, " B"], valid: Float[Array, " B"]) -> Float[Array, ""]:
    """Squared error averaged over critics and batch; windows that cross an episode's end weigh 0 but are counted."""
    return jnp.mean(valid * jnp.square(qs - targets))


def best_of_n(candidates: Float[Array, "n B D"], scores: Float[Array, "n B"]) -> Float[Array, "B D"]:
    """The candidate of the highest score."""
    return jnp.take_along_axis(candidates, scores.argmax(0)[None, :, None], 0)[0]


def best_by_mean(candidates: Float[Array, "n B D"], critic: Callable[[Array], Array]) -> Float[Array, "B D"]:
    """The best candidate by the ensemble's mean; for a single one the critics are not evaluated."""
    if len(candidates) == 1:
        return candidates[0]
    return best_of_n(candidates, critic(candidates).mean(0))


def expectile_loss(error: Float[Array, " B"], kappa: Scalar, complement: Scalar | None = None) -> Float[Array, ""]:
    """Mean of w error^2 with w = kappa where error >= 0 and 1 - kappa elsewhere (Kostrikov et al. 2022, arXiv
    2110.06169).

    error: target minus estimate; the minimiser is the target's kappa-expectile. complement: 1 - kappa, where the caller
    has it in more than float32's precision.
    """
    below = 1 - kappa if complement is None else complement
    return jnp.mean(jnp.where(error >= 0, kappa, below) * jnp.square(error))
