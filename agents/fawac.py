"""FAWAC: flow advantage-weighted actor-critic, a baseline of FQL (arXiv 2502.02538); AWAC: arXiv 2006.09359.

The flow matches the data's chunks, each weighted by w = min(exp(inv_temp (mean_k Q_k(s, a) - V(s))), 100), and sees
nothing else of the critics. As in the release of QAM (arXiv 2601.14234): V regresses on every averaged critic at the
data's chunk, so on their mean, without pessimism; the critics' own target is pessimistic, at what the flow does. One
departure from the release: there best_of_n is not read, here it does what it does elsewhere.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.flow import flow_matching_errors
from trqam_jax.networks import Value, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec

#: No chunk weighs more.
LARGEST_WEIGHT = 100.0


class FAWAC(AbstractAgent):
    """FAWAC: flow matching weighted by the exponentiated advantage (arXiv 2502.02538)."""

    family: ClassVar = "weighted regression"
    SETTINGS: ClassVar = {
        "inv_temp": Setting(10.0, "inverse temperature of the advantage, tuned per domain; 0: cloning", low=0.0),
        "clip_norm": shared.NO_CLIP,
    }
    pretrained_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = {
            "actor": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
            "value": (agent.value_network, (spec.observation_dim,)),
        }
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    @property
    def value_network(self) -> Value:
        return Value(self.critic_dims)

    def draw(self, key: Key, batch_size: int) -> Noise:
        return shared.draw_common(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        observations = batch.observations
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td = shared.critic_loss_of(self, batch, next_chunks)
        data_qs = bind(self.critic_network, self.train.targets["critic"], observations)(batch.chunks)
        _, weights = self.advantages_and_weights(batch)

        def loss(params):
            total, info = td(params)
            values = bind(self.value_network, params["value"], observations)()
            value_loss = jnp.mean(batch.valid * jnp.square(data_qs - values))
            velocity = bind(self.flow_network, params["actor"], observations)
            errors = batch.valid * flow_matching_errors(velocity, batch.chunks, noise["flow_x0"], noise["flow_t"])
            actor_loss = jnp.mean(weights * errors)
            info |= {
                "value_loss": value_loss,
                "v_mean": values.mean(),
                "actor_loss": actor_loss,
                "flow_loss": errors.mean(),
                "weight_mean": weights.mean(),
            }
            return total + value_loss + actor_loss, info

        return shared.gradient_step(self, loss)

    def advantages_and_weights(self, batch: Batch) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Of the data's chunks, by the online critics' mean and the online V."""
        online, observations = self.train.params, batch.observations
        qs = bind(self.critic_network, online["critic"], observations)(batch.chunks)
        advantages = qs.mean(0) - bind(self.value_network, online["value"], observations)()
        return advantages, jnp.minimum(jnp.exp(self.config.inv_temp * advantages), LARGEST_WEIGHT)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        candidates = shared.flow_chunks(self, "actor", observations, noise)
        return shared.best_candidate(self, observations, candidates)
