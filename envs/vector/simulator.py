"""One simulator and the score of its episode, played a chunk at a time. Imports no JAX."""

import pathlib
from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np

from envs.base import Simulator, SimulatorFactory, TwinFactory


class Step(NamedTuple):
    """One step of a simulator."""

    observation: np.ndarray  # (O,), before the action
    action: np.ndarray  # (A,)
    reward: float
    terminated: bool
    truncated: bool
    next_observation: np.ndarray  # (O,)


class Outcome(NamedTuple):
    """Of an episode that has ended."""

    success: float  # 0 or 1
    total: float  # undiscounted return, of the rewards as the simulator gives them
    length: int  # environment steps


class Player:
    """Plays episodes in a simulator that its neighbours in the process do not disturb.

    Some simulators draw from numpy's global generator in mid-episode: each player puts its own in that place.
    """

    def __init__(self, simulator: Simulator):
        self.simulator = simulator
        self._bits = np.random.MT19937()
        self.reset(0)  # the first one may compile a model, half a second: part of the construction

    def reset(self, seed: int, film: str | None = None) -> np.ndarray:
        """Start the episode of that seed; film: where to write it as a GIF."""
        _take_global_generator(self._bits)
        self.observation = self.simulator.reset(seed)
        self.outcome: Outcome | None = None  # of the running episode, once it has ended
        self._total, self._length, self._film = 0.0, 0, film
        self._frames = [self.simulator.render()] if film else []
        return self.observation

    def play(self, actions: np.ndarray) -> list[Step]:
        """Step through actions (n, A), at most to the episode's end."""
        _take_global_generator(self._bits)
        steps = []
        for action in actions:
            result = self.simulator.step(action)
            over = result.terminated, result.truncated
            steps.append(Step(self.observation, action, result.reward, *over, result.observation))
            self.observation = result.observation
            self._total, self._length = self._total + result.reward, self._length + 1
            if self._film:
                self._frames.append(self.simulator.render())
            if any(over):
                self.outcome = Outcome(float(result.success), float(self._total), self._length)
                self._write_film()
                break
        return steps

    def close(self) -> None:
        self.simulator.close()

    def _write_film(self) -> None:
        if self._film:
            from PIL import Image

            first, *rest = [Image.fromarray(frame) for frame in self._frames]
            first.save(pathlib.Path(self._film), save_all=True, append_images=rest, duration=50, loop=0)


def make_players(factories: Iterable[SimulatorFactory]) -> list[Player]:
    """A player for each factory. The first simulator of a kind is built, the others of that kind are its twins."""
    firsts: dict[Hashable, Simulator] = {}
    players = []
    for make in factories:
        if isinstance(make, TwinFactory) and make.kind in firsts:
            simulator = make.twin(firsts[make.kind])
        else:
            simulator = make()
            if isinstance(make, TwinFactory):
                firsts[make.kind] = simulator
        players.append(Player(simulator))
    return players


def _take_global_generator(bits: np.random.MT19937) -> None:
    """Let numpy's global functions draw from `bits`."""
    np.random.set_bit_generator(bits)  # pyright: ignore[reportAttributeAccessIssue]  (numpy's own types lack it)
