"""(c) A critic with a planted error: what a fixed temperature and what a trust region make of it."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.exact_study import closed_forms, policies
from experiments.exact_study.fine_tune import Problem, fine_tune, with_start
from experiments.exact_study.flows import Mixture
from experiments.exact_study.measure import Terminal, terminals
from experiments.exact_study.results import NO_GRID, Panel, Row
from experiments.exact_study.size import Size
from trqam_jax.types import Array

METHODS = ("qam", "trqam")
ERRORS = np.array([0.0, 2.0, 5.0, 10.0, 20.0, 30.0])  # slopes of the planted error
PLANE = Mixture.create([[-0.3, -0.4]], [0.2], [1.0])
KAPPA, PEAK = 10.0, np.array([0.1, -0.4])  # the true Q = -(kappa / 2) |x - peak|^2
ERROR_AXIS = np.array([0.0, 1.0])  # the error's slope is across the way to the peak


def true_value(x: Array) -> Array:
    """Q without its error."""
    return -KAPPA / 2 * jnp.square(x - jnp.asarray(PEAK, jnp.float32)).sum(-1)


def wrong(x: Array, error: Array) -> Array:
    """Q with an error of slope `error`."""
    return true_value(x) + error * x[..., 1]


def exact_error(slope: float, method: str, budget: float) -> closed_forms.Tilted:
    """The optimum of the wrong critic, at temperature 1 or on the budget."""
    mean, std = np.asarray(PLANE.means[0], float), float(PLANE.stds[0])
    at = lambda beta: closed_forms.quadratic_tilt(mean, std, KAPPA, PEAK, slope * ERROR_AXIS, beta)
    return at(1.0) if method == "qam" else closed_forms.tilt_at_budget(at, budget)


def exact_value(tilted: closed_forms.Tilted) -> float:
    """True value of a Gaussian policy."""
    return -KAPPA / 2 * float(np.sum((tilted.mean - PEAK) ** 2) + len(PEAK) * tilted.std**2)


def planted_error(size: Size) -> Panel:
    """QAM and TRQAM on a critic whose error grows. The budget is QAM's own KL where there is no error."""
    budget = exact_error(0.0, "qam", 0.0).kl
    problem = Problem(PLANE, wrong, size.error_steps)
    policy = policies.affine(PLANE, size.error_steps)
    rows = []
    drawn: dict[str, Any] = {"base": exact_base(), "budget": budget}
    for method in METHODS:
        settings = {"inv_temp": 1.0} if method == "qam" else {"kl_budget": budget}
        trained = fine_tune(method, problem, policy, settings, size.errors, errors=ERRORS)
        drawn[method] = []
        *found, base = terminals(policy.velocity, with_start(policy, trained.params), 2, size.error_steps)
        rows = rows or [Row("c", "BC policy", "true value", exact_base(), NO_GRID, value_of(base))]
        for slope, after in zip(ERRORS, found, strict=True):
            exact, case = exact_error(slope, method, budget), f"{method}, error {slope:g}"
            kl, value = after.kl(PLANE.log_density), value_of(after)
            rows.append(Row("c", case, "terminal KL", exact.kl, NO_GRID, kl))
            rows.append(Row("c", case, "true value", exact_value(exact), NO_GRID, value))
            drawn[method].append((slope, kl, value))
    return Panel(rows, drawn)


def exact_base() -> float:
    """True value of the base."""
    return exact_value(closed_forms.Tilted(np.asarray(PLANE.means[0], float), float(PLANE.stds[0]), 0.0))


def value_of(policy: Terminal) -> float:
    """True value of a policy, its actions not clipped: there is no bound to the truth's parabola."""
    return float(policy.mean(true_value))
