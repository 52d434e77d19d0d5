"""QAM: Q-learning with Adjoint Matching (arXiv 2601.14234).

The fine-tuned flow ("fast") regresses on the lean adjoint of the base flow's memoryless SDE, started at minus inv_temp
times the critics' gradient at the path's end: its optimum is proportional to base * exp(inv_temp * Q). As released, the
base is not frozen but the Polyak average of a slow flow that goes on learning by flow matching, and the gradient at the
end is that of the averaged critics' mean through the clip to [-1, 1].
"""

from typing import ClassVar

from jaxtyping import Float

from agents import matching
from agents.shared import Loss, best_candidate, gradient_step, td_and_flow_loss
from trqam_jax.adjoint import matching_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.settings import Setting
from trqam_jax.types import Array, Batch, Key, Params, Spec

INV_TEMP = Setting(1.0, "inverse temperature: weight of the critic's gradient", low=0.0)


class QAM(AbstractAgent):
    """QAM: adjoint matching of a flow policy to a critic at a fixed temperature (arXiv 2601.14234)."""

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = {"inv_temp": INV_TEMP}
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=matching.initialise(agent, key))

    def draw(self, key: Key, batch_size: int) -> Noise:
        return matching.draw_rollout(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        candidates, xs = matching.candidates_and_points(self, batch, noise)
        next_chunks = best_candidate(self, batch.next_observations, candidates)
        return gradient_step(self, qam_loss(self, batch, noise, next_chunks, xs))

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return matching.sample_fast(self, observations, noise)


def qam_loss(
    agent: AbstractAgent,
    batch: Batch,
    noise: Noise,
    next_chunks: Float[Array, "B D"],
    xs: Float[Array, "K B D"] | None = None,
) -> Loss:
    """TD, flow matching and adjoint matching: QAM's loss, to which QAM-E and QAM-F add their own. xs: the rollout's
    points, where they are known."""
    td_and_flow = td_and_flow_loss(agent, "actor_slow", batch, noise, next_chunks)
    regress = matching.rollout_regression(agent, batch, noise, agent.config.inv_temp, xs)

    def loss(params: Params) -> tuple[Array, Info]:
        total, info = td_and_flow(params)
        regression = regress(params)
        adjoint_loss = matching_loss(regression.delta_v, regression.adjoints, regression.ts)
        # The path KL, to compare with TRQAM's, is reported and not minimised.
        return total + adjoint_loss, info | matching.regression_info(agent, regression, adjoint_loss)

    return loss
