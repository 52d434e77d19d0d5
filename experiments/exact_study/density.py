"""(a) The density of the fine-tuned policy's actions against the exact tilted density."""

import jax.numpy as jnp
import numpy as np

from experiments.exact_study import closed_forms, policies
from experiments.exact_study.fine_tune import Problem, fine_tune, replica
from experiments.exact_study.flows import Mixture
from experiments.exact_study.measure import terminal
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


def density(size: Size) -> Panel:
    """QAM at temperature 1 on mixtures, by features: the density of its actions against the exact tilt."""
    rows, drawn = [], {}
    for case, base, critic in (("1-D mixture of 3", LINE, wave), ("2-D mixture of 6", RING, saddle)):
        target = closed_forms.tilted(base, critic)
        policy = policies.bumps(base, size.density_steps, size.bumps[base.dim - 1])
        problem = Problem(base, critic, size.density_steps)
        trained = fine_tune("qam", problem, policy, {}, size.density)
        before = terminal(base.velocity, base.dim, size.density_steps)
        after = terminal(policy.velocity(replica(trained.params, 0)), base.dim, size.density_steps)
        value = float(after.mean(lambda x, critic=critic: critic(jnp.clip(x, -1, 1))))
        rows += [
            Row("a", case, "TV of the base", NO_GRID, NO_GRID, before.total_variation(target.log_density)),
            Row("a", case, "TV, fine-tuned", 0.0, NO_GRID, after.total_variation(target.log_density)),
            Row("a", case, "KL to the base", target.kl, NO_GRID, after.kl(base.log_density)),
            Row("a", case, "mean critic", target.value, NO_GRID, value),
        ]
        drawn[f"{base.dim}-D"] = base, target, after
    return Panel(rows, drawn)
