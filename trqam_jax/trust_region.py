"""The trust region of TRQAM: path-space KL to the base flow, and the dual variable that keeps it on a budget."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Float

from trqam_jax.sde import noise_variance
from trqam_jax.types import Array, Scalar


def path_kl(delta_v: Float[Array, "K B D"], ts: Float[Array, " K"], horizon: int) -> Float[Array, ""]:
    """KL between the SDEs' path measures, by Girsanov: mean over B of sum_K (2 h / g^2) |dv|^2 / H, in nats per action.

    delta_v: dv = v - v_base; the drifts differ by 2 dv. horizon: actions per chunk, H.
    """
    h = 1 / len(ts)
    weights = 2 * h / noise_variance(ts, h)
    return (weights[:, None] * jnp.square(delta_v).sum(-1)).sum(0).mean() / horizon


class Dual(struct.PyTreeNode):
    """Dual ascent on lambda. Both leaves are scalars."""

    lam: Float[Array, ""]  # before lam_scale
    kl: Float[Array, ""]  # moving average of the clipped path KL, starting at 0 without bias correction

    @classmethod
    def create(cls) -> "Dual":
        """lambda = 1 and an average of 0."""
        return cls(lam=jnp.ones((), jnp.float32), kl=jnp.zeros((), jnp.float32))

    def update(
        self,
        kl: Float[Array, ""],
        *,
        budget: Scalar,
        eta: Scalar,
        average: Scalar,
        clip: Scalar,
        low: Scalar,
        high: Scalar,
    ) -> "Dual":
        """One step: kl <- (1-c) kl + c min(KL, clip * budget); lambda <- clip(lambda + eta (kl - budget), low, high).

        kl, budget: nats per action; average: c; clip: in budgets. The paper only keeps lambda above zero; the released
        code brackets it, as here.
        """
        kl = self.kl * (1 - average) + jnp.minimum(kl, clip * budget) * average
        return self.replace(kl=kl, lam=jnp.clip(self.lam + eta * (kl - budget), low, high))
