"""QAM-E: QAM with a policy that edits the flow's actions (arXiv 2601.14234).

The edit policy of `agents/edits.py` corrects the fine-tuned flow's clipped chunk. The flow learns as in QAM and not
from the edits. edit_scale 0, which some domains use, is QAM itself: no network, draw or loss of the edits exists then.
"""

from typing import ClassVar

from jaxtyping import Float

from agents import edits, matching, shared
from agents.qam import INV_TEMP, qam_loss
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import init_params
from trqam_jax.settings import Setting
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Spec


class QAMEdit(AbstractAgent):
    """QAM-E: QAM, and a small tanh-Gaussian edit of the flow's action (arXiv 2601.14234)."""

    family: ClassVar = "adjoint matching"
    SETTINGS: ClassVar = {
        "inv_temp": INV_TEMP,
        "edit_scale": Setting(0.1, "largest edit of a coordinate; 0: QAM", low=0.0, zero_is_static=True),
        "target_entropy_multiplier": shared.ENTROPY_MULTIPLIER,
    }
    DERIVED: ClassVar = edits.DERIVED
    pretrained_networks: ClassVar = matching.FLOWS

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> AbstractAgent:
        agent = cls.empty(spec, config)
        networks = matching.networks(agent)
        params = edits.initialise(agent, key, networks) if agent.has_edits else init_params(key, networks)
        return agent.replace(train=TrainState.create(params, matching.AVERAGED, agent.optimizer))

    @property
    def has_edits(self) -> bool:
        return not self.config.is_zero("edit_scale")

    def draw(self, key: Key, batch_size: int) -> Noise:
        noise = matching.draw_rollout(self, key, batch_size)
        return noise | edits.draw(self, key, batch_size) if self.has_edits else noise

    def step(self, batch: Batch, noise: Noise) -> tuple[AbstractAgent, Info]:
        next_chunks = self.sample(batch.next_observations, noise["next_action"], noise.get("next_edit"))
        qam = qam_loss(self, batch, noise, next_chunks)

        def loss(params):
            total, info = qam(params)
            if self.has_edits:
                edit_loss, edit_info = edits.edit_loss(self, "actor_fast", params, batch.observations, noise)
                total, info = total + edit_loss, info | edit_info
            return total, info

        return shared.gradient_step(self, loss)

    def sample(
        self,
        observations: Float[Array, "B O"],
        noise: Float[Array, "n B D"],
        eps: Float[Array, "n B D"] | None = None,
    ) -> Float[Array, "B D"]:
        """The policy's chunks from noise, edited with eps: the best of n edited ones."""
        return edits.sample(self, "actor_fast", observations, noise, eps)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        noise, eps = edits.draw_acting(self, observations, key)
        return shared.to_actions(self, self.sample(observations, noise, eps if self.has_edits else None))
