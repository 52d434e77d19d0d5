"""TRQAM: Trust Region Q-Adjoint Matching (arXiv 2605.27079).

The fine-tuned flow v ("fast") regresses on the lean adjoint of the memoryless SDE of the base flow ("slow"), whose
noise is scaled by 1 / sqrt(lambda): lambda sits inside the sampling dynamics, and dual ascent on it keeps the
path-space KL between the two on a budget. Departures of the released code from the paper, kept here: lambda is kept
within a bracket and not only positive, the dynamics use lam_scale * lambda, and the base is not frozen but the Polyak
average of a slow flow that goes on learning by flow matching. gap_coef is no part of the method: it adds the penalty
that SQAM (arXiv 2610.10437) puts on the critic, for the ablation.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import matching
from agents.shared import best_candidate, td_and_flow_loss
from trqam_jax.adjoint import matching_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.flow import sample_ode
from trqam_jax.networks import bind
from trqam_jax.settings import Setting
from trqam_jax.trust_region import Dual
from trqam_jax.types import Array, Batch, Key, Params, Spec


class TRQAM(AbstractAgent):
    """TRQAM: adjoint matching within a trust region, its temperature set by dual ascent (arXiv 2605.27079).

    State: critics, slow and fast flow, the averages of critics and slow flow, and the dual variable.
    """

    dual: Dual

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = matching.TRUST_REGION | {
        "gap_coef": Setting(
            0.0,
            "weight of SQAM's penalty on critics that value the policy above the data; 0: TRQAM",
            low=0.0,
            zero_is_static=True,
            since="0.4.0",
        ),
    }
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=matching.initialise(agent, key), dual=Dual.create())

    def draw(self, key: Key, batch_size: int) -> Noise:
        return matching.draw_rollout(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        candidates, xs = matching.candidates_and_points(self, batch, noise)
        next_chunks = best_candidate(self, batch.next_observations, candidates)
        td_and_flow = td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        regress = matching.rollout_regression(self, batch, noise, xs=xs)
        lambda_eff = self.config.lam_scale * self.dual.lam

        def loss(params):
            total, info = td_and_flow(params)
            regression = regress(params)
            adjoint_loss = matching_loss(regression.delta_v, regression.adjoints, regression.ts, lambda_eff)
            info |= matching.regression_info(self, regression, adjoint_loss)
            if not self.config.is_zero("gap_coef"):
                info["q_gap"] = self.value_gap(params, batch, noise)
                total += self.config.gap_coef * info["q_gap"]
            return total + adjoint_loss, info

        return matching.trust_region_step(self, loss)

    def value_gap(self, params: Params, batch: Batch, noise: Noise) -> Float[Array, ""]:
        """Of the critics with these parameters, at the endpoints of the fine-tuned flow's ODE as it stands."""
        velocity = bind(self.flow_network, self.train.params["actor_fast"], batch.observations)
        x1 = sample_ode(velocity, noise["rollout_x0"], self.config.flow_steps)
        return matching.value_gap(self, params, batch, x1)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return matching.sample_fast(self, observations, noise)
