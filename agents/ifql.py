"""IFQL: implicit flow Q-learning, the flow version of IDQL (arXiv 2304.10573), as a baseline of FQL (arXiv 2502.02538).

Implicit Q-learning with an expectile value, and a flow policy that is only ever cloned: acting takes the best of many
of its samples by the critics' minimum; num_samples takes the place of best_of_n, which is not read. As in the released
code (arXiv 2601.14234) the value regresses on the pessimistic ensemble, mean minus rho deviations. One departure from
it: there a mismatch of names keeps the cloned policy from reaching IFQL's flow, which starts afresh; here it is loaded.
"""

from typing import ClassVar

import jax
import optax

from agents.shared import flow_chunks, to_actions
from trqam_jax.agent import AbstractAgent
from trqam_jax.critic import best_of_n, expectile_loss, pessimistic, td_loss, td_target
from trqam_jax.flow import flow_matching_loss
from trqam_jax.networks import Value, bind, init_params
from trqam_jax.streams import named, normals
from trqam_jax.train_state import TrainState


class IFQL(AbstractAgent):
    """IFQL: expectile values, and the best of 32 samples of the cloned flow (arXiv 2304.10573, 2502.02538)."""

    DEFAULTS: ClassVar = dict(
        kappa=0.9,  # expectile
        num_samples=32,
        clip_norm=None,
    )
    cloned_networks: ClassVar = ("actor_flow",)

    @classmethod
    def create(cls, key, spec, config):
        agent = cls(train=None, config=config, spec=spec)
        networks = {
            "actor_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
            "value": (agent.value_network, (spec.observation_dim,)),
        }
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    @property
    def value_network(self):
        return Value(self.config.hidden_dims)

    def draw(self, key, batch_size):
        flow_x0 = normals(key, flow_x0=(batch_size, self.spec.chunk_dim))
        return flow_x0 | {"flow_t": jax.random.uniform(named(key, "flow_t"), (batch_size, 1))}

    def step(self, batch, noise):
        config, online, targets = self.config, self.train.params, self.train.targets
        critic = lambda params: bind(self.critic_network, params, batch.observations)
        value = lambda params, observations: bind(self.value_network, params, observations)()

        next_values = value(online["value"], batch.next_observations)
        td_targets = td_target(batch, next_values, config.discount)
        data_values = pessimistic(critic(targets["critic"])(batch.chunks), config.rho)

        def loss(params):
            qs = critic(params["critic"])(batch.chunks)
            critic_loss = td_loss(qs, td_targets, batch.valid)
            velocity = bind(self.flow_network, params["actor_flow"], batch.observations)
            flow_loss = flow_matching_loss(velocity, batch.chunks, noise["flow_x0"], noise["flow_t"], batch.valid)
            values = value(params["value"], batch.observations)
            value_loss = expectile_loss(data_values - values, config.kappa)
            info = {
                "critic_loss": critic_loss,
                "flow_loss": flow_loss,
                "value_loss": value_loss,
                "q_mean": qs.mean(),
                "v_mean": values.mean(),
            }
            return critic_loss + flow_loss + value_loss, info

        grads, info = jax.grad(loss, has_aux=True)(online)
        info |= {"grad_norm": optax.global_norm(grads)}
        return self.replace(train=self.train.apply_gradients(grads, self.optimizer, config.tau)), info

    def sample(self, observations, noise):
        """The best chunk, by the minimum over critics, of those that the flow makes of noise (n, B, D); (B, D)."""
        candidates = flow_chunks(self, "actor_flow", observations, noise)
        critic = bind(self.critic_network, self.train.params["critic"], observations)
        return best_of_n(candidates, critic(candidates).min(0))

    def act(self, observations, key):
        noise = jax.random.normal(key, (self.config.num_samples, len(observations), self.spec.chunk_dim))
        return to_actions(self, self.sample(observations, noise))
