"""FQL: Flow Q-Learning (arXiv 2502.02538), on action chunks.

A flow policy learns by flow matching alone and never sees the critic. A one-step policy, from noise to a chunk at once,
imitates the flow's ODE from the same noise, weighted by alpha, and ascends the critics; it acts. As in the release of
QAM (arXiv 2601.14234), and unlike the paper: chunks instead of actions, and an ensemble of critics with a pessimistic
target.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import OneStep, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class FQL(AbstractAgent):
    """FQL: a one-step policy that imitates a BC flow and ascends the critic (arXiv 2502.02538)."""

    family: ClassVar = "distillation"
    SETTINGS: ClassVar = {
        "alpha": Setting(10.0, "weight of the distillation, tuned per domain", low=0.0),
        "clip_norm": shared.NO_CLIP,
    }
    pretrained_networks: ClassVar = ("actor_bc_flow",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = {
            "actor_bc_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "actor_onestep_flow": (agent.one_step_network, (spec.observation_dim, spec.chunk_dim)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
        }
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    @property
    def one_step_network(self) -> OneStep:
        return OneStep(self.actor_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    def draw(self, key: Key, batch_size: int) -> Noise:
        distill = normals(key, distill_z=(batch_size, self.spec.chunk_dim))
        return shared.draw_common(self, key, batch_size) | distill

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
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

        return shared.gradient_step(self, loss)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        one_step = bind(self.one_step_network, self.train.params["actor_onestep_flow"], observations)
        return shared.best_candidate(self, observations, jnp.clip(one_step(noise), -1, 1))
