"""CGQL: classifier-guided Q-learning, a baseline of QAM (arXiv 2601.14234).

The flow only ever learns by flow matching; at every step of its ODE but the first the critic's gradient is added as
classifier guidance, weighted by guidance_coef. As released: critics take a time, which is 1 for clean actions, and
plain CGQL evaluates them at time 1 at the points on the way too (CGQL-M and CGQL-L, in cgql_mse.py and cgql_linex.py,
teach the critics the values of noised actions instead); acting and targets guide the flow's Polyak average by the
online critics; the points are clipped only at the end.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import guided
from agents.shared import draw_common, gradient_step, td_and_flow_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.critic import best_by_mean
from trqam_jax.networks import Network, bind
from trqam_jax.types import Array, Batch, Key, Spec


class CGQL(AbstractAgent):
    """CGQL: a BC flow whose ODE is guided by the critic's gradient (arXiv 2601.14234)."""

    family: ClassVar = "guidance"
    SETTINGS: ClassVar = guided.SETTINGS
    pretrained_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=guided.initialise(agent, key))

    @property
    def critic_network(self) -> Network:
        return guided.critic_network(self)

    def draw(self, key: Key, batch_size: int) -> Noise:
        return draw_common(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        return gradient_step(self, td_and_flow_loss(self, "actor", batch, noise, next_chunks))

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        critic = bind(self.critic_network, self.train.params["critic"], observations)
        at_time_one = lambda x, t: critic(x)
        return best_by_mean(guided.guided_chunks(self, observations, noise, at_time_one), critic)
