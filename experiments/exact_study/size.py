"""How much training the study takes: the command's size, and room for a smaller one in tests."""

from typing import NamedTuple

from experiments.exact_study.fine_tune import Budget


class Size(NamedTuple):
    """Of every experiment."""

    density: Budget = Budget(3000, 128)
    density_steps: int = 100
    bumps: tuple[int, int] = (32, 14)  # along each dimension, on the line and in the plane
    budgets: Budget = Budget(10_000, 16, 0.1)  # the optimum's gradient has no noise
    errors: Budget = Budget(3000, 32)
    error_steps: int = 100
    steps: Budget = Budget(1500, 16)
