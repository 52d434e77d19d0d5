"""Environment slots in worker processes, for evaluation.

A worker plays a whole chunk of actions for several slots per message. The slots form two groups: while the policy is
called for one, the workers play the other, so that neither waits for the other. Every episode is played to its end.
"""

import collections
import functools
import itertools
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.base import SimulatorFactory, TwinFactory
from envs.vector.simulator import Outcome, make_players
from envs.vector.workers import Workers, cpu_count

IDLE = -1  # in place of an episode
#: About as many slots does a worker have. They keep it busy while the policy is called, and make the calls few.
TWIN_SLOTS = 24
BUILT_SLOTS = 8  # of simulators that are built one by one: more would cost too much construction and memory


class VectorSlots:
    """R x n slots over worker processes; fulfils `trqam_jax.evaluation.Slots`.

    factories: what makes each replica's simulators. Close the slots, or use them in a `with` statement.
    """

    def __init__(
        self,
        factories: Sequence[SimulatorFactory],
        observation_dim: int,
        num_episodes: int,
        *,
        workers: int | None = None,
        groups: int = 2,
        video: bool = False,
        slots_per_worker: int | None = None,
    ):
        """Builds no simulator yet, except with video, for which they must be able to render.

        num_episodes: of a round, per replica. workers: processes, by default one per processor. slots_per_worker: at
        most about that many, if so many episodes are played; by default `TWIN_SLOTS` or `BUILT_SLOTS`.
        """
        replicas, workers = len(factories), workers or cpu_count()
        twins = all(isinstance(make, TwinFactory) for make in factories)
        # Of the numbers that need as many rounds the smallest.
        most = max(1, round((slots_per_worker or (TWIN_SLOTS if twins else BUILT_SLOTS)) * workers / replicas))
        per_replica = max(1, math.ceil(num_episodes / max(1, math.ceil(num_episodes / most))))
        groups = min(groups, per_replica)
        self._shape = groups, replicas, math.ceil(per_replica / groups)
        self._observation_dim = observation_dim
        size = replicas * self._shape[2]
        workers = min(workers, size)
        # Slot s of a group sits in worker s % workers, so that every worker has slots of every replica.
        self._shares = [list(range(first, size, workers)) for first in range(workers)]
        of_slots = [[factories[slot // self._shape[2]] for slot in share] for share in self._shares]
        self._workers = Workers([functools.partial(_Slots, own, groups, video) for own in of_slots])
        self._episode = np.full((groups, size), IDLE)
        self._decision = np.zeros((groups, size), int)
        self._films: list[list[pathlib.Path]] = [[]] * replicas
        if video:
            self._workers.wait_until_made()  # to learn early that nothing can be rendered

    def start(self) -> None:
        """Have the simulators built while the caller goes on; `begin` does it where nobody has."""
        self._workers.start()

    @property
    def processes(self) -> list[int]:
        """The numbers of the worker processes that were started."""
        return self._workers.processes

    @property
    def shape(self) -> tuple[int, int]:
        """(R, n) of every call of the policy."""
        return self._shape[1:]

    def film(self, paths: list[list[pathlib.Path]]) -> None:
        """Write the first episodes of the next round as GIFs: replica r's episode e to paths[r][e]."""
        self._films = paths

    def begin(self, seeds: np.ndarray) -> None:
        """Start a round: seeds.shape[1] episodes of every replica, each in the first slot that is free."""
        self._seeds = seeds
        self._waiting = [collections.deque(range(seeds.shape[1])) for _ in seeds]
        self._outcomes: dict[tuple[int, int], Outcome] = {}
        self._at_work: collections.deque[int] = collections.deque()  # groups, in the order of their answers
        for group in range(self._shape[0]):
            self._order(group, None)

    def play(self, group: int, chunks: np.ndarray) -> None:
        """Let a group's running slots play their chunks, of (R, n, H, A); does not wait for them."""
        self._order(group, chunks.reshape(-1, *chunks.shape[2:]))

    def wait(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray] | None:
        """The group that is to `play` next: (group, observations (R, n, O), episode (R, n), decision (R, n)).

        episode is -1 in an idle slot; decision counts the episode's chunks so far. None: the round is over.
        """
        while self._at_work:
            group = self._at_work.popleft()
            episode = self._episode[group]
            observations = np.zeros((len(episode), self._observation_dim), np.float32)
            for worker, share in enumerate(self._shares):
                observations[share], outcomes = self._workers.receive(worker)
                for position, outcome in outcomes:
                    slot = share[position]
                    self._outcomes[slot // self._shape[2], int(episode[slot])] = outcome
                    episode[slot] = IDLE
            if (episode != IDLE).any():
                slots = self._shape[1:]
                decision = self._decision[group].reshape(slots).copy()
                return group, observations.reshape(*slots, -1), episode.reshape(slots).copy(), decision
            self._order(group, None)
        return None

    def results(self) -> dict[str, np.ndarray]:
        """success, return, length: (R, E), of every episode of the round."""
        self._films = [[]] * len(self._films)
        outcomes = [self._outcomes[place] for place in np.ndindex(self._seeds.shape)]
        columns = (np.reshape(values, self._seeds.shape) for values in zip(*outcomes, strict=True))
        return dict(zip(("success", "return", "length"), columns, strict=True))

    def _order(self, group: int, chunks: np.ndarray | None) -> None:
        """Send the running slots their chunks (R * n, H, A), and the free ones the next episodes of their replicas."""
        episode, decision = self._episode[group], self._decision[group]
        orders: list[Any] = [None] * len(episode)
        for slot in range(len(episode)):
            replica = slot // self._shape[2]
            if episode[slot] != IDLE:
                assert chunks is not None, "a slot that plays has no chunk"
                orders[slot] = chunks[slot]
                decision[slot] += 1
            elif self._waiting[replica]:
                episode[slot], decision[slot] = self._waiting[replica].popleft(), 0
                orders[slot] = self._start(replica, episode[slot])
        if any(order is not None for order in orders):
            for worker, share in enumerate(self._shares):
                self._workers.send(worker, "play", group, [orders[slot] for slot in share])
            self._at_work.append(group)

    def _start(self, replica: int, episode: int) -> tuple[int, str | None]:
        """The episode's seed, and where its film belongs."""
        films = self._films[replica]
        return int(self._seeds[replica, episode]), str(films[episode]) if episode < len(films) else None

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def __enter__(self) -> "VectorSlots":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Slots:
    """The slots of one worker, by group."""

    def __init__(self, factories: list[SimulatorFactory], groups: int, video: bool):
        players = iter(make_players(factories * groups))
        self._groups = [list(itertools.islice(players, len(factories))) for _ in range(groups)]
        if video:
            self._groups[0][0].simulator.render()  # fails here if it does at all

    def play(self, group: int, orders: list[Any]) -> tuple[np.ndarray, list[tuple[int, Outcome]]]:
        """orders: per slot a chunk to play, (seed, film) to start an episode, or None.

        Returns observations (m, O), and (position, outcome) of the episodes that have ended.
        """
        outcomes = []
        for position, (order, one) in enumerate(zip(orders, self._groups[group], strict=True)):
            if isinstance(order, tuple):
                one.reset(*order)
            elif order is not None:
                one.play(order)
                if one.outcome is not None:
                    outcomes.append((position, one.outcome))
        return np.stack([one.observation for one in self._groups[group]]).astype(np.float32), outcomes

    def close(self) -> None:
        for group in self._groups:
            for one in group:
                one.close()
