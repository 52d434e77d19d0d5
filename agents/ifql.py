"""IFQL: implicit flow Q-learning, the flow version of IDQL (arXiv 2304.10573), as a baseline of FQL (arXiv 2502.02538).

Implicit Q-learning with an expectile value, and a flow policy that only ever learns by flow matching: acting takes the
best of many of its samples by the critics' minimum; num_samples takes the place of best_of_n, which is not read. As in
the released code (arXiv 2601.14234) the value regresses on the pessimistic ensemble, mean minus rho deviations. One
departure from it: there a mismatch of names keeps the pretrained policy from reaching IFQL's flow, which starts afresh;
here it is loaded.
"""

from typing import ClassVar

import jax
from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig, Derived
from trqam_jax.critic import best_of_n, expectile_loss, pessimistic, td_loss, td_target
from trqam_jax.networks import Value, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class IFQL(AbstractAgent):
    """IFQL: expectile values, and the best of 32 samples of the BC flow (arXiv 2304.10573, 2502.02538)."""

    family: ClassVar = "rejection sampling"
    ignores: ClassVar = ("best_of_n",)
    SETTINGS: ClassVar = {
        "kappa": Setting(0.9, "expectile of the values", low=0.0, high=1.0),
        "num_samples": Setting(32, "samples of the flow of which the best acts", low=1),
        "clip_norm": shared.NO_CLIP,
    }
    DERIVED: ClassVar = AbstractAgent.DERIVED | {"kappa_complement": Derived("kappa", lambda kappa, _: 1 - kappa)}
    pretrained_networks: ClassVar = ("actor_flow",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = {
            "actor_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
            "value": (agent.value_network, (spec.observation_dim,)),
        }
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    @property
    def value_network(self) -> Value:
        return Value(self.critic_dims)

    def draw(self, key: Key, batch_size: int) -> Noise:
        return shared.draw_flow_matching(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        config, online, targets = self.config, self.train.params, self.train.targets
        critic = lambda params: bind(self.critic_network, params, batch.observations)
        value = lambda params, observations: bind(self.value_network, params, observations)()

        next_values = value(online["value"], batch.next_observations)
        td_targets = td_target(batch, next_values, config.bootstrap_discount)
        data_values = pessimistic(critic(targets["critic"])(batch.chunks), config.rho)

        def loss(params):
            qs = critic(params["critic"])(batch.chunks)
            critic_loss = td_loss(qs, td_targets, batch.valid)
            flow_loss = shared.flow_loss_of(self, params["actor_flow"], batch, noise)
            values = value(params["value"], batch.observations)
            value_loss = expectile_loss(data_values - values, config.kappa, config.kappa_complement)
            info = {
                "critic_loss": critic_loss,
                "flow_loss": flow_loss,
                "value_loss": value_loss,
                "q_mean": qs.mean(),
                "v_mean": values.mean(),
            }
            return critic_loss + flow_loss + value_loss, info

        return shared.gradient_step(self, loss)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        """The best, by the minimum over critics, of the clipped chunks that the flow makes of noise."""
        candidates = shared.flow_chunks(self, "actor_flow", observations, noise)
        critic = bind(self.critic_network, self.train.params["critic"], observations)
        return best_of_n(candidates, critic(candidates).min(0))

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        noise = jax.random.normal(key, (self.config.num_samples, len(observations), self.spec.chunk_dim))
        return shared.to_actions(self, self.sample(observations, noise))
