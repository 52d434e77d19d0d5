"""SQAM: Q-adjoint matching with the scalar adjoint (arXiv 2610.10437).

No SDE is simulated and no adjoint integrated: the fine-tuned flow's ODE gives an endpoint x1, the critics' gradient is
taken there once, and the adjoint at the bridge x_t = (1 - t) eps + t x1 is a_t = t a_1, which is the lean adjoint of a
flow of constant velocity. Matching loss, path KL and dual variable are TRQAM's (arXiv 2605.27079). The critic pays for
valuing the policy above the data: gap_coef * (mean Q(s, clip x1) - mean Q(s, a)). The endpoints of one rollout serve
both. From the release, as in TRQAM: the base is the Polyak average of a slow flow that goes on learning.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from agents import shared
from trqam_jax.adjoint import bridge_regression, matching_loss
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.flow import sample_ode
from trqam_jax.networks import bind, init_params
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import Dual, path_kl


class SQAM(AbstractAgent):
    """SQAM: TRQAM with the scalar adjoint t grad Q on bridges, and a penalised critic (arXiv 2610.10437)."""

    dual: Dual

    DEFAULTS: ClassVar = shared.TRUST_REGION | dict(
        kl_budget=0.5,
        gap_coef=0.3,  # c, weight of the critic's penalty
        n_bridge=10,  # bridge states per endpoint; the rollout has flow_steps
    )
    cloned_networks: ClassVar = ("actor_slow", "actor_fast")

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec, dual=Dual.create(config.kl_budget))
        params = init_params(key, shared.slow_fast_critic(agent))
        return agent.replace(train=TrainState.create(params, ("actor_slow", "critic"), agent.optimizer))

    def draw(self, key, batch_size):
        chunk = batch_size, self.spec.chunk_dim
        bridges = normals(key, rollout_x0=chunk, bridge_eps=(self.config.n_bridge, *chunk))
        return shared.draw_common(self, key, batch_size) | bridges

    def step(self, batch, noise):
        config, online, targets = self.config, self.train.params, self.train.targets
        flow = lambda params: bind(self.flow_network, params, batch.observations)
        critic = lambda params: bind(self.critic_network, params, batch.observations)

        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        lambda_eff = config.lam_scale * self.dual.lam
        x1 = sample_ode(flow(online["actor_fast"]), noise["rollout_x0"], config.flow_steps)

        def loss(params):
            total, info = td_and_flow(params)
            q_gap = critic(params["critic"])(jnp.clip(x1, -1, 1)).mean() - info["q_mean"]
            regression = bridge_regression(
                fine_tuned=flow(params["actor_fast"]),
                base=flow(targets["actor_slow"]),
                value=critic(targets["critic"]),
                x1=x1,
                eps=noise["bridge_eps"],
            )
            adjoint_loss = matching_loss(regression.gap, regression.adjoints, regression.ts, lambda_eff)
            kl = path_kl(regression.gap, regression.ts, self.spec.horizon)
            adjoint_max = jnp.abs(regression.a1).max()
            info |= {"q_gap": q_gap, "adjoint_loss": adjoint_loss, "path_kl": kl, "adjoint_max": adjoint_max}
            return total + config.gap_coef * q_gap + adjoint_loss, info

        grads, info = jax.grad(loss, has_aux=True)(online)
        dual, dual_info = shared.dual_step(self.dual, info["path_kl"], config)
        info |= dual_info | {"grad_norm": optax.global_norm(grads)}
        return self.replace(train=self.train.apply_gradients(grads, self.optimizer, config.tau), dual=dual), info

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        return best_by_mean(candidates, bind(self.critic_network, self.train.params["critic"], observations))
