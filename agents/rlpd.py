"""RLPD: soft actor-critic with prior data (arXiv 2302.02948), on action chunks.

A tanh-Gaussian policy ascends a pessimistic critic with an entropy bonus, whose temperature is tuned to the target
entropy -target_entropy_multiplier * D. It is trained online alone, from fresh weights; half of every minibatch is prior
data. As in the release of QAM (arXiv 2601.14234), and unlike the paper: chunks instead of actions; the ensemble's mean
minus rho standard deviations, in the target and for the policy, instead of the minimum of a random pair; one update per
environment step; and optionally a log-likelihood of the data's chunks.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.critic import pessimistic
from trqam_jax.entropy import tanh_log_prob, tanh_sample, temperature_loss
from trqam_jax.networks import TanhGaussian, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Params, Spec

INSIDE = 1 - 1e-5  # actions of the data are moved this far inside, where a tanh-Gaussian has a density


class RLPD(AbstractAgent):
    """RLPD: soft actor-critic with prior data, online only (arXiv 2302.02948)."""

    family: ClassVar = "Gaussian"
    ignores: ClassVar = ("actor_layer_norm", "flow_steps", "best_of_n")
    online_only: ClassVar = True
    SETTINGS: ClassVar = {
        "bc_alpha": Setting(0.0, "weight of the log-likelihood of the data's chunks", low=0.0),
        "target_entropy_multiplier": shared.ENTROPY_MULTIPLIER,
        "clip_norm": shared.NO_CLIP,
    }
    DERIVED: ClassVar = AbstractAgent.DERIVED | {"target_entropy": shared.TARGET_ENTROPY}

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = {
            "actor": (agent.actor_network, (spec.observation_dim,)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
        }
        params = init_params(key, networks) | {"alpha": {"log_value": jnp.zeros(())}}
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    @property
    def actor_network(self) -> TanhGaussian:
        return TanhGaussian(self.actor_dims, self.spec.chunk_dim)

    def draw(self, key: Key, batch_size: int) -> Noise:
        chunk = batch_size, self.spec.chunk_dim
        return normals(key, next_action=(1, *chunk), action=chunk)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td = shared.critic_loss_of(self, batch, next_chunks)

        def loss(params):
            critic_loss, info = td(params)
            policy_loss, policy_info = self.policy_loss(params, batch, noise["action"])
            return critic_loss + policy_loss, info | policy_info

        return shared.gradient_step(self, loss)

    def policy_loss(self, params: Params, batch: Batch, eps: Float[Array, "B D"]) -> tuple[Float[Array, ""], Info]:
        """alpha log pi - Q of fresh chunks, the temperature's own loss, and cloning; critics and alpha are fixed."""
        config, online = self.config, self.train.params
        heads = self.heads(params, batch.observations)
        chunks, log_prob = tanh_sample(*heads, eps)
        qs = bind(self.critic_network, online["critic"], batch.observations)(chunks)
        q = pessimistic(qs, config.rho)
        alpha = jnp.exp(online["alpha"]["log_value"])
        actor_loss = jnp.mean(alpha * log_prob - q)
        alpha_loss = temperature_loss(params["alpha"]["log_value"], log_prob, config.target_entropy)
        data_log_prob = tanh_log_prob(*heads, jnp.clip(batch.chunks, -INSIDE, INSIDE))
        bc_loss = -config.bc_alpha * jnp.mean(batch.valid * data_log_prob)
        info = {
            "actor_loss": actor_loss,
            "alpha_loss": alpha_loss,
            "bc_loss": bc_loss,
            "alpha": alpha,
            "entropy": -log_prob.mean(),
            "policy_q": q.mean(),
        }
        return actor_loss + alpha_loss + bc_loss, info

    def heads(
        self, params: Params, observations: Float[Array, "*n O"]
    ) -> tuple[Float[Array, "*n D"], Float[Array, "*n D"]]:
        """Mean and log standard deviation of the Gaussian before its tanh."""
        return bind(self.actor_network, params["actor"], observations)()

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "1 B D"]) -> Float[Array, "B D"]:
        """A chunk of the policy, in evaluations, too; best_of_n is not used."""
        chunks, _ = tanh_sample(*self.heads(self.train.params, observations), noise[0])
        return chunks

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        noise = jax.random.normal(key, (1, len(observations), self.spec.chunk_dim))
        return shared.to_actions(self, self.sample(observations, noise))
