"""The exact study: what a trust region does, where every number has an exact value to be held against."""

from experiments.exact_study.budgets import budgets
from experiments.exact_study.density import density
from experiments.exact_study.planted_error import planted_error
from experiments.exact_study.results import Panel
from experiments.exact_study.size import Size
from experiments.exact_study.steps import steps


def run(size: Size = Size()) -> dict[str, Panel]:  # noqa: B008  (immutable)
    """The panels by their letters."""
    inside, outside = budgets(size)
    return {"a": density(size), "b": inside, "c": planted_error(size), "d": outside, "e": steps(size)}
