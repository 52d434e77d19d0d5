"""Episodes of all replicas at once: one policy call per chunk for every environment slot of every replica."""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from trqam_jax.agent import AbstractAgent
from trqam_jax.ahead import Ahead
from trqam_jax.types import Array


class Slots(Protocol):
    """Groups of R x n environment slots. A slot plays one episode after the other; a group can play while another one
    is looked at."""

    def begin(self, seeds: np.ndarray) -> None:
        """Start a round of episodes with seeds (R, E)."""

    def wait(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray] | None:
        """A group that waits for its chunks, or None when every episode has ended: (group, observations (R, n, O), the
        running episode (R, n), -1 in an idle slot, and its chunks played so far, decision (R, n))."""

    def play(self, group: int, chunks: np.ndarray) -> None:
        """Let a group play chunks (R, n, H, A), and do not wait for it."""

    def results(self) -> dict[str, np.ndarray]:
        """success, return, length: (R, E), of every episode of the round."""
        ...


class Actor(Protocol):
    """What acts: a pytree, such as an agent."""

    def act(self, observations: Any, key: Any) -> Any:
        """Chunks (B, H, A) in [-1, 1] for observations (B, O), as they are evaluated."""
        ...

    def act_online(self, observations: Any, key: Any) -> Any:
        """Chunks to collect data with."""
        ...


class Episodes(NamedTuple):
    """Outcomes of E episodes per replica; (R, E) each."""

    success: np.ndarray  # 0 or 1
    returns: np.ndarray  # undiscounted
    lengths: np.ndarray  # environment steps


def start_seeds(seeds: list[int], phase: str, step: int, num_episodes: int) -> np.ndarray:
    """Environment seeds (R, E) from (seed, phase, step, episode): the same starts for every method under a seed."""
    tag = [ord(letter) for letter in phase]
    return np.stack(
        [np.random.SeedSequence([seed, step, *tag]).generate_state(num_episodes, np.uint32) for seed in seeds]
    ).astype(np.int64)


@functools.partial(jax.jit, static_argnames="online")
def policy(
    agents: Actor,
    observations: Array,
    keys: Array,
    episodes: Array,
    decisions: Array,
    *,
    online: bool = False,
) -> Array:
    """Chunks (R, n, H, A). A slot's noise depends on its replica's key, episode and decision, not on its neighbours.

    online: to collect data with, which some methods do otherwise than they are evaluated.
    """

    def one(agent, observation, key, episode, decision):
        key = jax.random.fold_in(jax.random.fold_in(key, episode), decision)
        act = agent.act_online if online else agent.act
        return act(observation[None], key)[0]

    slots = observations.shape[1]
    if slots == 1:  # twice, because a CPU rounds the product of one row otherwise than among other rows
        observations, episodes, decisions = (jnp.repeat(x, 2, axis=1) for x in (observations, episodes, decisions))
    per_slot = jax.vmap(one, (None, 0, None, 0, 0))
    return jax.vmap(per_slot)(agents, observations, keys, episodes, decisions)[:, :slots]


def compile_policy(agents: AbstractAgent, shape: tuple[int, int]) -> Ahead:
    """What `evaluate` calls, compiled ahead for agents of these shapes and slots (R, n). `evaluate` finds it once it is
    compiled."""
    of = lambda dtype, *dims: jax.ShapeDtypeStruct(dims, dtype)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape[0]))
    observations = of(jnp.float32, *shape, agents.spec.observation_dim)
    return Ahead(policy.lower(agents, observations, keys, of(jnp.int32, *shape), of(jnp.int32, *shape)))


def evaluate(agents: AbstractAgent, slots: Slots, seeds: np.ndarray, keys: Array) -> Episodes:
    """Play E episodes of each of R replicas to their end. seeds: (R, E); keys: (R,), of this evaluation."""
    slots.begin(seeds)
    while (turn := slots.wait()) is not None:
        group, observations, episode, decision = turn
        chunks = policy(agents, observations, keys, np.maximum(episode, 0), decision)
        slots.play(group, np.asarray(chunks))
    results = slots.results()
    return Episodes(results["success"], results["return"], results["length"])
