"""What the methods with an edit policy share: QAM-E (arXiv 2601.14234) and FEdit (arXiv 2507.07986).

A tanh-Gaussian policy pi(e | s, a) sees a flow's clipped chunk and corrects it: the action is clip(a + edit_scale * e).
It ascends the critics' mean with an entropy bonus on the unscaled edit, whose temperature is tuned to the target
entropy -target_entropy_multiplier * D. The flow learns nothing from the edits.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.entropy import tanh_sample, temperature_loss
from trqam_jax.networks import TanhGaussian, bind, init_params
from trqam_jax.streams import named, normals
from trqam_jax.types import Array, Key, Params

#: What such a method derives from its settings.
DERIVED = AbstractAgent.DERIVED | {"target_entropy": shared.TARGET_ENTROPY}


def edit_network(agent: AbstractAgent) -> TanhGaussian:
    """The edit policy's network, of the configured size."""
    return TanhGaussian(agent.actor_dims, agent.spec.chunk_dim)


def initialise(agent: AbstractAgent, key: Key, networks: dict[str, Any]) -> dict[str, Params]:
    """Fresh parameters of these networks, as `init_params` takes them, of the edit policy and of its temperature."""
    edit_actor = edit_network(agent), (agent.spec.observation_dim, agent.spec.chunk_dim)
    params = init_params(key, {**networks, "edit_actor": edit_actor})
    return params | {"edit_alpha": {"log_value": jnp.zeros(())}}


def draw(agent: AbstractAgent, key: Key, batch_size: int) -> Noise:
    """What edits of the TD target's actions (n, B, D) and `edit_loss` (B, D) draw."""
    chunk = batch_size, agent.spec.chunk_dim
    return normals(key, next_edit=(agent.config.best_of_n, *chunk), edit_x0=chunk, edit=chunk)


def edit(
    agent: AbstractAgent,
    params: Params,
    observations: Float[Array, "B O"],
    chunks: Float[Array, "*n B D"],
    eps: Float[Array, "*n B D"],
) -> tuple[Float[Array, "*n B D"], Float[Array, "*n B"]]:
    """Edited chunks, clipped, and the log density of the unscaled edits. eps: standard normal."""
    mean, log_std = bind(edit_network(agent), params, observations)(chunks)
    edits, log_prob = tanh_sample(mean, log_std, eps)
    return jnp.clip(chunks + agent.config.edit_scale * edits, -1, 1), log_prob


def edit_loss(
    agent: AbstractAgent, flow: str, params: Params, observations: Float[Array, "B O"], noise: Noise
) -> tuple[Float[Array, ""], Info]:
    """-mean Q + alpha mean log pi, and the temperature's own loss; flow, critics and alpha are fixed."""
    online = agent.train.params
    chunks = shared.flow_chunks(agent, flow, observations, noise["edit_x0"])
    edited, log_prob = edit(agent, params["edit_actor"], observations, chunks, noise["edit"])
    q_loss = -bind(agent.critic_network, online["critic"], observations)(edited).mean()
    alpha = jnp.exp(online["edit_alpha"]["log_value"])
    entropy_loss = alpha * log_prob.mean()
    alpha_loss = temperature_loss(params["edit_alpha"]["log_value"], log_prob, agent.config.target_entropy)
    info = {
        "edit_q_loss": q_loss,
        "edit_entropy_loss": entropy_loss,
        "edit_alpha_loss": alpha_loss,
        "edit_alpha": alpha,
        "edit_entropy": -log_prob.mean(),
    }
    return q_loss + entropy_loss + alpha_loss, info


def sample(
    agent: AbstractAgent,
    flow: str,
    observations: Float[Array, "B O"],
    noise: Float[Array, "n B D"],
    eps: Float[Array, "n B D"] | None,
) -> Float[Array, "B D"]:
    """The flow's chunks from noise, edited with eps: the best of n edited ones. None: the flow's own."""
    candidates = shared.flow_chunks(agent, flow, observations, noise)
    if eps is not None:
        candidates, _ = edit(agent, agent.train.params["edit_actor"], observations, candidates, eps)
    return shared.best_candidate(agent, observations, candidates)


def draw_acting(
    agent: AbstractAgent, observations: Float[Array, "B O"], key: Key
) -> tuple[Float[Array, "n B D"], Float[Array, "n B D"]]:
    """What acting draws: the flow's noise, and the edits'."""
    candidates = agent.config.best_of_n, len(observations), agent.spec.chunk_dim
    return jax.random.normal(key, candidates), jax.random.normal(named(key, "edit"), candidates)
