"""The trust region of TRQAM: path-space KL to the base flow, and the dual variable that keeps it on a budget."""

import jax.numpy as jnp
from flax import struct

from trqam_jax.sde import noise_variance
from trqam_jax.types import Array


def path_kl(velocity_gap: Array, ts: Array, horizon: int) -> Array:
    """KL between the SDEs' path measures, by Girsanov: mean over B of sum_K (2 h / g^2) |dv|^2 / H, in nats per action.

    velocity_gap: (K, B, D); ts: (K,). The drifts differ by 2 dv.
    """
    h = 1 / len(ts)
    weights = 2 * h / noise_variance(ts, h)
    return (weights[:, None] * jnp.square(velocity_gap).sum(-1)).sum(0).mean() / horizon


class Dual(struct.PyTreeNode):
    """Dual ascent on lambda. All leaves are scalars, so a budget can be swept over replicas or changed in mid-run."""

    lam: Array  # before lam_scale
    kl: Array  # moving average of the clipped path KL, starting at 0 without bias correction
    budget: Array  # eps_KL, nats per action

    @classmethod
    def create(cls, budget: float) -> "Dual":
        """lambda = 1 and an average of 0."""
        return cls(*(jnp.asarray(value, jnp.float32) for value in (1.0, 0.0, budget)))

    def with_budget(self, budget: Array | float) -> "Dual":
        """The same state under another budget, of R replicas a scalar or (R,)."""
        return self.replace(budget=jnp.full_like(self.budget, budget))

    def update(self, kl: Array, *, eta: float, average: float, clip: float, low: float, high: float) -> "Dual":
        """One step: kl <- (1-c) kl + c min(KL, clip * budget); lambda <- clip(lambda + eta (kl - budget), low, high).

        The paper only keeps lambda above zero; the released code brackets it, as here.
        """
        kl = (1 - average) * self.kl + average * jnp.minimum(kl, clip * self.budget)
        return self.replace(kl=kl, lam=jnp.clip(self.lam + eta * (kl - self.budget), low, high))
