"""CGQL-L: CGQL whose critics learn the tilted values of noised actions by the Linex loss (arXiv 2601.14234).

On x_t = (1 - t) noise + t a the critics at time t descend exp(d) - d, d = inv_temp (Q'(s, a, 1) - Q(s, x_t, t)), with
their averages Q'. The minimiser log E[exp(inv_temp Q'(s, a, 1)) | x_t] / inv_temp is the value whose gradient guides
the flow to the tilted policy. Guidance asks at the flow's time. As released, where d > linex_clip the loss is d alone,
with a jump.
"""

from typing import ClassVar

from agents.cgql import draw_noised, guided_chunks, step_with_noised, with_fresh_networks
from agents.shared import draw_common
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_by_mean
from trqam_jax.guidance import linex_loss
from trqam_jax.networks import TimedCritic, bind


class CGQLLinex(AbstractAgent):
    """CGQL-L: CGQL whose critics also learn the tilted value of noised actions (arXiv 2601.14234)."""

    DEFAULTS: ClassVar = dict(
        guidance_coef=0.1,
        inv_temp=10.0,  # of the critic within the guidance and the loss
        noisy_coef=0.1,  # weight of the noised actions' loss
        linex_clip=5.0,
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
        inv_temp, clip = self.config.inv_temp, self.config.linex_clip
        return step_with_noised(self, batch, noise, lambda clean, noised: linex_loss(clean, noised, inv_temp, clip))

    def sample(self, observations, noise):
        """The policy's chunks, clipped, from noise (n, B, D): the best of n by the critics' mean; (B, D)."""
        critic = bind(self.critic_network, self.train.params["critic"], observations)
        return best_by_mean(guided_chunks(self, observations, noise, critic), critic)
