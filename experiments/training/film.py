"""Films of episodes at a price that an evaluation can bear. Imports no JAX: worker processes come by here."""

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from envs.base import Simulator, SimulatorFactory, StepResult, TwinFactory

#: Steps from one picture to the next. Without a GPU a picture takes as long as many steps.
SKIP = 5


def every_few_steps(make: SimulatorFactory) -> SimulatorFactory:
    """Makes the simulators draw a new picture every SKIP steps, at an episode's start and at its end."""
    return _FilmedTwins(make) if isinstance(make, TwinFactory) else _Filmed(make)


class _Filmed(NamedTuple):
    make: SimulatorFactory

    def __call__(self) -> Simulator:
        return EveryFewSteps(self.make())


class _FilmedTwins(NamedTuple):
    """Fulfils `envs.base.TwinFactory`."""

    make: TwinFactory

    @property
    def kind(self) -> Hashable:
        return EveryFewSteps, self.make.kind

    def __call__(self) -> Simulator:
        return EveryFewSteps(self.make())

    def twin(self, first: Simulator) -> Simulator:
        assert isinstance(first, EveryFewSteps)
        return EveryFewSteps(self.make.twin(first.simulator))


class EveryFewSteps:
    """Between its pictures `render` returns the last one, which takes no room in a GIF: it is shown for longer."""

    def __init__(self, simulator: Simulator):
        self.simulator = simulator
        self._picture: np.ndarray | None = None
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        self._picture, self._steps = None, 0
        return self.simulator.reset(seed)

    def step(self, action: np.ndarray) -> StepResult:
        result = self.simulator.step(action)
        self._steps += 1
        if self._steps % SKIP == 0 or result.terminated or result.truncated:
            self._picture = None
        return result

    def render(self) -> np.ndarray:
        if self._picture is None:
            self._picture = self.simulator.render()
        return self._picture

    def close(self) -> None:
        self.simulator.close()
