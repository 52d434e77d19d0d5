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

import jax
import jax.numpy as jnp
import optax

from agents import shared
from trqam_jax.adjoint import lean_regression, matching_loss
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.networks import bind, init_params
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import Dual, path_kl


class TRQAMExternal(AbstractAgent):
    """TRQAM's ablation: the path KL as a penalty on adjoint matching at lambda = 1 (arXiv 2605.27079, scaling unknown).

    The weight of the penalty is lambda_eff = lam_scale * lambda, a choice of this suite: the published scaling is not
    public.
    """

    dual: Dual

    DEFAULTS: ClassVar = dict(shared.TRUST_REGION)
    cloned_networks: ClassVar = ("actor_slow", "actor_fast")

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec, dual=Dual.create(config.kl_budget))
        params = init_params(key, shared.slow_fast_critic(agent))
        return agent.replace(train=TrainState.create(params, ("actor_slow", "critic"), agent.optimizer))

    def draw(self, key, batch_size):
        return shared.draw_common(self, key, batch_size) | shared.draw_rollout(self, key, batch_size)

    def step(self, batch, noise):
        train, penalty_weight = self.train, self.config.lam_scale * self.dual.lam
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        fast = lambda params: bind(self.flow_network, params["actor_fast"], batch.observations)
        base = bind(self.flow_network, train.targets["actor_slow"], batch.observations)
        value = bind(self.critic_network, train.targets["critic"], batch.observations)

        def loss(params):
            total, info = td_and_flow(params)
            regression = lean_regression(fast(params), base, value, noise["rollout_x0"], noise["rollout_eps"])
            adjoint_loss = matching_loss(regression.gap, regression.adjoints, regression.ts)
            kl = path_kl(regression.gap, regression.ts, self.spec.horizon)
            adjoint_max = jnp.abs(regression.a1).max()
            info |= {"adjoint_loss": adjoint_loss, "path_kl": kl, "adjoint_max": adjoint_max}
            return total + adjoint_loss + penalty_weight * kl, info

        grads, info = jax.grad(loss, has_aux=True)(train.params)
        dual, dual_info = shared.dual_step(self.dual, info["path_kl"], self.config)
        info |= dual_info | {"grad_norm": optax.global_norm(grads)}
        return self.replace(train=train.apply_gradients(grads, self.optimizer, self.config.tau), dual=dual), info

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        return best_by_mean(candidates, bind(self.critic_network, self.train.params["critic"], observations))
