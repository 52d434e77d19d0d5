"""What several algorithms are made of, as plain functions: each algorithm's own file keeps what is its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import Derived
from trqam_jax.critic import best_by_mean, pessimistic, td_loss, td_target
from trqam_jax.flow import flow_matching_loss, sample_ode
from trqam_jax.networks import bind
from trqam_jax.settings import Setting
from trqam_jax.streams import named, normals
from trqam_jax.train_state import global_norm
from trqam_jax.types import Array, Batch, Key, Params

#: A loss that `gradient_step` descends: parameters of all networks -> (loss, what to report).
Loss = Callable[[Params], tuple[Array, Info]]

#: `clip_norm` of the methods that were published without a clip.
NO_CLIP = Setting(None, "bound of the gradients' joint norm; None: no clip", low=0.0, optional=True, type=float)
#: The target entropy of a tanh-Gaussian policy is this many nats per dimension of a chunk, negated.
ENTROPY_MULTIPLIER = Setting(0.5, "the policy's target entropy is minus this, in nats per dimension of a chunk")
TARGET_ENTROPY = Derived("target_entropy_multiplier", lambda multiplier, spec: -multiplier * spec.chunk_dim)


def gradient_step(agent: AbstractAgent, loss: Loss) -> tuple[Any, Info]:
    """One step of the agent's optimiser down `loss`, and of its averages: (the agent, info with grad_norm)."""
    grads, info = jax.grad(loss, has_aux=True)(agent.train.params)
    train = agent.train.apply_gradients(grads, agent.optimizer, agent.averaging())
    return agent.replace(train=train), info | {"grad_norm": global_norm(grads)}


def draw_common(agent: AbstractAgent, key: Key, batch_size: int) -> Noise:
    """What the TD target's action and flow matching draw."""
    chunk = batch_size, agent.spec.chunk_dim
    next_action = normals(key, next_action=(agent.config.best_of_n, *chunk))
    return next_action | draw_flow_matching(agent, key, batch_size)


def draw_flow_matching(agent: AbstractAgent, key: Key, batch_size: int) -> Noise:
    """Noise (B, D) and times (B, 1) of flow matching."""
    flow_x0 = normals(key, flow_x0=(batch_size, agent.spec.chunk_dim))
    return flow_x0 | {"flow_t": jax.random.uniform(named(key, "flow_t"), (batch_size, 1))}


def flow_loss_of(agent: AbstractAgent, params: Params, batch: Batch, noise: Noise) -> Float[Array, ""]:
    """Flow matching of a flow with these parameters to the batch's chunks."""
    velocity = bind(agent.flow_network, params, batch.observations)
    return flow_matching_loss(velocity, batch.chunks, noise["flow_x0"], noise["flow_t"], batch.valid)


def critic_loss_of(agent: AbstractAgent, batch: Batch, next_chunks: Float[Array, "B D"]) -> Loss:
    """TD loss of the critics.

    next_chunks: what the policy would do at the next observations; the averaged critics value it.
    """
    config, critic = agent.config, agent.critic_network
    next_qs = bind(critic, agent.train.targets["critic"], batch.next_observations)(next_chunks)
    td_targets = td_target(batch, pessimistic(next_qs, config.rho), config.bootstrap_discount)

    def loss(params: Params) -> tuple[Array, Info]:
        qs = bind(critic, params["critic"], batch.observations)(batch.chunks)
        critic_loss = td_loss(qs, td_targets, batch.valid)
        return critic_loss, {"critic_loss": critic_loss, "q_mean": qs.mean()}

    return loss


def td_and_flow_loss(
    agent: AbstractAgent, flow: str, batch: Batch, noise: Noise, next_chunks: Float[Array, "B D"]
) -> Loss:
    """TD loss of the critics plus flow matching of the network `flow`, which most methods minimise."""
    td = critic_loss_of(agent, batch, next_chunks)

    def loss(params: Params) -> tuple[Array, Info]:
        critic_loss, info = td(params)
        flow_loss = flow_loss_of(agent, params[flow], batch, noise)
        return critic_loss + flow_loss, {**info, "flow_loss": flow_loss}

    return loss


def flow_chunks(
    agent: AbstractAgent, flow: str, observations: Float[Array, "B O"], noise: Float[Array, "*n B D"]
) -> Float[Array, "*n B D"]:
    """Clipped endpoints of the ODE of the online network `flow`."""
    return ode_chunks(agent, agent.train.params[flow], observations, noise)


def ode_chunks(
    agent: AbstractAgent, params: Params, observations: Float[Array, "B O"], noise: Float[Array, "*n B D"]
) -> Float[Array, "*n B D"]:
    """Clipped endpoints of the ODE of a flow with these parameters."""
    velocity = bind(agent.flow_network, params, observations)
    return jnp.clip(sample_ode(velocity, noise, agent.config.flow_steps), -1, 1)


def best_candidate(
    agent: AbstractAgent, observations: Float[Array, "B O"], candidates: Float[Array, "n B D"]
) -> Float[Array, "B D"]:
    """The candidate of the highest mean of the online critics."""
    return best_by_mean(candidates, bind(agent.critic_network, agent.train.params["critic"], observations))


def one_step_losses(
    chunks: Float[Array, "B D"], flow_chunks: Float[Array, "B D"], value: Callable[[Array], Array]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Of a one-step policy (FQL, arXiv 2502.02538): its distance from the flow at the same noise, and minus its value.

    chunks: not clipped; value: (B, D) -> (Q, B), of which the mean counts.
    """
    return jnp.mean(jnp.square(chunks - flow_chunks)), -value(jnp.clip(chunks, -1, 1)).mean()


def to_actions(agent: AbstractAgent, chunks: Float[Array, "B D"]) -> Float[Array, "B H A"]:
    """Chunks as sequences of actions."""
    return chunks.reshape(-1, agent.spec.horizon, agent.spec.action_dim)
