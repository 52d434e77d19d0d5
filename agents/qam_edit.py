"""QAM-E: QAM with a policy that edits the flow's actions (arXiv 2601.14234).

A tanh-Gaussian policy pi(e | s, a) sees the fine-tuned flow's clipped chunk and corrects it: the action is
clip(a + edit_scale * e). It ascends the critics' mean with an entropy bonus on the unscaled edit, whose temperature is
tuned to the target entropy -target_entropy_multiplier * D. The flow learns as in QAM and not from the edits.
edit_scale 0, which some domains use, is QAM itself: no network, draw or loss of the edits exists then.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

from agents import matching, shared
from agents.qam import INV_TEMP, qam_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.entropy import tanh_sample, temperature_loss
from trqam_jax.networks import TanhGaussian, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import named, normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Params, Spec


class QAMEdit(AbstractAgent):
    """QAM-E: QAM, and a small tanh-Gaussian edit of the flow's action (arXiv 2601.14234)."""

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = {
        "inv_temp": INV_TEMP,
        "edit_scale": Setting(0.1, "largest edit of a coordinate; 0: QAM", low=0.0, zero_is_static=True),
        "target_entropy_multiplier": shared.ENTROPY_MULTIPLIER,
    }
    DERIVED: ClassVar = AbstractAgent.DERIVED | {"target_entropy": shared.TARGET_ENTROPY}
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = matching.networks(agent)
        if agent.has_edits:
            networks["edit_actor"] = (agent.edit_network, (spec.observation_dim, spec.chunk_dim))
        params = init_params(key, networks)
        if agent.has_edits:
            params["edit_alpha"] = {"log_value": jnp.zeros(())}
        return agent.replace(train=TrainState.create(params, matching.AVERAGED, agent.optimizer))

    @property
    def has_edits(self) -> bool:
        return not self.config.is_zero("edit_scale")

    @property
    def edit_network(self) -> TanhGaussian:
        return TanhGaussian(self.actor_dims, self.spec.chunk_dim)

    def draw(self, key: Key, batch_size: int) -> Noise:
        noise = matching.draw_rollout(self, key, batch_size)
        if self.has_edits:
            chunk = batch_size, self.spec.chunk_dim
            noise |= normals(key, next_edit=(self.config.best_of_n, *chunk), edit_x0=chunk, edit=chunk)
        return noise

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"], noise.get("next_edit"))
        qam = qam_loss(self, batch, noise, next_chunks)

        def loss(params):
            total, info = qam(params)
            if self.has_edits:
                edit_loss, edit_info = self.edit_loss(params, batch.observations, noise)
                total, info = total + edit_loss, info | edit_info
            return total, info

        return shared.gradient_step(self, loss)

    def edit_loss(
        self, params: Params, observations: Float[Array, "B O"], noise: Noise
    ) -> tuple[Float[Array, ""], Info]:
        """-mean Q + alpha mean log pi, and the temperature's own loss; flow, critics and alpha are fixed."""
        online = self.train.params
        chunks = shared.flow_chunks(self, "actor_fast", observations, noise["edit_x0"])
        edited, log_prob = self.edit(params["edit_actor"], observations, chunks, noise["edit"])
        q_loss = -bind(self.critic_network, online["critic"], observations)(edited).mean()
        alpha = jnp.exp(online["edit_alpha"]["log_value"])
        entropy_loss = alpha * log_prob.mean()
        alpha_loss = temperature_loss(params["edit_alpha"]["log_value"], log_prob, self.config.target_entropy)
        info = {
            "edit_q_loss": q_loss,
            "edit_entropy_loss": entropy_loss,
            "edit_alpha_loss": alpha_loss,
            "edit_alpha": alpha,
            "edit_entropy": -log_prob.mean(),
        }
        return q_loss + entropy_loss + alpha_loss, info

    def edit(
        self,
        params: Params,
        observations: Float[Array, "B O"],
        chunks: Float[Array, "*n B D"],
        eps: Float[Array, "*n B D"],
    ) -> tuple[Float[Array, "*n B D"], Float[Array, "*n B"]]:
        """Edited chunks, clipped, and the log density of the unscaled edits."""
        mean, log_std = bind(self.edit_network, params, observations)(chunks)
        edits, log_prob = tanh_sample(mean, log_std, eps)
        return jnp.clip(chunks + self.config.edit_scale * edits, -1, 1), log_prob

    def sample(
        self,
        observations: Float[Array, "B O"],
        noise: Float[Array, "n B D"],
        eps: Float[Array, "n B D"] | None = None,
    ) -> Float[Array, "B D"]:
        """The policy's chunks from noise, edited with eps: the best of n edited ones."""
        candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        if eps is not None:
            candidates, _ = self.edit(self.train.params["edit_actor"], observations, candidates, eps)
        return shared.best_candidate(self, observations, candidates)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        candidates = self.config.best_of_n, len(observations), self.spec.chunk_dim
        noise = jax.random.normal(key, candidates)
        eps = jax.random.normal(named(key, "edit"), candidates) if self.has_edits else None
        return shared.to_actions(self, self.sample(observations, noise, eps))
