"""CGQL-M: CGQL whose critics learn the values of noised actions by regression (arXiv 2601.14234).

On x_t = (1 - t) noise + t a the critics at time t regress on their averages at (a, 1): Q(s, x, t) tends to
E[Q(s, a) | x_t = x] over the data. Guidance asks at the flow's time.
"""

from typing import ClassVar

import jax.numpy as jnp

from agents.cgql import draw_noised, guided_chunks, step_with_noised, with_fresh_networks
from agents.shared import draw_common
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.networks import TimedCritic, bind


class CGQLMSE(AbstractAgent):
    """CGQL-M: CGQL whose critics also learn the mean value of noised actions (arXiv 2601.14234)."""

    DEFAULTS: ClassVar = dict(
        guidance_coef=0.1,
        inv_temp=10.0,  # of the critic within the guidance
        noisy_coef=0.1,  # weight of the noised actions' loss
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
        return draw_common(self, key, batch_size) | draw_noised(self, key, batch_size)

    def step(self, batch, noise):
        return step_with_noised(self, batch, noise, lambda clean, noised: jnp.square(noised - clean))

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        critic = bind(self.critic_network, self.train.params["critic"], observations)
        return best_by_mean(guided_chunks(self, observations, noise, critic), critic)
