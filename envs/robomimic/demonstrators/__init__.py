"""Scripted demonstrators of Robomimic's three tasks, in several styles."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from envs.robomimic.demonstrators.can import can
from envs.robomimic.demonstrators.lift import lift
from envs.robomimic.demonstrators.operator import Operator
from envs.robomimic.demonstrators.square import square
from envs.robomimic.demonstrators.styles import STYLES, Style
from envs.robomimic.simulators import RobomimicSimulator

PLANS: Mapping[str, Callable[[Operator], Iterator[np.ndarray]]] = {
    "robomimic-lift": lift,
    "robomimic-can": can,
    "robomimic-square": square,
}


def demonstrate(
    domain: str, simulator: RobomimicSimulator, style: Style, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Actions (7,) float32 of one episode, each from the simulator's state when it is asked for.

    They end when the demonstrator gives up.
    """
    operator = Operator(simulator.env, style, rng)
    return operator.perturbed(PLANS[domain](operator))


__all__ = ["PLANS", "STYLES", "Style", "demonstrate"]
