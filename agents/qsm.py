"""QSM: Q-Score Matching (arXiv 2312.11752), on action chunks.

A diffusion policy whose predicted noise regresses on -inv_temp times the critic's gradient at noised chunks, plus alpha
times the noise's own regression, which clones the data. As the QAM release (arXiv 2601.14234) computes it, with its
oddities:

- the critic's gradient is not scaled with the noise level, as a score would be to become a noise;
- a step of the sampler goes to the predicted data themselves, not to the mean of x_{t-1}: the noise is added to them,
  and the sum is clipped;
- a row's loss is raised to the power of `valid` (agents/diffusion_policy.py).

Unlike the paper: the cloning term, chunks, and an ensemble of critics with a pessimistic target, the gradient taken of
their average's mean. The release lists best_of_n for it and ignores it, as here.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import diffusion_policy
from agents.shared import to_actions
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.diffusion import data_step
from trqam_jax.settings import Setting
from trqam_jax.types import Array, Batch, Key, Spec


class QSM(AbstractAgent):
    """QSM: a diffusion policy whose noise regresses on the critic's gradient (arXiv 2312.11752)."""

    family: ClassVar = "diffusion"
    ignores: ClassVar = ("flow_steps", "best_of_n")
    SETTINGS: ClassVar = {
        "inv_temp": Setting(1.0, "inverse temperature: weight of the critic's gradient, tuned per domain", low=0.0),
        **diffusion_policy.settings(alpha=10.0),
    }

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=diffusion_policy.initialise(agent, key))

    def draw(self, key: Key, batch_size: int) -> Noise:
        return diffusion_policy.draw(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        def row_loss(eps: Float[Array, "B D"], point: diffusion_policy.Point) -> Float[Array, " B"]:
            return jnp.square(-self.config.inv_temp * point.q_grad - eps).mean(-1)

        return diffusion_policy.update(self, batch, noise, data_step, row_loss)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        return to_actions(self, diffusion_policy.act(self, data_step, observations, key))
