"""SQAM: Q-adjoint matching with the scalar adjoint (arXiv 2610.10437).

No SDE is simulated and no adjoint integrated: the fine-tuned flow's ODE gives an endpoint x1, the critics' gradient is
taken there once, and the adjoint at the bridge x_t = (1 - t) eps + t x1 is a_t = t a_1, which is the lean adjoint of a
flow of constant velocity. Matching loss, path KL and dual variable are TRQAM's (arXiv 2605.27079). The critic pays for
valuing the policy above the data: gap_coef * (mean Q(s, clip x1) - mean Q(s, a)). The endpoints of one rollout serve
both. From the release, as in TRQAM: the base is the Polyak average of a slow flow that goes on learning.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import matching
from agents.shared import best_candidate, draw_common, td_and_flow_loss
from trqam_jax.adjoint import bridge_regression, matching_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.flow import sample_ode_at_both
from trqam_jax.networks import bind
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.trust_region import Dual
from trqam_jax.types import Array, Batch, Key, Spec


class SQAM(AbstractAgent):
    """SQAM: TRQAM with the scalar adjoint t grad Q on bridges, and a penalised critic (arXiv 2610.10437)."""

    dual: Dual

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = matching.TRUST_REGION | {
        "kl_budget": matching.TRUST_REGION["kl_budget"]._replace(default=0.5),
        "gap_coef": Setting(0.3, "c, weight of the critic's penalty for valuing the policy above the data", low=0.0),
        "n_bridge": Setting(10, "bridge states per endpoint; the rollout has flow_steps", low=1),
    }
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=matching.initialise(agent, key), dual=Dual.create())

    def draw(self, key: Key, batch_size: int) -> Noise:
        chunk = batch_size, self.spec.chunk_dim
        bridges = normals(key, rollout_x0=chunk, bridge_eps=(self.config.n_bridge, *chunk))
        return draw_common(self, key, batch_size) | bridges

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        config, online, targets = self.config, self.train.params, self.train.targets
        flow = lambda params: bind(self.flow_network, params, batch.observations)

        ends, x1 = sample_ode_at_both(
            lambda observations: bind(self.flow_network, online["actor_fast"], observations),
            (batch.next_observations, noise["next_action"]),
            (batch.observations, noise["rollout_x0"]),
            config.flow_steps,
        )
        next_chunks = best_candidate(self, batch.next_observations, jnp.clip(ends, -1, 1))
        td_and_flow = td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        lambda_eff = config.lam_scale * self.dual.lam

        def loss(params):
            total, info = td_and_flow(params)
            gap = matching.value_gap(self, params, batch, x1)
            regression = bridge_regression(
                fine_tuned=flow(params["actor_fast"]),
                base=flow(targets["actor_slow"]),
                value=bind(self.critic_network, targets["critic"], batch.observations),
                x1=x1,
                eps=noise["bridge_eps"],
            )
            adjoint_loss = matching_loss(regression.delta_v, regression.adjoints, regression.ts, lambda_eff)
            info |= {"q_gap": gap} | matching.regression_info(self, regression, adjoint_loss)
            return total + config.gap_coef * gap + adjoint_loss, info

        return matching.trust_region_step(self, loss)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        return matching.sample_fast(self, observations, noise)
