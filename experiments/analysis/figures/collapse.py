"""The adjoint loss, median and range over replicas, above success, mean and range. Diverged replicas count."""

import numpy as np

from experiments.analysis.figures import style
from experiments.analysis.figures.study import (
    Drawing,
    Missing,
    Series,
    Study,
    by_env,
    labels,
    until_diverged,
    value_range,
)


def collapse(study: Study) -> Drawing:
    """The figure."""
    losses = [until_diverged(one) for one in study.train("adjoint_loss", diverged=True)]
    success = [_with_last_evaluation(one) for one in study.success(diverged=True) if _shows_training(one)]
    both = {(one.label, one.env) for one in losses} & {(one.label, one.env) for one in success}
    if not both:
        raise Missing("no run with both adjoint_loss (train.csv) and evaluations after behaviour cloning (eval.csv)")
    losses, success = ([one for one in some if (one.label, one.env) in both] for some in (losses, success))
    figure, panels = style.grid(list(by_env(losses)), rows=2)
    names = labels(losses)
    for one in losses:
        style.median_line(panels[one.env][0], study, one, names.index(one.label))
    for one in success:
        axis, middle = panels[one.env][1], one.values.mean(1)
        which = names.index(one.label)
        style.line(axis, one.steps, middle, *value_range(one), label=one.label, study=study, which=which)
        style.diverged_replicas(axis, study, one)
    for upper, lower in panels.values():
        style.log_axis(upper)
        lower.set(ylim=(-3, 103))
    border = study.border()
    style.updates_axes(figure, panels, border)
    style.left(panels, 0, "adjoint loss")
    style.left(panels, 1, "success, %")
    style.legend(figure, study, names, style.diverged_reference(losses), border)
    text = "Adjoint loss (median) and success (mean), with their range over replicas"
    notes = [*style.finite_notes(losses), *style.divergences(losses), *style.cuts([*losses, *success])]
    if any(np.isfinite(one.diverged).any() for one in losses):
        notes.append("A diverged replica's success is that of its last finite parameters.")
    return Drawing(figure, " ".join([f"{text} ({style.count(success)}).", *notes]))


def _shows_training(one: Series) -> bool:
    """Whether there is more than the BC policy's success, or will never be: all diverged before they were evaluated."""
    return one.longest > 0 or bool(np.isfinite(one.diverged).all())


def _with_last_evaluation(one: Series) -> Series:
    """The series in which a diverged replica whose run has ended keeps its last success."""
    values = one.values.copy()
    for i in range(1, len(values)):
        ended = np.isnan(values[i]) & (one.steps[i] >= one.diverged)
        values[i] = np.where(ended, values[i - 1], values[i])
    return one._replace(values=values)
