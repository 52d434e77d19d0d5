"""FQL: Flow Q-Learning (arXiv 2502.02538), on action chunks.

A flow policy is cloned by flow matching and never sees the critic. A one-step policy, from noise to a chunk at once,
imitates the flow's ODE from the same noise, weighted by alpha, and ascends the critics; it acts. As in the release of
QAM (arXiv 2601.14234), and unlike the paper: chunks instead of actions, and an ensemble of critics with a pessimistic
target.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from agents import shared
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.networks import OneStep, bind, init_params
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState


class FQL(AbstractAgent):
    """FQL: a one-step policy that imitates a cloned flow and ascends the critic (arXiv 2502.02538)."""

    DEFAULTS: ClassVar = dict(
        alpha=10.0,  # weight of the distillation, tuned per domain
        clip_norm=None,
    )
    cloned_networks: ClassVar = ("actor_bc_flow",)

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec)
        networks = {
            "actor_bc_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "actor_onestep_flow": (agent.one_step_network, (spec.observation_dim, spec.chunk_dim)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
        }
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    @property
    def one_step_network(self):
        return OneStep(self.config.hidden_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    def draw(self, key, batch_size):
        distill = normals(key, distill_z=(batch_size, self.spec.chunk_dim))
        return shared.draw_common(self, key, batch_size) | distill

    def step(self, batch, noise):
        online, observations = self.train.params, batch.observations
        one_step = lambda params: bind(self.one_step_network, params["actor_onestep_flow"], observations)

        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_bc_flow", batch, noise, next_chunks)
        # What the one-step policy learns from, fixed: the flow's chunks as they are now, and the online critics.
        imitated = shared.flow_chunks(self, "actor_bc_flow", observations, noise["distill_z"])
        value = bind(self.critic_network, online["critic"], observations)

        def loss(params):
            total, info = td_and_flow(params)
            distill_loss, q_loss = shared.one_step_losses(one_step(params)(noise["distill_z"]), imitated, value)
            total += self.config.alpha * distill_loss + q_loss
            return total, info | {"distill_loss": distill_loss, "q_loss": q_loss}

        grads, info = jax.grad(loss, has_aux=True)(online)
        info |= {"grad_norm": optax.global_norm(grads)}
        return self.replace(train=self.train.apply_gradients(grads, self.optimizer, self.config.tau)), info

    def sample(self, observations, noise):
        """The one-step policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        online = self.train.params
        one_step = bind(self.one_step_network, online["actor_onestep_flow"], observations)
        return best_by_mean(jnp.clip(one_step(noise), -1, 1), bind(self.critic_network, online["critic"], observations))
