"""The path KL of every method that reports it, with a budget or without: median and range over replicas."""

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Study, by_env, labels, until_diverged


def path_kl(study: Study) -> Drawing:
    """The figure."""
    series = [until_diverged(one) for one in study.train("path_kl", diverged=True)]
    if not series:
        raise Missing("no run of a method with a path KL (train.csv has no column path_kl)")
    names = labels(series)
    figure, panels = style.grid(list(by_env(series)), rows=1)
    for one in series:
        style.median_line(panels[one.env][0], study, one, names.index(one.label))
    for (axis,) in panels.values():
        style.log_axis(axis)
    border = study.border()
    style.updates_axes(figure, panels, border)
    style.left(panels, 0, "path KL, nats per action")
    style.legend(figure, study, names, style.diverged_reference(series), border)
    text = "Path KL from the base flow, median and range over replicas"
    notes = [*style.finite_notes(series), *style.divergences(series), *style.cuts(series)]
    return Drawing(figure, " ".join([f"{text} ({style.count(series)}).", *notes]))
