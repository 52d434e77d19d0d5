"""Final success against every swept setting, a panel for each and domain: mean and 95 % bootstrap interval."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Series, Study, by_env, labels


def sweep(study: Study) -> Drawing:
    """The figure."""
    by_setting = {setting: points_over(study, setting) for setting in study.swept()}
    points = [one for own in by_setting.values() for one in own]
    if not points:
        raise Missing("no method with several values of a setting on one domain, evaluated after behaviour cloning")
    last = last_step(points)
    panels_of = {
        (env, setting): own
        for setting, series in by_setting.items()
        for env, own in by_env(one for one in series if last in one.steps).items()
    }
    titles = [f"{env}\n{setting}" for env, setting in panels_of]
    figure, panels = style.grid(titles, rows=1)
    for title, own in zip(titles, panels_of.values(), strict=True):
        draw_points(panels[title][0], study, own, last, len(titles))
    return finished(study, figure, panels, points, last, "value of the setting")


def points_over(study: Study, setting: str) -> list[Series]:
    """The series after behaviour cloning of methods that have several values of the setting on one domain."""
    points = [one for one in study.success(over=setting) if np.isfinite(one.value) and one.longest > 0]
    return [one for one in points if sum(one[:2] == other[:2] for other in points) > 1]  # same label and domain


def last_step(points: Sequence[Series]) -> int:
    """Where the values are taken."""
    return max(one.steps.max(initial=0) for one in points)


def draw_points(axis: Axes, study: Study, points: Sequence[Series], last: int, panels: int) -> None:
    """Each method's success over its values at the last step, with the BC policy's."""
    for name in labels(points):
        own = sorted((one for one in points if one.label == name), key=lambda one: one.value)
        mean, low, high = np.array([style.interval([one], last) for one in own]).T
        error = np.maximum([mean - low, high - mean], 0)
        axis.errorbar([one.value for one in own], mean, error, label=name, capsize=2, **style.look(study, name))
    style.reference(axis, style.bc_success(points), style.BC_POLICY)
    style.values_axis(axis, sorted({one.value for one in points}), 8 if panels == 1 else 6)
    axis.set(ylim=(-3, 103))


def finished(
    study: Study, figure: Figure, panels: dict[str, list[Axes]], points: Sequence[Series], last: int, what: str
) -> Drawing:
    """The figure with its labels and caption. what: is on the horizontal axes."""
    figure.supxlabel(what, fontsize=8)
    figure.supylabel(f"success after {style.short(last)} updates, %", fontsize=8)
    style.left(panels, 0, "", shared=True)
    drawn = [one for one in points if last in one.steps]
    style.legend(figure, study, labels(drawn), {style.BC_POLICY: style.REFERENCE})
    behind = [one for one in points if last not in one.steps]
    notes = [*study.notes, *(f"{one.label} on {one.env} at {one.value:g} has not got so far." for one in behind)]
    text = f"Success after {style.short(last)} updates, mean over tasks and seeds"
    text += ", with a 95 % bootstrap interval over seeds, stratified by task"
    return Drawing(figure, " ".join([f"{text} ({style.count(drawn)}).", *notes]))
