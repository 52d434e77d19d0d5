"""QAM: Q-learning with Adjoint Matching (arXiv 2601.14234).

The fine-tuned flow ("fast") regresses on the lean adjoint of the base flow's memoryless SDE, started at minus inv_temp
times the critics' gradient at the path's end: its optimum is proportional to base * exp(inv_temp * Q). As released, the
base is not frozen but the Polyak average of a slow flow that goes on learning by flow matching, and the gradient at the
end is that of the averaged critics' mean through the clip to [-1, 1].
"""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from agents import shared
from trqam_jax.adjoint import lean_regression, matching_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.critic import best_by_mean
from trqam_jax.networks import bind, init_params
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import path_kl
from trqam_jax.types import Array, Batch, Params


class QAM(AbstractAgent):
    """QAM: adjoint matching of a flow policy to a critic at a fixed temperature (arXiv 2601.14234)."""

    DEFAULTS: ClassVar = dict(
        inv_temp=1.0,  # times the critic's gradient
    )
    cloned_networks: ClassVar = ("actor_slow", "actor_fast")

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec)
        params = init_params(key, shared.slow_fast_critic(agent))
        return agent.replace(train=TrainState.create(params, ("actor_slow", "critic"), agent.optimizer))

    def draw(self, key, batch_size):
        return shared.draw_common(self, key, batch_size) | shared.draw_rollout(self, key, batch_size)

    def step(self, batch, noise):
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        grads, info = jax.grad(qam_loss(self, batch, noise, next_chunks), has_aux=True)(self.train.params)
        train = self.train.apply_gradients(grads, self.optimizer, self.config.tau)
        return self.replace(train=train), info | {"grad_norm": optax.global_norm(grads)}

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        return best_by_mean(candidates, bind(self.critic_network, self.train.params["critic"], observations))


def qam_loss(
    agent: AbstractAgent, batch: Batch, noise: Noise, next_chunks: Array
) -> Callable[[Params], tuple[Array, Info]]:
    """params -> (TD, flow matching and adjoint matching, info): QAM's loss, to which QAM-E and QAM-F add their own."""
    targets = agent.train.targets
    flow = lambda params: bind(agent.flow_network, params, batch.observations)
    td_and_flow = shared.td_and_flow_loss(agent, "actor_slow", batch, noise, next_chunks)

    def loss(params: Params) -> tuple[Array, Info]:
        total, info = td_and_flow(params)
        regression = lean_regression(
            fine_tuned=flow(params["actor_fast"]),
            base=flow(targets["actor_slow"]),
            value=bind(agent.critic_network, targets["critic"], batch.observations),
            x0=noise["rollout_x0"],
            eps=noise["rollout_eps"],
            inv_temp=agent.config.inv_temp,
        )
        adjoint_loss = matching_loss(regression.gap, regression.adjoints, regression.ts)
        info |= {
            "adjoint_loss": adjoint_loss,
            # To compare with TRQAM's; it is not minimised.
            "path_kl": path_kl(regression.gap, regression.ts, agent.spec.horizon),
            "adjoint_max": jnp.abs(regression.a1).max(),
        }
        return total + adjoint_loss, info

    return loss
