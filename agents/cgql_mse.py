"""CGQL-M: CGQL whose critics learn the values of noised actions by regression (arXiv 2601.14234).

On x_t = (1 - t) noise + t a the critics at time t regress on their averages at (a, 1): Q(s, x, t) tends to
E[Q(s, a) | x_t = x] over the data. Guidance takes the critics at the flow's time.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import guided
from agents.shared import gradient_step
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import Network
from trqam_jax.types import Array, Batch, Key, Spec


class CGQLMSE(AbstractAgent):
    """CGQL-M: CGQL whose critics also learn the mean value of noised actions (arXiv 2601.14234)."""

    family: ClassVar = "guidance"
    SETTINGS: ClassVar = guided.NOISED_SETTINGS
    pretrained_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=guided.initialise(agent, key))

    @property
    def critic_network(self) -> Network:
        return guided.critic_network(self)

    def draw(self, key: Key, batch_size: int) -> Noise:
        return guided.draw_noised(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        squared_error = lambda clean, noised: jnp.square(noised - clean)
        return gradient_step(self, guided.noised_loss(self, batch, noise, squared_error))

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return guided.sample_at_flow_time(self, observations, noise)
