"""QAM-E: QAM with a policy that edits the flow's actions (arXiv 2601.14234).

A tanh-Gaussian policy pi(e | s, a) sees the fine-tuned flow's clipped chunk and corrects it: the action is
clip(a + edit_scale * e). It ascends the critics' mean with an entropy bonus on the unscaled edit, whose temperature is
tuned to the target entropy -target_entropy_multiplier * D. The flow learns as in QAM and not from the edits.
edit_scale 0, which some domains use, is QAM itself: no network, draw or loss of the edits exists then.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from agents import shared
from agents.qam import qam_loss
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.entropy import tanh_sample, temperature_loss
from trqam_jax.networks import TanhGaussian, bind, init_params
from trqam_jax.streams import named, normals
from trqam_jax.train_state import TrainState


class QAMEdit(AbstractAgent):
    """QAM-E: QAM, and a small tanh-Gaussian edit of the flow's action (arXiv 2601.14234)."""

    DEFAULTS: ClassVar = dict(
        inv_temp=1.0,
        edit_scale=0.1,  # the largest edit of a coordinate; 0: QAM
        target_entropy_multiplier=0.5,
    )
    cloned_networks: ClassVar = ("actor_slow", "actor_fast")

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec)
        networks = shared.slow_fast_critic(agent)
        if agent.has_edits:
            networks["edit_actor"] = (agent.edit_network, (spec.observation_dim, spec.chunk_dim))
        params = init_params(key, networks)
        if agent.has_edits:
            params["edit_alpha"] = {"log_value": jnp.zeros(())}
        return agent.replace(train=TrainState.create(params, ("actor_slow", "critic"), agent.optimizer))

    @property
    def has_edits(self):
        return self.config.edit_scale > 0

    @property
    def edit_network(self):
        return TanhGaussian(self.config.hidden_dims, self.spec.chunk_dim)

    def draw(self, key, batch_size):
        noise = shared.draw_common(self, key, batch_size) | shared.draw_rollout(self, key, batch_size)
        if self.has_edits:
            chunk = batch_size, self.spec.chunk_dim
            noise |= normals(key, next_edit=(self.config.best_of_n, *chunk), edit_x0=chunk, edit=chunk)
        return noise

    def step(self, batch, noise):
        next_chunks = self.sample(batch.next_observations, noise["next_action"], noise.get("next_edit"))
        qam = qam_loss(self, batch, noise, next_chunks)

        def loss(params):
            total, info = qam(params)
            if self.has_edits:
                edit_loss, edit_info = self.edit_loss(params, batch.observations, noise)
                total, info = total + edit_loss, info | edit_info
            return total, info

        grads, info = jax.grad(loss, has_aux=True)(self.train.params)
        train = self.train.apply_gradients(grads, self.optimizer, self.config.tau)
        return self.replace(train=train), info | {"grad_norm": optax.global_norm(grads)}

    def edit_loss(self, params, observations, noise):
        """-mean Q + alpha mean log pi, and the temperature's own loss; flow, critics and alpha are fixed."""
        online = self.train.params
        chunks = shared.flow_chunks(self, "actor_fast", observations, noise["edit_x0"])
        edited, log_prob = self.edit(params["edit_actor"], observations, chunks, noise["edit"])
        q_loss = -bind(self.critic_network, online["critic"], observations)(edited).mean()
        alpha = jnp.exp(online["edit_alpha"]["log_value"])
        entropy_loss = alpha * log_prob.mean()
        target_entropy = -self.config.target_entropy_multiplier * self.spec.chunk_dim
        alpha_loss = temperature_loss(params["edit_alpha"]["log_value"], log_prob, target_entropy)
        info = {
            "edit_q_loss": q_loss,
            "edit_entropy_loss": entropy_loss,
            "edit_alpha_loss": alpha_loss,
            "edit_alpha": alpha,
            "edit_entropy": -log_prob.mean(),
        }
        return q_loss + entropy_loss + alpha_loss, info

    def edit(self, params, observations, chunks, eps):
        """Edited chunks, clipped (..., B, D), and the log density (..., B) of the unscaled edits; eps: (..., B, D)."""
        edits, log_prob = tanh_sample(*bind(self.edit_network, params, observations)(chunks), eps)
        return jnp.clip(chunks + self.config.edit_scale * edits, -1, 1), log_prob

    def sample(self, observations, noise, eps=None):
        """The policy's chunks from noise (n, B, D), edited with eps (n, B, D): the best of n edited ones; (B, D)."""
        online = self.train.params
        candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        if self.has_edits:
            candidates, _ = self.edit(online["edit_actor"], observations, candidates, eps)
        return best_by_mean(candidates, bind(self.critic_network, online["critic"], observations))

    def act(self, observations, key):
        candidates = self.config.best_of_n, len(observations), self.spec.chunk_dim
        noise = jax.random.normal(key, candidates)
        eps = jax.random.normal(named(key, "edit"), candidates) if self.has_edits else None
        return shared.to_actions(self, self.sample(observations, noise, eps))
