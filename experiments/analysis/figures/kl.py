"""Path KL against its budget, and lambda: mean and range over replicas."""

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Series, Study, by_env, labels, value_range

BUDGET, AVERAGE = "KL budget", "running average"


def kl(study: Study) -> Drawing:
    """The figure."""
    budgets = study.train("kl_budget")
    if not budgets:
        raise Missing("no run of a method with a KL budget (train.csv has no column kl_budget)")
    names = labels(budgets)
    figure, panels = style.grid(list(by_env(budgets)), rows=2)
    for metric, row in (("path_kl", 0), ("kl_average", 0), ("lambda", 1)):
        for one in study.train(metric):
            if one.label in names:  # the path KL of a method without a budget is not held against anything
                _metric(panels[one.env][row], study, one, names.index(one.label), average=metric == "kl_average")
    for title, (upper, lower) in panels.items():
        for budget in sorted({float(value) for one in budgets if one.env == title for value in one.values.flat}):
            style.reference(upper, budget, BUDGET)
        upper.set_ylim(bottom=-0.04 * upper.get_ylim()[1])  # markers at zero stay whole
        upper.yaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
        upper.yaxis.set_major_formatter(style.PLAIN)
        style.log_axis(lower)
    border = study.border()
    style.updates_axes(figure, panels, border)
    style.left(panels, 0, "path KL,\nnats per action")
    style.left(panels, 1, r"$\lambda_\mathrm{eff}$")
    references = {BUDGET: style.REFERENCE, AVERAGE: style.THIN | {"color": "black"}}
    style.legend(figure, study, names, references, border)
    text = "Path KL (thin: the dual step's clipped running average) and lambda_eff, mean and range over replicas"
    return Drawing(figure, " ".join([f"{text} ({style.count(budgets)}).", *study.notes, *style.cuts(budgets)]))


def _metric(axis: Axes, study: Study, one: Series, which: int, *, average: bool) -> None:
    mean = one.values.mean(1)
    if average:
        axis.plot(one.steps, mean, label=f"{one.label}, {AVERAGE}", **style.look(study, one.label) | style.THIN)
    else:
        style.line(axis, one.steps, mean, *value_range(one), label=one.label, study=study, which=which)
