"""How demonstrators differ, as people do: what makes the actions in one state many.

A style is drawn for every episode, and its numbers are drawn anew around their middle.
"""

from typing import NamedTuple

import numpy as np


class Style(NamedTuple):
    """How an operator moves."""

    name: str
    speed: float  # largest command while travelling; 1 is what the controller takes
    care: float  # largest command near objects
    noise: float  # of commands, standard deviation of its slow part
    hover: float  # metres above the object before the descent
    detour: float  # metres to a side that the way bends
    turn: float  # radians, of what the grasp leaves free
    pause: float  # probability, per step, of stopping for a while
    slip: float  # probability of a descent beside the object, which is then corrected
    wait: int  # steps for the fingers to close

    def drawn(self, rng: np.random.Generator) -> "Style":
        """One episode's: the numbers up to a quarter more or less, the side of detours and turns by chance."""
        factor = dict(zip(("speed", "care", "noise", "hover"), rng.uniform(0.75, 1.25, 4), strict=True))
        middle = {key: float(getattr(self, key) * value) for key, value in factor.items()}
        middle["speed"], middle["care"] = min(1.0, middle["speed"]), min(1.0, middle["care"])
        sides = rng.choice((-1.0, 1.0), 2) * rng.uniform(0.5, 1.0, 2)
        return self._replace(**middle, detour=self.detour * float(sides[0]), turn=self.turn * float(sides[1]))


STYLES = (
    Style("brisk", 1.0, 0.6, 0.05, 0.06, 0.00, 0.0, 0.00, 0.0, 13),
    Style("steady", 0.75, 0.5, 0.05, 0.08, 0.04, 0.3, 0.00, 0.0, 15),
    Style("slow", 0.55, 0.35, 0.08, 0.10, 0.06, 0.5, 0.00, 0.1, 16),
    Style("hesitant", 0.85, 0.5, 0.08, 0.10, 0.03, 0.3, 0.02, 0.2, 16),
    Style("erring", 0.85, 0.5, 0.15, 0.08, 0.06, 0.6, 0.01, 0.8, 15),
    Style("sweeping", 0.9, 0.5, 0.10, 0.12, 0.12, 0.8, 0.00, 0.1, 14),
)
