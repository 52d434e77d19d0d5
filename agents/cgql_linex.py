"""CGQL-L: CGQL whose critics learn the tilted values of noised actions by the Linex loss (arXiv 2601.14234).

On x_t = (1 - t) noise + t a the critics at time t descend exp(d) - d, d = inv_temp (Q'(s, a, 1) - Q(s, x_t, t)), with
their averages Q'. The minimiser log E[exp(inv_temp Q'(s, a, 1)) | x_t] / inv_temp is the value whose gradient guides
the flow to the tilted policy. Guidance takes the critics at the flow's time. As released, where d > linex_clip the loss
is d alone, with a jump.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import guided
from agents.shared import gradient_step
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.guidance import linex_loss
from trqam_jax.networks import Network
from trqam_jax.settings import Setting
from trqam_jax.types import Array, Batch, Key, Spec


class CGQLLinex(AbstractAgent):
    """CGQL-L: CGQL whose critics also learn the tilted value of noised actions (arXiv 2601.14234)."""

    family: ClassVar = "guidance"
    SETTINGS: ClassVar = guided.NOISED_SETTINGS | {
        "linex_clip": Setting(5.0, "above this inv_temp (clean - noised) the loss is linear", low=0.0),
    }
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
        config = self.config
        linex = lambda clean, noised: linex_loss(clean, noised, config.inv_temp, config.linex_clip)
        return gradient_step(self, guided.noised_loss(self, batch, noise, linex))

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return guided.sample_at_flow_time(self, observations, noise)
