"""DSRL: Diffusion Steering via Reinforcement Learning (arXiv 2506.15799), its noise-aliased variant, on a flow policy.

Soft actor-critic in the flow's noise space: the flow stays as it is, and a tanh-Gaussian policy chooses the noise that
it starts from. The critic Q(s, a) learns from actions; a second one, Q_z(s, z), is distilled from Q(s, flow(s, z)), so
that the latent policy needs no gradient through the flow. Departures of the released code (arXiv 2601.14234) from the
paper, kept here: the flow goes on learning by flow matching and its Polyak average plays the frozen flow's part; the
critic is an ensemble with a pessimistic target that has no entropy term; the latent policy ascends the ensemble's mean.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.entropy import tanh_sample, temperature_loss
from trqam_jax.flow import sample_ode, sample_ode_at_both
from trqam_jax.networks import TanhGaussian, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class DSRL(AbstractAgent):
    """DSRL: soft actor-critic over the noise that a BC flow starts from (arXiv 2506.15799)."""

    family: ClassVar = "noise space"
    SETTINGS: ClassVar = {
        "noise_scale": Setting(1.0, "the flow starts from noise_scale * tanh sample", low=0.0),
        "target_entropy_multiplier": shared.ENTROPY_MULTIPLIER,
        "clip_norm": shared.NO_CLIP,
    }
    DERIVED: ClassVar = AbstractAgent.DERIVED | {"target_entropy": shared.TARGET_ENTROPY}
    pretrained_networks: ClassVar = ("actor_bc_flow",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        critic = agent.critic_network, (spec.observation_dim, spec.chunk_dim)
        networks = {
            "actor_bc_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "actor": (agent.latent_network, (spec.observation_dim,)),
            "critic": critic,
            "z_critic": critic,
        }
        params = init_params(key, networks) | {"alpha": {"log_value": jnp.zeros(())}}
        return agent.replace(train=TrainState.create(params, ("actor_bc_flow", "critic"), agent.optimizer))

    @property
    def latent_network(self) -> TanhGaussian:
        return TanhGaussian(self.actor_dims, self.spec.chunk_dim)

    def draw(self, key: Key, batch_size: int) -> Noise:
        chunk = batch_size, self.spec.chunk_dim
        return shared.draw_common(self, key, batch_size) | normals(key, distill_z=chunk, latent=chunk)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        config, online, observations = self.config, self.train.params, batch.observations
        critic = lambda params: bind(self.critic_network, params, observations)

        candidates, distilled = self.decode_both(batch, noise)
        next_chunks = shared.best_candidate(self, batch.next_observations, candidates)
        td_and_flow = shared.td_and_flow_loss(self, "actor_bc_flow", batch, noise, next_chunks)
        # What Q_z learns, critic by critic: the online critics at the flow's chunks.
        flow_qs = critic(online["critic"])(distilled)
        alpha = jnp.exp(online["alpha"]["log_value"])

        def loss(params):
            total, info = td_and_flow(params)
            distill_loss = jnp.mean(jnp.square(critic(params["z_critic"])(noise["distill_z"]) - flow_qs))

            mean, log_std = bind(self.latent_network, params["actor"], observations)()
            latent, log_prob = tanh_sample(mean, log_std, noise["latent"])
            z_qs = critic(online["z_critic"])(config.noise_scale * latent)
            actor_loss = alpha * log_prob.mean() - z_qs.mean()
            alpha_loss = temperature_loss(params["alpha"]["log_value"], log_prob, config.target_entropy)
            info |= {
                "distill_loss": distill_loss,
                "actor_loss": actor_loss,
                "alpha_loss": alpha_loss,
                "alpha": alpha,
                "entropy": -log_prob.mean(),
            }
            return total + distill_loss + actor_loss + alpha_loss, info

        return shared.gradient_step(self, loss)

    def decode(self, observations: Float[Array, "B O"], z: Float[Array, "*n B D"]) -> Float[Array, "*n B D"]:
        """Clipped chunks of the averaged flow from noise z."""
        velocity = bind(self.flow_network, self.train.targets["actor_bc_flow"], observations)
        return jnp.clip(sample_ode(velocity, z, self.config.flow_steps), -1, 1)

    def decode_both(self, batch: Batch, noise: Noise) -> tuple[Float[Array, "n B D"], Float[Array, "B D"]]:
        """Clipped chunks of the policy's latents at the next observations, and of the noise that Q_z learns from."""
        flow = lambda observations: bind(self.flow_network, self.train.targets["actor_bc_flow"], observations)
        latents = self.latents(batch.next_observations, noise["next_action"])
        first, second = (batch.next_observations, latents), (batch.observations, noise["distill_z"])
        ends, distilled = sample_ode_at_both(flow, first, second, self.config.flow_steps)
        return jnp.clip(ends, -1, 1), jnp.clip(distilled, -1, 1)

    def latents(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "n B D"]:
        """The noise from which the policy has the flow start."""
        mean, log_std = bind(self.latent_network, self.train.params["actor"], observations)()
        latents, _ = tanh_sample(mean, log_std, noise)
        return self.config.noise_scale * latents

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        candidates = self.decode(observations, self.latents(observations, noise))
        return shared.best_candidate(self, observations, candidates)
