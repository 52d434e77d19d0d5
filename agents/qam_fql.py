"""QAM-F: QAM with a one-step policy distilled from its flow (arXiv 2601.14234), as in FQL (arXiv 2502.02538).

The one-step policy maps noise to a chunk at once. It imitates the fine-tuned flow's ODE from the same noise, weighted
by fql_alpha, and ascends the critics' mean; it acts, and its actions enter the TD target. The flow learns as in QAM and
not from the one-step policy. fql_alpha 0, which some domains use, is QAM itself: the flow acts and no one-step policy
exists.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from agents import shared
from agents.qam import qam_loss
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.networks import OneStep, bind, init_params
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState


class QAMFQL(AbstractAgent):
    """QAM-F: QAM, and a one-step policy distilled from its flow that acts (arXiv 2601.14234)."""

    DEFAULTS: ClassVar = dict(
        inv_temp=1.0,
        fql_alpha=30.0,  # weight of the distillation, tuned per domain; 0: QAM
    )
    cloned_networks: ClassVar = ("actor_slow", "actor_fast")

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec)
        networks = shared.slow_fast_critic(agent)
        if agent.has_one_step:
            networks["one_step_actor"] = (agent.one_step_network, (spec.observation_dim, spec.chunk_dim))
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("actor_slow", "critic"), agent.optimizer))

    @property
    def has_one_step(self):
        return self.config.fql_alpha > 0

    @property
    def one_step_network(self):
        return OneStep(self.config.hidden_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    def draw(self, key, batch_size):
        noise = shared.draw_common(self, key, batch_size) | shared.draw_rollout(self, key, batch_size)
        return noise | (normals(key, distill_z=(batch_size, self.spec.chunk_dim)) if self.has_one_step else {})

    def step(self, batch, noise):
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        qam = qam_loss(self, batch, noise, next_chunks)

        def loss(params):
            total, info = qam(params)
            if self.has_one_step:
                distill_loss, q_loss = self.one_step_losses(params, batch.observations, noise["distill_z"])
                total += self.config.fql_alpha * distill_loss + q_loss
                info |= {"distill_loss": distill_loss, "q_loss": q_loss}
            return total, info

        grads, info = jax.grad(loss, has_aux=True)(self.train.params)
        train = self.train.apply_gradients(grads, self.optimizer, self.config.tau)
        return self.replace(train=train), info | {"grad_norm": optax.global_norm(grads)}

    def one_step_losses(self, params, observations, z):
        """Its distance from the flow at noise z (B, D), and minus its value; flow and critics are fixed."""
        chunks = bind(self.one_step_network, params["one_step_actor"], observations)(z)
        value = bind(self.critic_network, self.train.params["critic"], observations)
        return shared.one_step_losses(chunks, shared.flow_chunks(self, "actor_fast", observations, z), value)

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        online = self.train.params
        if self.has_one_step:
            one_step = bind(self.one_step_network, online["one_step_actor"], observations)
            candidates = jnp.clip(one_step(noise), -1, 1)
        else:
            candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        return best_by_mean(candidates, bind(self.critic_network, online["critic"], observations))
