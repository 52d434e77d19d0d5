"""ReBRAC: TD3+BC revisited (arXiv 2305.09836), on action chunks.

A deterministic policy ascends the critics, with a penalty for its distance from the data; noise is added to what it
does. As the QAM release (arXiv 2601.14234) computes it, with its oddities:

- actor_freq is meant to delay the policy, but its loss and its step come at every update; only the averages wait, and
  move at updates whose number is a multiple of actor_freq;
- evaluations act with the noise, too.

Unlike the paper: no penalty in the critics' target, chunks, and an ensemble of critics whose pessimistic value, the
mean minus rho deviations, is in the target and in the policy's loss.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.critic import pessimistic
from trqam_jax.networks import Deterministic, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Params, Scalar, Spec


class ReBRAC(AbstractAgent):
    """ReBRAC: a deterministic policy that ascends the critic and stays near the data (arXiv 2305.09836)."""

    #: The number of the present update, as `at_step` has it; 0, at which averages move, where nobody told it.
    number: Int[Array, ""]

    family: ClassVar = "Gaussian"
    ignores: ClassVar = ("flow_steps", "best_of_n")
    SETTINGS: ClassVar = {
        "alpha_actor": Setting(0.01, "weight of the distance from the data, tuned per domain; 0: none", low=0.0),
        "actor_noise": Setting(0.2, "standard deviation of the noise on actions, tuned per domain", low=0.0),
        "actor_noise_clip": Setting(0.5, "bound of that noise", low=0.0),
        "actor_freq": Setting(2, "averages move at every such update", low=1),
        "clip_norm": shared.NO_CLIP,
    }

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks: dict[str, Any] = {
            "actor": (agent.actor_network, (spec.observation_dim,)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
        }
        train = TrainState.create(init_params(key, networks), ("actor", "critic"), agent.optimizer)
        return agent.replace(train=train, number=jnp.zeros((), jnp.int32))

    @property
    def actor_network(self) -> Deterministic:
        return Deterministic(self.actor_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    def at_step(self, step: Int[Array, ""]) -> AbstractAgent:
        return self.replace(number=jnp.asarray(step, jnp.int32))

    def averaging(self) -> dict[str, Scalar]:
        tau = jnp.where(self.number % self.config.actor_freq == 0, self.config.tau, 0.0)
        return dict.fromkeys(self.train.targets, tau)

    def draw(self, key: Key, batch_size: int) -> Noise:
        return normals(key, next_action=(1, batch_size, self.spec.chunk_dim))

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        config, train = self.config, self.train
        next_chunks = self.noisy_chunks(train.targets["actor"], batch.next_observations, noise["next_action"][0])
        td = shared.critic_loss_of(self, batch, next_chunks)
        critic = bind(self.critic_network, train.params["critic"], batch.observations)

        def loss(params: Params) -> tuple[Array, Info]:
            critic_loss, info = td(params)
            chunks = self.mode(params["actor"], batch.observations)
            values = pessimistic(critic(chunks), config.rho)
            actor_loss = -values.mean() / jax.lax.stop_gradient(jnp.abs(values).mean())
            mse = jnp.mean(batch.valid * jnp.square(chunks - batch.chunks).sum(-1))
            info |= {"actor_loss": actor_loss, "mse": mse}
            return critic_loss + actor_loss + config.alpha_actor * mse, info

        return shared.gradient_step(self, loss)

    def mode(self, params: Params, observations: Float[Array, "B O"]) -> Float[Array, "B D"]:
        """What the policy with these parameters does without noise."""
        return bind(self.actor_network, params, observations)()

    def noisy_chunks(
        self, params: Params, observations: Float[Array, "B O"], eps: Float[Array, "B D"]
    ) -> Float[Array, "B D"]:
        """What it does with noise, in [-1, 1]. eps: standard normal."""
        bound = self.config.actor_noise_clip
        noise = jnp.clip(self.config.actor_noise * eps, -bound, bound)
        return jnp.clip(self.mode(params, observations) + noise, -1, 1)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        eps = jax.random.normal(key, (len(observations), self.spec.chunk_dim))
        return shared.to_actions(self, self.noisy_chunks(self.train.params["actor"], observations, eps))
