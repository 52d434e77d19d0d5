"""TRQAM: Trust Region Q-Adjoint Matching (arXiv 2605.27079).

The fine-tuned flow v ("fast") regresses on the lean adjoint of the memoryless SDE of the base flow ("slow"), whose
noise is scaled by 1 / sqrt(lambda): lambda sits inside the sampling dynamics, and dual ascent on it keeps the
path-space KL between the two on a budget. Departures of the released code from the paper, kept here: lambda is kept
within a bracket and not only positive, the dynamics use lam_scale * lambda, and the base is not frozen but the Polyak
average of a slow flow that goes on learning by flow matching.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import matching
from agents.shared import td_and_flow_loss
from trqam_jax.adjoint import matching_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.trust_region import Dual
from trqam_jax.types import Array, Batch, Key, Spec


class TRQAM(AbstractAgent):
    """TRQAM: adjoint matching within a trust region, its temperature set by dual ascent (arXiv 2605.27079).

    State: critics, slow and fast flow, the averages of critics and slow flow, and the dual variable.
    """

    dual: Dual

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = matching.TRUST_REGION
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=matching.initialise(agent, key), dual=Dual.create())

    def draw(self, key: Key, batch_size: int) -> Noise:
        return matching.draw_rollout(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        regress = matching.rollout_regression(self, batch, noise)
        lambda_eff = self.config.lam_scale * self.dual.lam

        def loss(params):
            total, info = td_and_flow(params)
            regression = regress(params)
            adjoint_loss = matching_loss(regression.delta_v, regression.adjoints, regression.ts, lambda_eff)
            return total + adjoint_loss, info | matching.regression_info(self, regression, adjoint_loss)

        return matching.trust_region_step(self, loss)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return matching.sample_fast(self, observations, noise)
