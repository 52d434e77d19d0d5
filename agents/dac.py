"""DAC: Diffusion Actor-Critic (arXiv 2405.20555), on action chunks.

A diffusion policy that learns the noise of the data, weighted by alpha, and lowers the product of its predicted noise
with the critic's gradient at noised chunks, scaled with their noise level. alpha is the weight of the data, so a small
one follows the critic. As the QAM release (arXiv 2601.14234) computes it, with its oddities:

- the noise that a step of the sampler adds has the variance beta_t, not the posterior's;
- a row's loss is raised to the power of `valid` (agents/diffusion_policy.py).

Unlike the paper: chunks, one sample instead of the best of several, and an ensemble of critics with a pessimistic
target, the gradient taken of their average's mean. The release lists best_of_n for it and ignores it, as here.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import diffusion_policy
from agents.shared import to_actions
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.diffusion import posterior_step
from trqam_jax.types import Array, Batch, Key, Spec


class DAC(AbstractAgent):
    """DAC: a diffusion policy whose noise is pushed against the critic's gradient (arXiv 2405.20555)."""

    family: ClassVar = "diffusion"
    ignores: ClassVar = ("flow_steps", "best_of_n")
    SETTINGS: ClassVar = diffusion_policy.settings(alpha=1.0)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=diffusion_policy.initialise(agent, key))

    def draw(self, key: Key, batch_size: int) -> Noise:
        return diffusion_policy.draw(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        def row_loss(eps: Float[Array, "B D"], point: diffusion_policy.Point) -> Float[Array, " B"]:
            return (point.noise_level * point.q_grad * eps).mean(-1)

        return diffusion_policy.update(self, batch, noise, posterior_step, row_loss)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        return to_actions(self, diffusion_policy.act(self, posterior_step, observations, key))
