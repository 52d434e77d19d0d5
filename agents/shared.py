"""What several algorithms are made of, as plain functions: each algorithm's own file keeps what is its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.critic import pessimistic, td_loss, td_target
from trqam_jax.flow import flow_matching_loss, sample_ode
from trqam_jax.networks import bind
from trqam_jax.streams import named, normals
from trqam_jax.trust_region import Dual
from trqam_jax.types import Array, Batch, Params

#: The dual variable's settings, of TRQAM (arXiv 2605.27079), its ablation and SQAM.
TRUST_REGION = dict(
    kl_budget=1.0,  # eps_KL, nats per action
    eta=0.01,  # step size of lambda
    kl_average=0.1,
    kl_clip=2.0,  # in budgets
    lambda_min=0.01,
    lambda_max=100.0,
    lam_scale=3.0,  # lambda_eff = lam_scale * lambda
)


def slow_fast_critic(agent: AbstractAgent) -> dict[str, Any]:
    """The networks of adjoint matching, as `init_params` takes them: the base flow, the fine-tuned one, the critics."""
    flow = agent.flow_network, (agent.spec.observation_dim, agent.spec.chunk_dim, 1)
    critic = agent.critic_network, (agent.spec.observation_dim, agent.spec.chunk_dim)
    return {"actor_slow": flow, "actor_fast": flow, "critic": critic}


def draw_common(agent: AbstractAgent, key: Array, batch_size: int) -> Noise:
    """What the TD target's action and flow matching draw."""
    chunk = batch_size, agent.spec.chunk_dim
    return {
        **normals(key, next_action=(agent.config.best_of_n, *chunk), flow_x0=chunk),
        "flow_t": jax.random.uniform(named(key, "flow_t"), (batch_size, 1)),
    }


def draw_rollout(agent: AbstractAgent, key: Array, batch_size: int) -> Noise:
    """What an SDE rollout draws."""
    chunk = batch_size, agent.spec.chunk_dim
    return normals(key, rollout_x0=chunk, rollout_eps=(agent.config.flow_steps, *chunk))


def td_and_flow_loss(
    agent: AbstractAgent, flow: str, batch: Batch, noise: Noise, next_chunks: Array
) -> Callable[[Params], tuple[Array, Info]]:
    """params -> (TD loss of the critics plus flow matching of the network `flow`, info), which every method minimises.

    next_chunks: (B, D), what the policy would do at the next observations; the averaged critics value it.
    """
    config, critic = agent.config, agent.critic_network
    next_qs = bind(critic, agent.train.targets["critic"], batch.next_observations)(next_chunks)
    td_targets = td_target(batch, pessimistic(next_qs, config.rho), config.discount)

    def loss(params: Params) -> tuple[Array, Info]:
        qs = bind(critic, params["critic"], batch.observations)(batch.chunks)
        critic_loss = td_loss(qs, td_targets, batch.valid)
        velocity = bind(agent.flow_network, params[flow], batch.observations)
        flow_loss = flow_matching_loss(velocity, batch.chunks, noise["flow_x0"], noise["flow_t"], batch.valid)
        return critic_loss + flow_loss, {"critic_loss": critic_loss, "flow_loss": flow_loss, "q_mean": qs.mean()}

    return loss


def flow_chunks(agent: AbstractAgent, flow: str, observations: Array, noise: Array) -> Array:
    """Clipped endpoints of the ODE of the online network `flow` from noise (..., B, D)."""
    velocity = bind(agent.flow_network, agent.train.params[flow], observations)
    return jnp.clip(sample_ode(velocity, noise, agent.config.flow_steps), -1, 1)


def one_step_losses(chunks: Array, flow_chunks: Array, value: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Of a one-step policy (FQL, arXiv 2502.02538): its distance from the flow at the same noise, and minus its value.

    chunks: (B, D), not clipped; flow_chunks: (B, D); value: (B, D) -> (Q, B), of which the mean counts.
    """
    return jnp.mean(jnp.square(chunks - flow_chunks)), -value(jnp.clip(chunks, -1, 1)).mean()


def dual_step(dual: Dual, kl: Array, config: FrozenConfigDict) -> tuple[Dual, Info]:
    """The dual variable's step on this update's path KL, and what to report of it."""
    dual = dual.update(
        kl,
        eta=config.eta,
        average=config.kl_average,
        clip=config.kl_clip,
        low=config.lambda_min,
        high=config.lambda_max,
    )
    return dual, {"lambda": config.lam_scale * dual.lam, "kl_average": dual.kl, "kl_budget": dual.budget}


def to_actions(agent: AbstractAgent, chunks: Array) -> Array:
    """(B, D) -> (B, H, A)."""
    return chunks.reshape(-1, agent.spec.horizon, agent.spec.action_dim)
