"""What CGQL, CGQL-M and CGQL-L (arXiv 2601.14234) share: a BC flow guided by critics that take a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from agents.shared import NO_CLIP, Loss, draw_common, td_and_flow_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.critic import best_by_mean
from trqam_jax.flow import Field, interpolate
from trqam_jax.guidance import guided_velocity, sample_guided_ode
from trqam_jax.networks import Network, TimedCritic, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import named, normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Params

SETTINGS: dict[str, Setting] = {
    "guidance_coef": Setting(0.1, "weight of the guidance in the flow's ODE", low=0.0),
    "inv_temp": Setting(10.0, "inverse temperature of the critic within the guidance", low=0.0),
    "clip_norm": NO_CLIP,
}
#: Of the two that also learn the values of noised actions.
NOISED_SETTINGS: dict[str, Setting] = SETTINGS | {
    "noisy_coef": Setting(0.1, "weight of the loss on noised actions", low=0.0),
}


def critic_network(agent: AbstractAgent) -> Network:
    """Critics of chunks at a time, which is 1 for clean ones."""
    return TimedCritic(agent.critic_dims, agent.config.num_critics)


def initialise(agent: AbstractAgent, key: Key) -> TrainState:
    """A new flow and new critics, and averages of both."""
    sizes = agent.spec.observation_dim, agent.spec.chunk_dim, 1
    params = init_params(key, {"actor": (agent.flow_network, sizes), "critic": (agent.critic_network, sizes)})
    return TrainState.create(params, ("actor", "critic"), agent.optimizer)


def draw_noised(agent: AbstractAgent, key: Key, batch_size: int) -> Noise:
    """What an update draws that also learns the values of noised actions: their noise and times, and the usual."""
    noised_x0 = normals(key, noised_x0=(batch_size, agent.spec.chunk_dim))
    noised_t = jax.random.uniform(named(key, "noised_t"), (batch_size, 1))
    return draw_common(agent, key, batch_size) | noised_x0 | {"noised_t": noised_t}


def noised_loss(agent: AbstractAgent, batch: Batch, noise: Noise, error: Callable[[Array, Array], Array]) -> Loss:
    """CGQL's loss with noisy_coef x the mean of error(clean, noised) added to it.

    noised: the critics at x_t = (1 - t) noise + t a and time t; clean: the averaged critics at a and time 1, fixed.
    Both are (Q, B), as is their error, to which valid windows alone contribute.
    """
    next_chunks = agent.sample(batch.next_observations, noise["next_action"])
    td_and_flow = td_and_flow_loss(agent, "actor", batch, noise, next_chunks)
    critic = lambda params: bind(agent.critic_network, params, batch.observations)
    clean_qs = critic(agent.train.targets["critic"])(batch.chunks)
    noised = interpolate(noise["noised_x0"], batch.chunks, noise["noised_t"])

    def loss(params: Params) -> tuple[Array, Info]:
        total, info = td_and_flow(params)
        noised_qs = critic(params["critic"])(noised, noise["noised_t"])
        noisy_critic_loss = jnp.mean(batch.valid * error(clean_qs, noised_qs))
        total += agent.config.noisy_coef * noisy_critic_loss
        return total, info | {"noisy_critic_loss": noisy_critic_loss}

    return loss


def guided_chunks(
    agent: AbstractAgent, observations: Float[Array, "B O"], noise: Float[Array, "*n B D"], value: Field
) -> Float[Array, "*n B D"]:
    """Clipped endpoints of the averaged flow's ODE, guided by value(x, t) -> (Q, ...)."""
    config = agent.config
    velocity = bind(agent.flow_network, agent.train.targets["actor"], observations)
    guided = guided_velocity(velocity, value, config.inv_temp, config.guidance_coef)
    return jnp.clip(sample_guided_ode(velocity, guided, noise, config.flow_steps), -1, 1)


def sample_at_flow_time(
    agent: AbstractAgent, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]
) -> Float[Array, "B D"]:
    """The best of n chunks that are guided by the critics at the flow's own time."""
    critic = bind(agent.critic_network, agent.train.params["critic"], observations)
    return best_by_mean(guided_chunks(agent, observations, noise, critic), critic)
