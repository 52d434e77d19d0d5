"""Behaviour cloning of a flow policy by flow matching: the pretrained policy every method starts from."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from trqam_jax.agent import AbstractAgent
from trqam_jax.flow import flow_matching_loss, sample_ode
from trqam_jax.networks import bind, init_params
from trqam_jax.streams import named
from trqam_jax.train_state import TrainState


class BC(AbstractAgent):
    """Flow matching alone, with Adam and a joint clip at 1; the last weights are the policy (nothing is averaged)."""

    DEFAULTS: ClassVar = {}
    cloned_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec)
        params = init_params(key, {"actor": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1))})
        return agent.replace(train=TrainState.create(params, (), agent.optimizer))

    def draw(self, key, batch_size):
        return {
            "flow_x0": jax.random.normal(named(key, "flow_x0"), (batch_size, self.spec.chunk_dim)),
            "flow_t": jax.random.uniform(named(key, "flow_t"), (batch_size, 1)),
        }

    def step(self, batch, noise):
        def loss(params):
            velocity = bind(self.flow_network, params["actor"], batch.observations)
            return flow_matching_loss(velocity, batch.chunks, noise["flow_x0"], noise["flow_t"], batch.valid)

        flow_loss, grads = jax.value_and_grad(loss)(self.train.params)
        train = self.train.apply_gradients(grads, self.optimizer, tau=0.0)
        return self.replace(train=train), {"flow_loss": flow_loss, "grad_norm": optax.global_norm(grads)}

    def act(self, observations, key):
        velocity = bind(self.flow_network, self.train.params["actor"], observations)
        x0 = jax.random.normal(key, (len(observations), self.spec.chunk_dim))
        chunks = jnp.clip(sample_ode(velocity, x0, self.config.flow_steps), -1, 1)
        return chunks.reshape(-1, self.spec.horizon, self.spec.action_dim)
