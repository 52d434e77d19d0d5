"""Success against updates per domain, and over all domains: mean and 95 % stratified bootstrap band."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Series, Study, by_env, common_steps, labels


def curves(study: Study) -> Drawing:
    """The figure."""
    everything = study.success()
    drawn = [one for one in everything if one.longest > 0]
    if not drawn:
        text = "no evaluation after behaviour cloning (eval.csv has no row of phase offline or online)"
        raise Missing(" ".join([text, *study.notes]))
    domains, names = by_env(drawn), labels(drawn)
    bc = {env: style.bc_success(own) for env, own in by_env(everything).items()}
    notes = [*study.notes, *style.cuts(drawn)]
    total = f"mean of {len(domains)} domains"
    figure, panels = style.grid([*domains, *([total] if len(domains) > 1 else [])], rows=1)
    for title, (axis,) in panels.items():
        envs = list(domains) if title == total else [title]
        for i, name in enumerate(names):
            own = [one for env in envs for one in domains[env] if one.label == name]
            if len(own) == len(envs):
                _curve(axis, study, own, which=i)
            elif title == total:
                notes.append(f"{name} has not run on all domains and is not in their mean.")
        style.reference(axis, float(np.mean([bc[env] for env in envs])), style.BC_POLICY)
        axis.set(ylim=(-3, 103))
    border = study.border()
    style.updates_axes(figure, panels, border)
    style.left(panels, 0, "success, %", shared=True)
    references = {style.BC_POLICY: style.REFERENCE} if np.isfinite([*bc.values()]).any() else {}
    style.legend(figure, study, names, references, border)
    text = "Success, mean over tasks and seeds, with a 95 % bootstrap interval over seeds, stratified by task"
    return Drawing(figure, " ".join([f"{text} ({style.count(drawn)}).", *notes]))


def _curve(axis: Axes, study: Study, own: Sequence[Series], which: int) -> None:
    """The mean of one method over domains."""
    steps = common_steps(own)
    mean, low, high = np.array([style.interval(own, step) for step in steps]).reshape(-1, 3).T
    style.line(axis, steps, mean, low, high, label=own[0].label, study=study, which=which)
