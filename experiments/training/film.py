"""Films of episodes at a price that an evaluation can bear. Imports no JAX: worker processes come by here."""

from typing import NamedTuple

import numpy as np

from envs.base import Simulator, SimulatorFactory, StepResult

#: Steps from one picture to the next. Without a GPU a picture takes as long as a hundred steps, most of it shadows.
SKIP = 5


class EveryFewSteps(NamedTuple):
    """Makes simulators that draw a new picture every SKIP steps, at an episode's start and at its end."""

    make: SimulatorFactory

    def __call__(self) -> Simulator:
        return _EveryFewSteps(self.make())


class _EveryFewSteps:
    """Between its pictures `render` returns the last one, which takes no room in a GIF: it is shown for longer."""

    def __init__(self, simulator: Simulator):
        self._simulator = simulator
        self._picture: np.ndarray | None = None
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        self._picture, self._steps = None, 0
        return self._simulator.reset(seed)

    def step(self, action: np.ndarray) -> StepResult:
        result = self._simulator.step(action)
        self._steps += 1
        if self._steps % SKIP == 0 or result.terminated or result.truncated:
            self._picture = None
        return result

    def render(self) -> np.ndarray:
        if self._picture is None:
            self._picture = self._simulator.render()
        return self._picture

    def close(self) -> None:
        self._simulator.close()
