"""FEdit: a BC flow, and a policy that edits its actions (the flow-plus-edit part of EXPO, arXiv 2507.07986).

The flow learns by flow matching alone. The edit policy of `agents/edits.py` corrects the flow's clipped chunk and
ascends the critics; the edited chunk acts. It is QAM-E without adjoint matching, on the BC flow itself. As a baseline
of QAM (arXiv 2601.14234) it leaves out EXPO's choice of the best among base and edited actions; `best_of_n` chooses
among edited ones.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import edits, shared
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.settings import Setting
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class FEdit(AbstractAgent):
    """FEdit: a tanh-Gaussian edit of a BC flow's action (part of EXPO, arXiv 2507.07986)."""

    family: ClassVar = "edits"
    SETTINGS: ClassVar = {
        "edit_scale": Setting(0.2, "largest edit of a coordinate, tuned per domain", low=0.0),
        "target_entropy_multiplier": shared.ENTROPY_MULTIPLIER,
        "clip_norm": shared.NO_CLIP,
    }
    DERIVED: ClassVar = edits.DERIVED
    pretrained_networks: ClassVar = ("actor_bc_flow",)

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = {
            "actor_bc_flow": (agent.flow_network, (spec.observation_dim, spec.chunk_dim, 1)),
            "critic": (agent.critic_network, (spec.observation_dim, spec.chunk_dim)),
        }
        params = edits.initialise(agent, key, networks)
        return agent.replace(train=TrainState.create(params, ("critic",), agent.optimizer))

    def draw(self, key: Key, batch_size: int) -> Noise:
        return shared.draw_common(self, key, batch_size) | edits.draw(self, key, batch_size)

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"], noise["next_edit"])
        td_and_flow = shared.td_and_flow_loss(self, "actor_bc_flow", batch, noise, next_chunks)

        def loss(params):
            total, info = td_and_flow(params)
            edit_loss, edit_info = edits.edit_loss(self, "actor_bc_flow", params, batch.observations, noise)
            return total + edit_loss, info | edit_info

        return shared.gradient_step(self, loss)

    def sample(
        self,
        observations: Float[Array, "B O"],
        noise: Float[Array, "n B D"],
        eps: Float[Array, "n B D"] | None = None,
    ) -> Float[Array, "B D"]:
        """The flow's chunks from noise, edited with eps: the best of n edited ones. None: the flow's own."""
        return edits.sample(self, "actor_bc_flow", observations, noise, eps)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        return shared.to_actions(self, self.sample(observations, *edits.draw_acting(self, observations, key)))
