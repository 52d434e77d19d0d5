"""What training and evaluation need of an algorithm."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import jax
import optax
from flax import struct
from jaxtyping import Float, Int

from trqam_jax.agent_config import AgentConfig, Derived
from trqam_jax.networks import Critic, Network, Velocity
from trqam_jax.settings import Setting
from trqam_jax.train_state import TrainState, make_optimizer
from trqam_jax.types import Array, Batch, Key, Params, Scalar, Spec, Windows

Info = dict[str, Array]  # scalars, averaged over the updates between two rows of train.csv
Noise = dict[str, Array]
NOT_STATE = ("config", "spec", "method")  # the fields that training does not change
A = TypeVar("A", bound="AbstractAgent")


class AbstractAgent(struct.PyTreeNode):
    """One immutable pytree. A subclass adds its state as fields and fills in the methods that raise here.

    `draw` is the edge at which keys become arrays: all below it is a deterministic function of its noise, which is
    what lets the reference vectors of a published method be its tests.
    """

    train: TrainState
    config: AgentConfig
    spec: Spec = struct.field(pytree_node=False)
    #: The class's name. JAX calls the trees of two classes equal if their fields are, so its caches of compiled
    #: programs would now and then take one method's for another's.
    method: str = struct.field(pytree_node=False, default="", kw_only=True)

    #: The algorithm's own settings, by name; `agents.settings` adds those that all algorithms share.
    SETTINGS: ClassVar[Mapping[str, Setting]] = {}
    #: Constants that follow from settings, by the name under which `config` has them.
    DERIVED: ClassVar[dict[str, Derived]] = {
        "bootstrap_discount": Derived("discount", lambda discount, spec: discount**spec.horizon),
    }

    #: Of the settings that all algorithms share those that it does not read: the command line says so.
    ignores: ClassVar[tuple[str, ...]] = ()
    #: What kind of method it is, as lists of the methods have it.
    family: ClassVar[str] = ""
    #: Whether it was published without an offline phase: then a protocol gives it online steps instead.
    online_only: ClassVar[bool] = False
    #: The networks (and their averages) that start from the pretrained flow policy.
    pretrained_networks: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def create(cls, key: Key, spec: Spec, config: AgentConfig) -> "AbstractAgent":
        """Fresh parameters. config: the algorithm's own section."""
        raise _lacking(cls, "create")

    @classmethod
    def empty(cls: type[A], spec: Spec, config: AgentConfig) -> A:
        """Without parameters: what knows the networks' sizes, and makes them."""
        names = [field.name for field in dataclasses.fields(cls)]
        state: dict[str, Any] = {name: None for name in names if name not in NOT_STATE}
        return cls(config=config.derive(cls.DERIVED, spec), spec=spec, method=cls.__name__, **state)

    def state(self) -> dict[str, Any]:
        """What training changes, which is what a checkpoint holds: every field but settings and sizes."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if name not in NOT_STATE}

    def with_state(self, state: Mapping[str, Any]) -> "AbstractAgent":
        """This agent's settings and sizes with the state of another."""
        return self.replace(**state)

    def load_pretrained(self, velocity: Params) -> "AbstractAgent":
        """Every flow the method holds starts from the pretrained policy's velocity parameters; all else is kept."""
        return self.replace(train=self.train.load(dict.fromkeys(self.pretrained_networks, velocity), self.optimizer))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """One Adam over all networks, with one joint clip where the configuration has `clip_norm`."""
        return make_optimizer(self.config.learning_rate, self.config.clip_norm)

    @property
    def actor_dims(self) -> tuple[int, ...]:
        """Widths of the hidden layers of flows and of every other policy."""
        return self.config.actor_hidden_dims or self.config.hidden_dims

    @property
    def critic_dims(self) -> tuple[int, ...]:
        """Widths of the hidden layers of critics and values."""
        return self.config.critic_hidden_dims or self.config.hidden_dims

    @property
    def flow_network(self) -> Velocity:
        """The flow of a chunk, of the configured size."""
        return Velocity(self.actor_dims, self.spec.chunk_dim, self.config.actor_layer_norm)

    @property
    def critic_network(self) -> Network:
        """The ensemble of critics, of the configured size."""
        return Critic(self.critic_dims, self.config.num_critics)

    @property
    def windows(self) -> Windows:
        """How the windows of a minibatch are drawn from a dataset."""
        return Windows.ROWS

    def averaging(self) -> dict[str, Scalar]:
        """{network: step size of its Polyak average} of the present update."""
        tau: Scalar = self.config.tau
        return dict.fromkeys(self.train.targets, tau)

    def at_step(self, step: Int[Array, ""]) -> "AbstractAgent":
        """Told before every update: its number, from 1, and online the number of environment steps so far."""
        return self

    def draw(self, key: Key, batch_size: int) -> Noise:
        """All random numbers of one update."""
        raise _lacking(type(self), "draw")

    def step(self, batch: Batch, noise: Noise) -> tuple["AbstractAgent", Info]:
        """One gradient step on given noise. Its info has grad_norm, the gradients' joint norm: where that is finite, so
        are parameters, averages and Adam's moments, which is how the update loop knows a step that diverged."""
        raise _lacking(type(self), "step")

    def update(self, batch: Batch, key: Key) -> tuple["AbstractAgent", Info]:
        """One gradient step."""
        return self.step(batch, self.draw(key, batch.observations.shape[0]))

    def sample(self, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]) -> Float[Array, "B D"]:
        """The policy's chunks in [-1, 1]: of n = best_of_n candidates, each from its own standard normal noise, the
        best by the critics."""
        raise _lacking(type(self), "sample")

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        """Chunks of actions in [-1, 1], as they are evaluated."""
        noise = jax.random.normal(key, (self.config.best_of_n, len(observations), self.spec.chunk_dim))
        return self.sample(observations, noise).reshape(-1, self.spec.horizon, self.spec.action_dim)

    def act_online(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        """Chunks of actions in [-1, 1] to collect data with; most methods act in evaluations alike."""
        return self.act(observations, key)


def _lacking(agent_class: type, method: str) -> NotImplementedError:
    return NotImplementedError(f"{agent_class.__name__} has no {method}: an algorithm's class is to fill it in")
