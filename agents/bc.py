"""Behaviour cloning of a flow policy by flow matching: the pretrained policy that methods with a flow start from."""

from typing import ClassVar

import jax
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import init_params
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class BC(AbstractAgent):
    """Flow matching alone, with Adam and a joint clip at 1; the last weights are the policy (nothing is averaged)."""

    family: ClassVar = "behaviour cloning"
    ignores: ClassVar = ("discount", "critic_hidden_dims", "num_critics", "rho", "best_of_n")
    #: The settings that cloning takes from the method that starts from its policy.
    INHERITS: ClassVar = ("hidden_dims", "actor_hidden_dims", "actor_layer_norm", "flow_steps", "learning_rate")
    #: The settings that do not change what it learns: it sees no reward, and the others say how it acts.
    UNUSED: ClassVar = ("discount", "flow_steps")

    pretrained_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        params = init_params(key, {"actor": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1))})
        return agent.replace(train=TrainState.create(params, (), agent.optimizer))

    def draw(self, key: Key, batch_size: int) -> Noise:
        return shared.draw_flow_matching(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        def loss(params):
            flow_loss = shared.flow_loss_of(self, params["actor"], batch, noise)
            return flow_loss, {"flow_loss": flow_loss}

        return shared.gradient_step(self, loss)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        x0 = jax.random.normal(key, (len(observations), self.spec.chunk_dim))
        return shared.to_actions(self, shared.flow_chunks(self, "actor", observations, x0))
