"""RQL: Reversal Q-Learning (arXiv 2606.17551).

The critics Q(s, x, f) value a partly generated chunk x at flow time f: f = 1 is a finished action, f = 0 pure noise.
Data give finished chunks only; each is carried back along the current flow to some f, and Q there learns the same
return over H steps, bootstrapped at fresh noise and time 0. The flow learns by flow matching, and raises Q after one
Euler step, through that step alone: no backpropagation through time, no second policy, no candidates.

As in its released code. The windows are its own (`Windows.EPISODES`); the published runs have no online phase, and
in this suite's the windows are those of the other methods. A policy is evaluated by the flow's average, and collects
data by the flow itself.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

from agents import guided, shared
from trqam_jax import loops
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig, Derived
from trqam_jax.critic import pessimistic, td_target
from trqam_jax.flow import Field, interpolate, sample_ode
from trqam_jax.networks import Network, bind
from trqam_jax.settings import Setting
from trqam_jax.streams import named, normals
from trqam_jax.types import Array, Batch, Key, Params, Scalar, Spec, Windows


class RQL(AbstractAgent):
    """RQL: critics of partly generated actions, learned by reversing the flow (arXiv 2606.17551)."""

    family: ClassVar = "flow-time critics"
    ignores: ClassVar = ("best_of_n",)
    SETTINGS: ClassVar = {
        "alpha": Setting(1.0, "weight of flow matching, tuned per domain", low=0.0),
        "expectile": Setting(0.5, "expectile of the critics' loss, tuned per domain", low=0.0, high=1.0),
        "actor_decay": Setting(0.999, "decay of the flow's average, by which it is evaluated", low=0.0, high=1.0),
        "windows": Setting(
            "episodes",
            "episodes: offline minibatches as RQL's code draws them; rows: those of all other methods",
            choices=tuple(kind.value for kind in Windows),
        ),
        "clip_norm": shared.NO_CLIP,
    }
    DERIVED: ClassVar = AbstractAgent.DERIVED | {
        "actor_tau": Derived("actor_decay", lambda decay, spec: 1 - decay),
        "expectile_complement": Derived("expectile", lambda expectile, spec: 1 - expectile),
    }
    pretrained_networks: ClassVar = ("actor",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        return agent.replace(train=guided.initialise(agent, key))

    @property
    def critic_network(self) -> Network:
        return guided.critic_network(self)

    @property
    def windows(self) -> Windows:
        return Windows(self.config.windows)

    def averaging(self) -> dict[str, Scalar]:
        return {"critic": self.config.tau, "actor": self.config.actor_tau}

    def draw(self, key: Key, batch_size: int) -> Noise:
        """For one half of the batch the time to reverse is uniform on [0, 1), for the other on the sampler's grid."""
        half, steps = batch_size // 2, self.config.flow_steps
        return {
            **normals(key, next_x0=(batch_size, self.spec.chunk_dim)),
            **shared.draw_flow_matching(self, key, batch_size),
            "reverse_u": jax.random.uniform(named(key, "reverse_u"), (half,)),
            "reverse_k": jax.random.randint(named(key, "reverse_k"), (batch_size - half,), 0, steps + 1),
        }

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        config, online = self.config, self.train.params
        flow = lambda params: bind(self.flow_network, params["actor"], batch.observations)
        critic = lambda params: bind(self.critic_network, params["critic"], batch.observations)

        next_critic = bind(self.critic_network, self.train.targets["critic"], batch.next_observations)
        next_values = pessimistic(next_critic(noise["next_x0"], 0.0), config.rho)
        td_targets = td_target(batch, next_values, config.bootstrap_discount)
        durations = jnp.concatenate([noise["reverse_u"], noise["reverse_k"] / config.flow_steps])[:, None]
        reversed_x = reverse(flow(online), batch.chunks, durations, config.flow_steps)

        x0, t = noise["flow_x0"], noise["flow_t"]
        x = interpolate(x0, batch.chunks, t)
        in_episode = jnp.repeat(batch.in_episode, self.spec.action_dim, axis=-1)

        def loss(params: Params) -> tuple[Array, Info]:
            qs = critic(params)(reversed_x, 1 - durations)
            critic_loss = self.critic_loss(td_targets - qs, batch.valid)
            velocity = flow(params)(x, t)
            flow_loss = jnp.mean(in_episode * jnp.square(velocity - (batch.chunks - x0)))
            step_qs = critic(online)(*euler_step(x, velocity, t, config.flow_steps)).mean(0)
            actor_loss = -jnp.mean(batch.valid * step_qs)
            info = {
                "critic_loss": critic_loss,
                "flow_loss": flow_loss,
                "actor_loss": actor_loss,
                "q_mean": qs.mean(),
                "step_q_mean": step_qs.mean(),
            }
            return critic_loss + config.alpha * flow_loss + actor_loss, info

        return shared.gradient_step(self, loss)

    def critic_loss(self, error: Float[Array, "Q B"], valid: Float[Array, " B"]) -> Float[Array, ""]:
        """Expectile regression, averaged over critics and batch; windows that are not valid weigh 0 but are counted."""
        weight = jnp.where(error >= 0, self.config.expectile, self.config.expectile_complement)
        return jnp.mean(valid * weight * jnp.square(error))

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "1 B D"]) -> Float[Array, "B D"]:
        """The endpoint of the averaged flow; best_of_n is not used."""
        return self._endpoint(self.train.targets, observations, noise)

    def _endpoint(
        self, params: Params, observations: Float[Array, "B O"], noise: Float[Array, "1 B D"]
    ) -> Float[Array, "B D"]:
        velocity = bind(self.flow_network, params["actor"], observations)
        return jnp.clip(sample_ode(velocity, noise[0], self.config.flow_steps), -1, 1)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        noise = jax.random.normal(key, (1, len(observations), self.spec.chunk_dim))
        return shared.to_actions(self, self.sample(observations, noise))

    def act_online(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        noise = jax.random.normal(key, (1, len(observations), self.spec.chunk_dim))
        return shared.to_actions(self, self._endpoint(self.train.params, observations, noise))


def reverse(
    velocity: Field, x1: Float[Array, "B D"], durations: Float[Array, "B 1"], num_steps: int
) -> Float[Array, "B D"]:
    """Where the flow's ODE comes from: x at time 1 - d, by K Euler steps of d / K backwards from x1 at time 1."""
    h = durations / num_steps

    def back(x: Array, i: Array) -> tuple[Array, None]:
        return x - h * velocity(x, 1 - i * h), None

    return loops.scan(back, x1, jnp.arange(num_steps))[0]


def euler_step(
    x: Float[Array, "B D"], velocity: Float[Array, "B D"], t: Float[Array, "B 1"], num_steps: int
) -> tuple[Float[Array, "B D"], Float[Array, "B 1"]]:
    """One step of the sampler, cut off at time 1: (the point, its time)."""
    h = 1 / num_steps
    return x + velocity * jnp.minimum(h, 1 - t), jnp.minimum(t + h, 1)
