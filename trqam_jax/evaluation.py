"""Episodes of all replicas at once: one policy call per chunk for every environment slot of every replica."""

import functools
from typing import NamedTuple, Protocol

import jax
import numpy as np

from trqam_jax.agent import AbstractAgent
from trqam_jax.types import Array


class Slots(Protocol):
    """R x n environment slots, each of which plays its list of episodes one after the other."""

    def reset(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """Start a round of episodes with seeds (R, E). Returns what `step` returns."""

    def step(self, chunks: np.ndarray) -> dict[str, np.ndarray]:
        """Play chunks (R, n, H, A). Returns observations (R, n, O), the running episode (R, n), -1 in an idle slot,
        and its chunks played so far, decision (R, n)."""

    def results(self) -> dict[str, np.ndarray]:
        """success, return, length: (R, E), every episode of the round once."""


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


@jax.jit
def policy(agents: AbstractAgent, observations: Array, keys: Array, episodes: Array, decisions: Array) -> Array:
    """Chunks (R, n, H, A). A slot's noise depends on its replica's key, episode and decision, not on its neighbours."""

    def act(agent, observation, key, episode, decision):
        key = jax.random.fold_in(jax.random.fold_in(key, episode), decision)
        return agent.act(observation[None], key)[0]

    per_slot = jax.vmap(act, (None, 0, None, 0, 0))
    return jax.vmap(per_slot)(agents, observations, keys, episodes, decisions)


def evaluate(agents: AbstractAgent, slots: Slots, seeds: np.ndarray, keys: Array) -> Episodes:
    """Play E episodes of each of R replicas to their end. seeds: (R, E); keys: (R,), of this evaluation."""
    act = functools.partial(policy, agents)
    state = slots.reset(seeds)
    while (state["episode"] >= 0).any():
        chunks = act(state["observations"], keys, np.maximum(state["episode"], 0), state["decision"])
        state = slots.step(np.asarray(chunks))
    results = slots.results()
    return Episodes(results["success"], results["return"], results["length"])
