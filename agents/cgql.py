"""CGQL: classifier-guided Q-learning, a baseline of QAM (arXiv 2601.14234).

The flow is only ever cloned; at every step of its ODE but the first the critic's gradient is added as classifier
guidance, weighted by guidance_coef. As released: critics take a time, which is 1 for clean actions, and plain CGQL asks
at time 1 about the points on the way too (CGQL-M and CGQL-L, in cgql_mse.py and cgql_linex.py, teach the critics the
values of noised actions instead); acting and targets guide the flow's Polyak average by the online critics; the points
are clipped only at the end.
"""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from agents.shared import draw_common, td_and_flow_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.critic import best_by_mean
from trqam_jax.flow import interpolate
from trqam_jax.guidance import guided_velocity, sample_guided_ode
from trqam_jax.networks import TimedCritic, bind, init_params
from trqam_jax.streams import named, normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Params


class CGQL(AbstractAgent):
    """CGQL: a cloned flow whose ODE is guided by the critic's gradient (arXiv 2601.14234)."""

    DEFAULTS: ClassVar = dict(
        guidance_coef=0.1,
        inv_temp=10.0,  # of the critic within the guidance
        clip_norm=None,
    )
    cloned_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key, spec, config):
        return with_fresh_networks(cls(train=None, config=config, spec=spec), key)

    @property
    def critic_network(self):
        return TimedCritic(self.config.hidden_dims, self.config.num_critics)

    def draw(self, key, batch_size):
        return draw_common(self, key, batch_size)

    def step(self, batch, noise):
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        loss = td_and_flow_loss(self, "actor", batch, noise, next_chunks)
        grads, info = jax.grad(loss, has_aux=True)(self.train.params)
        info |= {"grad_norm": optax.global_norm(grads)}
        return self.replace(train=self.train.apply_gradients(grads, self.optimizer, self.config.tau)), info

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        critic = bind(self.critic_network, self.train.params["critic"], observations)
        return best_by_mean(guided_chunks(self, observations, noise, lambda x, t: critic(x)), critic)


def with_fresh_networks(agent: AbstractAgent, key: Array) -> AbstractAgent:
    """The agent with a new flow and new critics, and averages of both."""
    sizes = agent.spec.observation_dim, agent.spec.chunk_dim, 1
    params = init_params(key, {"actor": (agent.flow_network, sizes), "critic": (agent.critic_network, sizes)})
    return agent.replace(train=TrainState.create(params, ("actor", "critic"), agent.optimizer))


def draw_noised(agent: AbstractAgent, key: Array, batch_size: int) -> Noise:
    """The noise and times of the noised actions whose values CGQL-M and CGQL-L learn."""
    noised_x0 = normals(key, noised_x0=(batch_size, agent.spec.chunk_dim))
    return noised_x0 | {"noised_t": jax.random.uniform(named(key, "noised_t"), (batch_size, 1))}


def step_with_noised(
    agent: AbstractAgent, batch: Batch, noise: Noise, error: Callable[[Array, Array], Array]
) -> tuple[AbstractAgent, Info]:
    """CGQL's step with noisy_coef x the mean of error(clean, noised) added to its loss.

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

    grads, info = jax.grad(loss, has_aux=True)(agent.train.params)
    info |= {"grad_norm": optax.global_norm(grads)}
    return agent.replace(train=agent.train.apply_gradients(grads, agent.optimizer, agent.config.tau)), info


def guided_chunks(
    agent: AbstractAgent, observations: Array, noise: Array, value: Callable[[Array, Array], Array]
) -> Array:
    """Clipped endpoints of the averaged flow's ODE from noise (..., B, D), guided by value(x, t) -> (Q, ...)."""
    config = agent.config
    velocity = bind(agent.flow_network, agent.train.targets["actor"], observations)
    guided = guided_velocity(velocity, value, config.inv_temp, config.guidance_coef)
    return jnp.clip(sample_guided_ode(velocity, guided, noise, config.flow_steps), -1, 1)
