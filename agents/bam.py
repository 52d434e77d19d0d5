"""BAM: basic adjoint matching, a baseline of QAM (arXiv 2601.14234): backpropagation through the SDE.

The fine-tuned flow ("fast") descends KL(path of its memoryless SDE || that of the base flow) - inv_temp Q at the path's
end directly, by the gradient through the whole rollout: the problem that adjoint matching (arXiv 2409.08861) turns into
a regression. Base flow, averages and acting are QAM's. As released, the penalty is K times the discretised path KL of a
chunk, the critics at the end are the online ones, pessimistic, and the end is not clipped.
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from agents import matching, shared
from trqam_jax import loops
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.critic import pessimistic
from trqam_jax.flow import Field
from trqam_jax.networks import bind
from trqam_jax.sde import drift, noise_variance
from trqam_jax.settings import Setting
from trqam_jax.types import Array, Batch, Key, Params, Spec


class Rollout(NamedTuple):
    """A rollout's end and what it pays for leaving the base flow."""

    x1: Float[Array, "B D"]  # not clipped
    penalty: Float[Array, " B"]  # sum over the steps and D of 2 |v - v_base|^2 / g^2


class BAM(AbstractAgent):
    """BAM: the path KL minus the critic, by backpropagation through the SDE (arXiv 2601.14234)."""

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = {
        # The bound keeps zero out, at which the release acts with another network, the slow flow.
        "inv_temp": Setting(0.3, "inverse temperature: weight of the critic, tuned per domain", low=1e-6),
    }
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=matching.initialise(agent, key))

    def draw(self, key: Key, batch_size: int) -> Noise:
        return matching.draw_rollout(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        config = self.config
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        value = bind(self.critic_network, self.train.params["critic"], batch.observations)

        def loss(params):
            total, info = td_and_flow(params)
            path = self.rollout(params["actor_fast"], batch.observations, noise)
            penalty, q_loss = path.penalty.mean(), -pessimistic(value(path.x1), config.rho).mean()
            actor_loss = penalty + config.inv_temp * q_loss
            info |= {
                "penalty": penalty,
                "q_loss": q_loss,
                "actor_loss": actor_loss,
                "path_kl": penalty / (config.flow_steps * self.spec.horizon),
            }
            return total + actor_loss, info

        return shared.gradient_step(self, loss)

    def rollout(self, fast: Params, observations: Float[Array, "B O"], noise: Noise) -> Rollout:
        """Of the fast flow with these parameters, against the averaged slow flow."""
        flow = lambda params: bind(self.flow_network, params, observations)
        base = flow(self.train.targets["actor_slow"])
        return differentiable_rollout(flow(fast), base, noise["rollout_x0"], noise["rollout_eps"])

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return matching.sample_fast(self, observations, noise)


def differentiable_rollout(
    velocity: Field, base: Field, x0: Float[Array, "B D"], eps: Float[Array, "K B D"]
) -> Rollout:
    """The SDE of `trqam_jax.sde.sample_path`, with derivatives through all its points.

    x0, eps: standard normal; the last entry of eps is unused, as the last step is one ODE step of the base flow.
    """
    num_steps = eps.shape[0]
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps

    def step(x, t_and_eps):
        t, e = t_and_eps
        v, variance = velocity(x, t), noise_variance(t, h)
        penalty = 2 * jnp.square(v - base(x, t)).sum(-1) / variance
        return x + h * drift(v, x, t + h) + jnp.sqrt(h * variance) * e, penalty

    x, penalties = loops.scan(step, x0, (ts[:-1], eps[:-1]), unrolled=True)
    return Rollout(x + h * base(x, ts[-1]), penalties.sum(0))
