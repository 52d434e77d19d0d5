"""Ensemble critics: pessimistic targets over action chunks, the TD loss, best-of-n."""

from collections.abc import Callable

import jax.numpy as jnp

from trqam_jax.types import Array, Batch


def pessimistic(qs: Array, rho: float) -> Array:
    """Mean minus rho standard deviations (ddof 0) over the ensemble: (Q, B) -> (B,)."""
    return qs.mean(0) - rho * qs.std(0)


def td_target(batch: Batch, next_values: Array, discount: float) -> Array:
    """y = sum_i gamma^i r_i + gamma^H m V(s'), (B,); the window's rewards come discounted and summed."""
    horizon = batch.actions.shape[1]
    return batch.rewards + discount**horizon * batch.masks * next_values


def td_loss(qs: Array, targets: Array, valid: Array) -> Array:
    """Squared error averaged over critics and batch; windows that cross an episode's end weigh 0 but are counted.

    qs: (Q, B), targets: (B,), valid: (B,).
    """
    return jnp.mean(valid * jnp.square(qs - targets))


def best_of_n(candidates: Array, scores: Array) -> Array:
    """The candidate of the highest score: (n, B, D), (n, B) -> (B, D)."""
    return jnp.take_along_axis(candidates, scores.argmax(0)[None, :, None], 0)[0]


def best_by_mean(candidates: Array, critic: Callable[[Array], Array]) -> Array:
    """Of candidates (n, B, D) the best by the ensemble's mean, (B, D); of a single one the critics are not asked."""
    return candidates[0] if len(candidates) == 1 else best_of_n(candidates, critic(candidates).mean(0))


def expectile_loss(gap: Array, kappa: float) -> Array:
    """Mean of w gap^2 with w = kappa where gap >= 0 and 1 - kappa elsewhere (Kostrikov et al. 2022, arXiv 2110.06169).

    gap: target minus estimate; the minimiser is the target's kappa-expectile.
    """
    return jnp.mean(jnp.where(gap >= 0, kappa, 1 - kappa) * jnp.square(gap))
