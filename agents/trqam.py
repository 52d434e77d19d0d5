"""TRQAM: Trust Region Q-Adjoint Matching (arXiv 2605.27079).

The fine-tuned flow v ("fast") regresses on the lean adjoint of the memoryless SDE of the base flow ("slow"), whose noise
is scaled by 1 / sqrt(lambda): lambda sits inside the sampling dynamics, and dual ascent on it keeps the path-space KL
between the two on a budget. Departures of the released code from the paper, kept here: lambda is bracketed instead of
only kept positive, the dynamics use lam_scale * lambda, and the base is not frozen but the Polyak average of a slow flow
that goes on learning by flow matching.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from trqam_jax.adjoint import lean_adjoint, matching_loss, value_gradient
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_of_n, pessimistic, td_loss, td_target
from trqam_jax.flow import flow_matching_loss, sample_ode
from trqam_jax.networks import Critic, Velocity, bind, init_params
from trqam_jax.sde import sample_path
from trqam_jax.streams import named
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import Dual, path_kl


class TRQAM(AbstractAgent):
    """State: parameters of critic, slow and fast flow with the averages of the first two, and the dual variable."""

    dual: Dual

    DEFAULTS: ClassVar = dict(
        kl_budget=1.0,  # eps_KL, nats per action
        eta=0.01,  # step size of lambda
        kl_average=0.1,
        kl_clip=2.0,  # in budgets
        lambda_min=0.01,
        lambda_max=100.0,
        lam_scale=3.0,  # lambda_eff = lam_scale * lambda
    )
    cloned_networks: ClassVar = ("actor_slow", "actor_fast")

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec, dual=Dual.create(config.kl_budget))
        flow = agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)
        critic = agent.critic_network, (spec.observation_dim, spec.chunk_dim)
        params = init_params(key, {"actor_slow": flow, "actor_fast": flow, "critic": critic})
        return agent.replace(train=TrainState.create(params, ("actor_slow", "critic"), agent.optimizer))

    @property
    def flow_network(self):
        return Velocity(self.config.hidden_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    @property
    def critic_network(self):
        return Critic(self.config.hidden_dims, self.config.num_critics)

    def draw(self, key, batch_size):
        chunk = batch_size, self.spec.chunk_dim
        return {
            "next_action": jax.random.normal(named(key, "next_action"), (self.config.best_of_n, *chunk)),
            "flow_x0": jax.random.normal(named(key, "flow_x0"), chunk),
            "flow_t": jax.random.uniform(named(key, "flow_t"), (batch_size, 1)),
            "rollout_x0": jax.random.normal(named(key, "rollout_x0"), chunk),
            "rollout_eps": jax.random.normal(named(key, "rollout_eps"), (self.config.flow_steps, *chunk)),
        }

    def step(self, batch, noise):
        config, params, targets = self.config, self.train.params, self.train.targets
        flow = lambda params: bind(self.flow_network, params, batch.observations)
        critic = lambda params, observations: bind(self.critic_network, params, observations)

        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        next_qs = critic(targets["critic"], batch.next_observations)(next_chunks)
        td_targets = td_target(batch, pessimistic(next_qs, config.rho), config.discount)

        base = flow(targets["actor_slow"])
        path = sample_path(flow(params["actor_fast"]), base, noise["rollout_x0"], noise["rollout_eps"])
        a1 = -value_gradient(critic(targets["critic"], batch.observations), path.x1)
        adjoints = lean_adjoint(base, path, a1)
        at_path = path.xs, path.ts[:, None, None]
        base_velocity = base(*at_path)

        def loss(params):
            qs = critic(params["critic"], batch.observations)(batch.chunks)
            critic_loss = td_loss(qs, td_targets, batch.valid)
            flow_loss = flow_matching_loss(
                flow(params["actor_slow"]), batch.chunks, noise["flow_x0"], noise["flow_t"], batch.valid
            )
            gap = flow(params["actor_fast"])(*at_path) - base_velocity
            adjoint_loss = matching_loss(gap, adjoints, path.ts, config.lam_scale * self.dual.lam)
            info = {
                "critic_loss": critic_loss,
                "flow_loss": flow_loss,
                "adjoint_loss": adjoint_loss,
                "path_kl": path_kl(gap, path.ts, self.spec.horizon),
                "q_mean": qs.mean(),
            }
            return critic_loss + flow_loss + adjoint_loss, info

        grads, info = jax.grad(loss, has_aux=True)(params)
        dual = self.dual.update(
            info["path_kl"],
            eta=config.eta,
            average=config.kl_average,
            clip=config.kl_clip,
            low=config.lambda_min,
            high=config.lambda_max,
        )
        info |= {
            "lambda": config.lam_scale * dual.lam,
            "kl_average": dual.kl,
            "kl_budget": dual.budget,
            "adjoint_max": jnp.abs(a1).max(),
            "grad_norm": optax.global_norm(grads),
        }
        return self.replace(train=self.train.apply_gradients(grads, self.optimizer, config.tau), dual=dual), info

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        params = self.train.params
        velocity = bind(self.flow_network, params["actor_fast"], observations)
        candidates = jnp.clip(sample_ode(velocity, noise, self.config.flow_steps), -1, 1)
        if len(candidates) == 1:
            return candidates[0]
        observations = jnp.broadcast_to(observations, (len(candidates), *observations.shape))
        return best_of_n(candidates, bind(self.critic_network, params["critic"], observations)(candidates).mean(0))

    def act(self, observations, key):
        noise = jax.random.normal(key, (self.config.best_of_n, len(observations), self.spec.chunk_dim))
        return self.sample(observations, noise).reshape(-1, self.spec.horizon, self.spec.action_dim)
