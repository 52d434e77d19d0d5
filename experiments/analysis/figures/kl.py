"""Path KL against its budget, and lambda: mean and range over replicas, the diverged ones each by itself."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Series, Study, by_env, labels, value_range

BUDGET, AVERAGE = "KL budget", "running average"
TOO_HIGH = 20  # times the budget: beyond, a linear axis does not show the budget


def kl(study: Study) -> Drawing:
    """The figure."""
    budgets = study.train("kl_budget", diverged=True)
    if not budgets:
        raise Missing("no run of a method with a KL budget (train.csv has no column kl_budget)")
    names = labels(budgets)
    figure, panels = style.grid(list(by_env(budgets)), rows=2)
    for metric, row in (("path_kl", 0), ("kl_average", 0), ("lambda", 1)):
        for one in study.train(metric, diverged=True):
            if one.label in names:  # the path KL of a method without a budget is not held against anything
                _metric(panels[one.env][row], study, one, names.index(one.label), average=metric == "kl_average")
    for title, (upper, lower) in panels.items():
        levels = sorted({float(x) for one in budgets if one.env == title for x in one.values.flat if np.isfinite(x)})
        _kl_axis(upper, levels)
        style.log_axis(lower)
    border = study.border()
    style.updates_axes(figure, panels, border)
    style.left(panels, 0, "path KL,\nnats per action")
    style.left(panels, 1, r"$\lambda_\mathrm{eff}$")
    references = {BUDGET: style.REFERENCE, AVERAGE: style.THIN | {"color": "black"}}
    style.legend(figure, study, names, references | style.diverged_reference(budgets), border)
    text = "Path KL (thin: the dual step's clipped running average) and lambda_eff, mean and range over replicas"
    notes = style.divergences(budgets)
    if notes:
        notes.append("Those are drawn one by one as far as they go, and are not in mean and range.")
    return Drawing(figure, " ".join([f"{text} ({style.count(budgets)}).", *notes, *style.cuts(budgets)]))


def _kl_axis(axis: Axes, budgets: list[float]) -> None:
    for budget in budgets:
        style.reference(axis, budget, BUDGET)
    if axis.dataLim.y1 > TOO_HIGH * max(budgets, default=np.inf):
        style.log_axis(axis)
        return
    axis.set_ylim(bottom=-0.04 * axis.get_ylim()[1])  # markers at zero stay whole
    axis.yaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
    axis.yaxis.set_major_formatter(style.PLAIN)


def _metric(axis: Axes, study: Study, one: Series, which: int, *, average: bool) -> None:
    if not average:
        style.diverged_replicas(axis, study, one)
    kept = one.replicas(np.isinf(one.diverged))
    if not len(kept.tasks):
        return
    mean = kept.values.mean(1)
    if average:
        axis.plot(kept.steps, mean, label=f"{one.label}, {AVERAGE}", **style.look(study, one.label) | style.THIN)
    else:
        style.line(axis, kept.steps, mean, *value_range(kept), label=one.label, study=study, which=which)
