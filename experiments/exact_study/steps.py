"""(e) What a grid of K steps costs, where each K has a closed form of its own."""

from collections.abc import Sequence

import numpy as np

from experiments.exact_study import closed_forms, policies
from experiments.exact_study.fine_tune import Problem, fine_tune, realised_kl
from experiments.exact_study.flows import Mixture
from experiments.exact_study.measure import terminals
from experiments.exact_study.results import Panel, Row
from experiments.exact_study.size import Size
from trqam_jax.types import Array

STEPS = (5, 10, 20, 100)
WIDE = Mixture.create([[-0.1]], [0.25], [1.0])
STD, SLOPE = 0.25, 2.5  # s, and q of Q = q x
TARGET = Mixture.create([[-0.1 + STD**2 * SLOPE]], [STD], [1.0])
QUANTITIES = ("path KL", "shift of the mean", "TV")
EXACT = (closed_forms.linear_kl(STD, np.array([SLOPE]), 1), STD**2 * SLOPE, 0.0)


def critic(x: Array, error: Array | float = 0.0) -> Array:
    """Q = q x."""
    return SLOPE * x[..., 0]


def steps(size: Size, counts: Sequence[int] = STEPS) -> Panel:
    """QAM at temperature 1 on a Gaussian with a linear critic."""
    rows, measured = [], []
    for num_steps in counts:
        problem, policy = Problem(WIDE, critic, num_steps), policies.affine(WIDE, num_steps)
        trained = fine_tune("qam", problem, policy, {}, size.steps)
        (after,) = terminals(policy.velocity, trained.params, 1, num_steps)
        kl = float(realised_kl(problem, policy, trained.params)[0])
        shift = float(after.mean()[0] - WIDE.means[0, 0])
        found = kl, shift, after.total_variation(TARGET.log_density)
        for name, *values in zip(QUANTITIES, EXACT, expected(num_steps), found, strict=True):
            rows.append(Row("e", f"K = {num_steps}", name, *values))
        measured.append(found)
    return Panel(rows, {"counts": counts, "measured": measured, "exact": EXACT})


def expected(num_steps: int) -> tuple[float, float, float]:
    """The three quantities on a grid, in closed form; total variation by quadrature between two Gaussians."""
    grid = closed_forms.linear_on_grid(STD, num_steps)
    # The mean of the base's own ODE is exact on any grid: Euler's step only scales x - t m.
    mean = WIDE.means + grid.shift * STD**2 * SLOPE
    end = Mixture(mean, WIDE.stds * grid.std, WIDE.weights)
    points, volume = closed_forms.cells(closed_forms.BOX, closed_forms.CELLS[1], 1)
    difference = np.exp(end.log_density(points)) - np.exp(TARGET.log_density(points))
    return EXACT[0] * grid.kl, EXACT[1] * grid.shift, float(np.abs(difference).sum() * volume / 2)
