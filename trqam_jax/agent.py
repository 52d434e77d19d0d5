"""What the trainer and the evaluation ask of an algorithm."""

from typing import ClassVar

import jax
import optax
from flax import struct
from ml_collections import FrozenConfigDict

from trqam_jax.networks import Critic, Velocity
from trqam_jax.train_state import TrainState, make_optimizer
from trqam_jax.types import Array, Batch, Params, Spec

Info = dict[str, Array]  # scalars, averaged over the updates between two rows of train.csv
Noise = dict[str, Array]


class AbstractAgent(struct.PyTreeNode):
    """One immutable pytree. A subclass adds its state as fields and fills in the methods that raise here.

    `draw` is the edge at which keys become arrays: all below it is a deterministic function of its noise, which is
    what lets the reference vectors of a published method be its tests.
    """

    train: TrainState
    config: FrozenConfigDict = struct.field(pytree_node=False)
    spec: Spec = struct.field(pytree_node=False)

    #: The networks (and their averages) that start from the cloned flow policy.
    cloned_networks: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def create(cls, key: Array, spec: Spec, config: FrozenConfigDict) -> "AbstractAgent":
        """Fresh parameters. config: the algorithm's own section."""
        raise NotImplementedError

    def load_cloned(self, velocity: Params) -> "AbstractAgent":
        """Every flow the method holds starts from the cloned policy's velocity parameters; all else is kept."""
        return self.replace(train=self.train.load(dict.fromkeys(self.cloned_networks, velocity), self.optimizer))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """One Adam over all networks, with one joint clip where the configuration has `clip_norm`."""
        return make_optimizer(self.config.learning_rate, self.config.clip_norm)

    @property
    def flow_network(self) -> Velocity:
        """The flow of a chunk, of the configured size."""
        return Velocity(self.config.hidden_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    @property
    def critic_network(self):
        """The ensemble of critics, of the configured size."""
        return Critic(self.config.hidden_dims, self.config.num_critics)

    def draw(self, key: Array, batch_size: int) -> Noise:
        """All random numbers of one update."""
        raise NotImplementedError

    def step(self, batch: Batch, noise: Noise) -> tuple["AbstractAgent", Info]:
        """One gradient step on given noise. Its info has grad_norm, the gradients' joint norm: a finite one leaves
        parameters, averages and Adam's moments finite, which is how the trainer knows a step that must not count."""
        raise NotImplementedError

    def update(self, batch: Batch, key: Array) -> tuple["AbstractAgent", Info]:
        """One gradient step."""
        return self.step(batch, self.draw(key, batch.observations.shape[0]))

    def sample(self, observations: Array, noise: Array) -> Array:
        """The policy's chunks in [-1, 1] from noise (n, B, D), n = best_of_n: (B, O) -> (B, D)."""
        raise NotImplementedError

    def act(self, observations: Array, key: Array) -> Array:
        """Chunks of actions in [-1, 1]: (B, O) -> (B, H, A)."""
        noise = jax.random.normal(key, (self.config.best_of_n, len(observations), self.spec.chunk_dim))
        return self.sample(observations, noise).reshape(-1, self.spec.horizon, self.spec.action_dim)
