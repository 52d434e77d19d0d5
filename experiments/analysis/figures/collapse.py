"""The adjoint loss, median and range over replicas, above success, mean and range."""

import numpy as np

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Study, by_env, labels, value_range


def collapse(study: Study) -> Drawing:
    """The figure."""
    losses = study.train("adjoint_loss")
    success = [one for one in study.success() if one.longest > 0]
    both = {(one.label, one.env) for one in losses} & {(one.label, one.env) for one in success}
    if not both:
        raise Missing("no run with both adjoint_loss (train.csv) and evaluations after behaviour cloning (eval.csv)")
    losses, success = ([one for one in some if (one.label, one.env) in both] for some in (losses, success))
    figure, panels = style.grid(list(by_env(losses)), rows=2)
    names = labels(losses)
    for row, some, centre in ((0, losses, np.median), (1, success, np.mean)):
        for one in some:
            axis, middle = panels[one.env][row], centre(one.values, 1)
            which = names.index(one.label)
            style.line(axis, one.steps, middle, *value_range(one), label=one.label, study=study, which=which)
    for upper, lower in panels.values():
        style.log_axis(upper)
        lower.set(ylim=(-3, 103))
    border = study.border()
    style.updates_axes(figure, panels, border)
    style.left(panels, 0, "adjoint loss")
    style.left(panels, 1, "success, %")
    style.legend(figure, study, names, {}, border)
    notes = [*study.notes, *style.cuts([*losses, *success])]
    if any(not np.isfinite(one.values).all() for one in losses):
        notes.append("A line of the loss ends where it is no longer finite.")
    text = "Adjoint loss (median) and success (mean), with their range over replicas"
    return Drawing(figure, " ".join([f"{text} ({style.count(success)}).", *notes]))
