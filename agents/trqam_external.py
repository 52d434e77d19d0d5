"""TRQAM's ablation "external KL" (arXiv 2605.27079): the path KL as a penalty beside adjoint matching, not inside it.

It minimises L_adj + lambda D, lambda adapted by TRQAM's own dual ascent, while the dynamics stay those of lambda = 1:
sigma = g in the matching loss. How the penalty is scaled against that loss no public source states. Here its weight is
lambda_eff = lam_scale * lambda, and D is the path KL in nats per action, the number that the dual holds against the
budget; so this file shows the mechanism, and need not give the paper's figures.

At fixed points of the path the loss is, up to a constant, sum (4 + 2 h lambda_eff / H) |dv|^2 / g^2 + 4 dv a, against
TRQAM's sum 4 lambda_eff |dv|^2 / g^2 + 4 dv a: a penalty of weight lambda_eff pulls as hard towards the base as TRQAM
does at 1 + lambda_eff / (2 H K).
"""

from typing import ClassVar

from jaxtyping import Float

from agents import matching
from agents.shared import best_candidate, td_and_flow_loss
from trqam_jax.adjoint import matching_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.trust_region import Dual
from trqam_jax.types import Array, Batch, Key, Spec


class TRQAMExternal(AbstractAgent):
    """TRQAM's ablation: the path KL as a penalty on adjoint matching at lambda = 1 (arXiv 2605.27079, scaling unknown).

    The weight of the penalty is lambda_eff = lam_scale * lambda, a choice of this implementation: the published scaling
    is not public.
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
        candidates, xs = matching.candidates_and_points(self, batch, noise)
        next_chunks = best_candidate(self, batch.next_observations, candidates)
        td_and_flow = td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        regress = matching.rollout_regression(self, batch, noise, xs=xs)
        penalty_weight = self.config.lam_scale * self.dual.lam

        def loss(params):
            total, info = td_and_flow(params)
            regression = regress(params)
            adjoint_loss = matching_loss(regression.delta_v, regression.adjoints, regression.ts)
            info |= matching.regression_info(self, regression, adjoint_loss)
            return total + adjoint_loss + penalty_weight * info["path_kl"], info

        return matching.trust_region_step(self, loss)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return matching.sample_fast(self, observations, noise)
