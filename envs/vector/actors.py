"""Acting online: one simulator per replica, over worker processes, and the transitions it makes."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.base import SimulatorFactory
from envs.vector.simulator import make_players
from envs.vector.workers import Workers, cpu_count


class Transitions(NamedTuple):
    """What R replicas have played: a row of up to H steps for each, zeros after its last."""

    observations: np.ndarray  # (R, H, O) float32
    actions: np.ndarray  # (R, H, A) float32
    rewards: np.ndarray  # (R, H) float32
    masks: np.ndarray  # (R, H) float32, 0 where a step ended the task
    terminals: np.ndarray  # (R, H) bool, the episode's last step, by success or by time
    next_observations: np.ndarray  # (R, H, O) float32, at an episode's end its own last one
    length: np.ndarray  # (R,) int, steps played
    current: np.ndarray  # (R, O) float32, to act on next: a new episode's where one has ended
    ended: np.ndarray  # (R,) bool, an episode ended
    success: np.ndarray  # (R,) of the episode that ended, nan where none did
    returns: np.ndarray  # (R,) likewise; undiscounted, of the simulator's own rewards
    lengths: np.ndarray  # (R,) int, likewise; 0 where none ended

    @classmethod
    def empty(cls, replicas: int, horizon: int, observation_dim: int, action_dim: int) -> "Transitions":
        """Nothing played."""
        steps = replicas, horizon
        return cls(
            observations=np.zeros((*steps, observation_dim), np.float32),
            actions=np.zeros((*steps, action_dim), np.float32),
            rewards=np.zeros(steps, np.float32),
            masks=np.zeros(steps, np.float32),
            terminals=np.zeros(steps, bool),
            next_observations=np.zeros((*steps, observation_dim), np.float32),
            length=np.zeros(replicas, int),
            current=np.zeros((replicas, observation_dim), np.float32),
            ended=np.zeros(replicas, bool),
            success=np.full(replicas, np.nan),
            returns=np.full(replicas, np.nan),
            lengths=np.zeros(replicas, int),
        )


class Actors:
    """R simulators, each with its own stream of episodes; close it, or use it in a `with` statement.

    What a replica yields depends on its entropy and its actions alone.
    """

    def __init__(
        self,
        factories: Sequence[SimulatorFactory],
        observation_dim: int,
        action_dim: int,
        horizon: int,
        *,
        sparse: bool,
        workers: int | None = None,
    ):
        """Builds no simulator yet.

        factories: what makes each replica's simulator. horizon: the most steps of a turn. sparse: every non-zero reward
        becomes -1. workers: processes, by default one per processor.
        """
        self._shares = np.array_split(np.arange(len(factories)), min(workers or cpu_count(), len(factories)))
        sizes = horizon, observation_dim, action_dim
        of_workers = [[factories[r] for r in share] for share in self._shares]
        self._workers = Workers([functools.partial(_Actors, own, sizes, sparse) for own in of_workers])

    def start(self) -> None:
        """Have the simulators built while the caller goes on; `begin` does it where nobody has."""
        self._workers.start()

    def begin(self, entropy: np.ndarray) -> np.ndarray:
        """Start new episodes everywhere, and return their observations (R, O).

        entropy: (R, n), not negative. A replica's k-th episode from here has the seed that
        SeedSequence([*entropy[r], k]) generates first.
        """
        return np.concatenate(self._workers.call("begin", [(entropy[share].tolist(),) for share in self._shares]))

    def play(self, chunks: np.ndarray, start: np.ndarray, count: np.ndarray) -> Transitions:
        """Replica r plays chunks[r, start[r] : start[r] + count[r]], up to its episode's end. chunks: (R, H, A)."""
        if (start < 0).any() or (count < 0).any() or (start + count > chunks.shape[1]).any():
            raise ValueError(f"start {start} and count {count} leave chunks of {chunks.shape[1]} actions")
        parts = self._workers.call("play", [(chunks[share], start[share], count[share]) for share in self._shares])
        return Transitions(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def __enter__(self) -> "Actors":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Actors:
    """The replicas of one worker."""

    def __init__(self, factories: list[SimulatorFactory], sizes: tuple[int, int, int], sparse: bool):
        """sizes: horizon, O and A."""
        self._sizes, self._sparse = sizes, sparse
        self._players = make_players(factories)

    def begin(self, entropy: list[list[int]]) -> np.ndarray:
        self._entropy, self._episode = entropy, [0] * len(entropy)
        return np.stack([self._reset(r) for r in range(len(entropy))]).astype(np.float32)

    def _reset(self, r: int) -> np.ndarray:
        """Start the replica's next episode."""
        seed = np.random.SeedSequence([*self._entropy[r], self._episode[r]]).generate_state(1)[0]
        self._episode[r] += 1
        return self._players[r].reset(int(seed))

    def play(self, chunks: np.ndarray, start: np.ndarray, count: np.ndarray) -> Transitions:
        played = Transitions.empty(len(self._players), *self._sizes)
        for r, one in enumerate(self._players):
            steps = one.play(chunks[r, start[r] : start[r] + count[r]])
            played.length[r] = len(steps)
            for i, step in enumerate(steps):
                played.observations[r, i], played.actions[r, i] = step.observation, step.action
                played.rewards[r, i] = -1.0 if self._sparse and step.reward != 0 else step.reward
                played.masks[r, i] = not step.terminated
                played.terminals[r, i] = step.terminated or step.truncated
                played.next_observations[r, i] = step.next_observation
            if one.outcome is not None:
                played.ended[r] = True
                played.success[r], played.returns[r], played.lengths[r] = one.outcome
                self._reset(r)
            played.current[r] = one.observation
        return played

    def close(self) -> None:
        for one in self._players:
            one.close()
