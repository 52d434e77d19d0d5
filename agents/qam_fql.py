"""QAM-F: QAM with a one-step policy distilled from its flow (arXiv 2601.14234), as in FQL (arXiv 2502.02538).

The one-step policy maps noise to a chunk at once. It imitates the fine-tuned flow's ODE from the same noise, weighted
by fql_alpha, and ascends the critics' mean; it acts, and its actions enter the TD target. The flow learns as in QAM and
not from the one-step policy. fql_alpha 0, which some domains use, is QAM itself: the flow acts and no one-step policy
exists.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import matching, shared
from agents.qam import INV_TEMP, qam_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import OneStep, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Params, Spec


class QAMFQL(AbstractAgent):
    """QAM-F: QAM, and a one-step policy distilled from its flow that acts (arXiv 2601.14234)."""

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = {
        "inv_temp": INV_TEMP,
        "fql_alpha": Setting(
            30.0, "weight of the distillation, tuned per domain; 0: QAM", low=0.0, zero_is_static=True
        ),
    }
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = matching.networks(agent)
        if agent.has_one_step:
            networks["one_step_actor"] = (agent.one_step_network, (spec.observation_dim, spec.chunk_dim))
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, matching.AVERAGED, agent.optimizer))

    @property
    def has_one_step(self) -> bool:
        return not self.config.is_zero("fql_alpha")

    @property
    def one_step_network(self) -> OneStep:
        return OneStep(self.actor_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    def draw(self, key: Key, batch_size: int) -> Noise:
        noise = matching.draw_rollout(self, key, batch_size)
        if self.has_one_step:
            noise |= normals(key, distill_z=(batch_size, self.spec.chunk_dim))
        return noise

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        qam = qam_loss(self, batch, noise, next_chunks)

        def loss(params):
            total, info = qam(params)
            if self.has_one_step:
                distill_loss, q_loss = self.one_step_losses(params, batch.observations, noise["distill_z"])
                total += self.config.fql_alpha * distill_loss + q_loss
                info |= {"distill_loss": distill_loss, "q_loss": q_loss}
            return total, info

        return shared.gradient_step(self, loss)

    def one_step_losses(
        self, params: Params, observations: Float[Array, "B O"], z: Float[Array, "B D"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Its distance from the flow at noise z, and minus its value; flow and critics are fixed."""
        chunks = bind(self.one_step_network, params["one_step_actor"], observations)(z)
        value = bind(self.critic_network, self.train.params["critic"], observations)
        return shared.one_step_losses(chunks, shared.flow_chunks(self, "actor_fast", observations, z), value)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        if not self.has_one_step:
            return matching.sample_fast(self, observations, noise)
        one_step = bind(self.one_step_network, self.train.params["one_step_actor"], observations)
        return shared.best_candidate(self, observations, jnp.clip(one_step(noise), -1, 1))
