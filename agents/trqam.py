"""TRQAM: Trust Region Q-Adjoint Matching (arXiv 2605.27079).

The fine-tuned flow v ("fast") regresses on the lean adjoint of the memoryless SDE of the base flow ("slow"), whose
noise is scaled by 1 / sqrt(lambda): lambda sits inside the sampling dynamics, and dual ascent on it keeps the
path-space KL between the two on a budget. Departures of the released code from the paper, kept here: lambda is kept
within a bracket and not only positive, the dynamics use lam_scale * lambda, and the base is not frozen but the Polyak
average of a slow flow that goes on learning by flow matching.
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


class TRQAM(AbstractAgent):
    """TRQAM: adjoint matching within a trust region, its temperature set by dual ascent (arXiv 2605.27079).

    State: critics, slow and fast flow, the averages of critics and slow flow, and the dual variable.
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
        config, targets = self.config, self.train.targets
        flow = lambda params: bind(self.flow_network, params, batch.observations)

        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_slow", batch, noise, next_chunks)
        lambda_eff = config.lam_scale * self.dual.lam

        def loss(params):
            total, info = td_and_flow(params)
            regression = lean_regression(
                fine_tuned=flow(params["actor_fast"]),
                base=flow(targets["actor_slow"]),
                value=bind(self.critic_network, targets["critic"], batch.observations),
                x0=noise["rollout_x0"],
                eps=noise["rollout_eps"],
            )
            adjoint_loss = matching_loss(regression.gap, regression.adjoints, regression.ts, lambda_eff)
            kl = path_kl(regression.gap, regression.ts, self.spec.horizon)
            adjoint_max = jnp.abs(regression.a1).max()
            info |= {"adjoint_loss": adjoint_loss, "path_kl": kl, "adjoint_max": adjoint_max}
            return total + adjoint_loss, info

        grads, info = jax.grad(loss, has_aux=True)(self.train.params)
        dual, dual_info = shared.dual_step(self.dual, info["path_kl"], config)
        info |= dual_info | {"grad_norm": optax.global_norm(grads)}
        return self.replace(train=self.train.apply_gradients(grads, self.optimizer, config.tau), dual=dual), info

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        candidates = shared.flow_chunks(self, "actor_fast", observations, noise)
        return best_by_mean(candidates, bind(self.critic_network, self.train.params["critic"], observations))
