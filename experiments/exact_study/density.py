"""(a) The density of the fine-tuned policy's actions against the exact tilted density."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from experiments.exact_study import policies
from experiments.exact_study.closed_forms import Target, tilted
from experiments.exact_study.fine_tune import Problem, fine_tune, with_start
from experiments.exact_study.flows import Mixture
from experiments.exact_study.measure import Terminal, terminals
from experiments.exact_study.results import NO_GRID, Panel, Row
from experiments.exact_study.size import Size
from trqam_jax.types import Array

LINE = Mixture.create([[-0.55], [0.0], [0.5]], [0.15, 0.15, 0.15], [0.3, 0.4, 0.3])
RING = Mixture.create(
    [[0.55 * np.cos(angle), 0.55 * np.sin(angle)] for angle in np.pi / 3 * np.arange(6)], [0.15] * 6, [1 / 6] * 6
)


def wave(x: Array, error: Array | float = 0.0) -> Array:
    """A critic on the line with three local maxima."""
    return (1.5 * jnp.sin(7 * x) + x).sum(-1)


def saddle(x: Array, error: Array | float = 0.0) -> Array:
    """A critic in the plane with two maxima, in opposite corners."""
    return 6 * x[..., 0] * x[..., 1]


CASES: dict[str, tuple[Mixture, Callable[..., Array]]] = {
    "1-D, 3 modes": (LINE, wave),
    "2-D, 6 modes": (RING, saddle),
}


def density(size: Size) -> Panel:
    """QAM at temperature 1 on mixtures."""
    rows, drawn = [], {}
    for case in CASES:
        own, drawn[case] = one_density(case, size)
        rows += own
    return Panel(rows, drawn)


def one_density(case: str, size: Size) -> tuple[list[Row], tuple[Mixture, Target, Terminal]]:
    """Rows of one case, and (base, exact tilt, policy)."""
    base, critic = CASES[case]
    target = tilted(base, critic)
    policy = policies.bumps(base, size.density_steps, size.bumps[base.dim - 1])
    trained = fine_tune("qam", Problem(base, critic, size.density_steps), policy, {}, size.density)
    both = with_start(policy, trained.params)
    after, before = terminals(policy.velocity, both, base.dim, size.density_steps)
    value = float(after.mean(lambda x: critic(jnp.clip(x, -1, 1))))
    rows = [
        Row("a", case, "TV, BC policy", NO_GRID, NO_GRID, before.total_variation(target.log_density)),
        Row("a", case, "TV, fine-tuned", 0.0, NO_GRID, after.total_variation(target.log_density)),
        Row("a", case, "terminal KL", target.kl, NO_GRID, after.kl(base.log_density)),
        Row("a", case, "mean critic", target.value, NO_GRID, value),
    ]
    return rows, (base, target, after)
