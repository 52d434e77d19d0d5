"""FBRAC: flow behaviour-regularised actor-critic, a baseline of FQL (arXiv 2502.02538); BRAC: arXiv 1911.11361.

One flow learns by flow matching and ascends the critics at the end of its own ODE: the gradient runs back through the
clip and all Euler steps. alpha divides the critics' term, so a large alpha is behaviour cloning. As in the release of
QAM (arXiv 2601.14234): action chunks, and an ensemble of critics with a pessimistic target.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class FBRAC(AbstractAgent):
    """FBRAC: a flow that clones and ascends the critic through its whole ODE (arXiv 2502.02538)."""

    family: ClassVar = "backpropagation"
    SETTINGS: ClassVar = {
        # The loss divides by it: the bound keeps zero out.
        "alpha": Setting(100.0, "divides the critics' term, tuned per domain: large is cloning", low=1e-6),
        "clip_norm": shared.NO_CLIP,
    }
    pretrained_networks: ClassVar = ("actor_flow",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = {
            "actor_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
        }
        params = init_params(key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    def draw(self, key: Key, batch_size: int) -> Noise:
        actor = normals(key, actor_x0=(batch_size, self.spec.chunk_dim))
        return shared.draw_common(self, key, batch_size) | actor

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_flow", batch, noise, next_chunks)
        value = bind(self.critic_network, self.train.params["critic"], batch.observations)

        def loss(params):
            total, info = td_and_flow(params)
            chunks = shared.ode_chunks(self, params["actor_flow"], batch.observations, noise["actor_x0"])
            q_loss = -value(chunks).mean()
            weighted = q_loss / self.config.alpha
            info |= {"q_loss": q_loss, "actor_loss": info["flow_loss"] + weighted}
            return total + weighted, info

        return shared.gradient_step(self, loss)

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        candidates = shared.flow_chunks(self, "actor_flow", observations, noise)
        return shared.best_candidate(self, observations, candidates)
