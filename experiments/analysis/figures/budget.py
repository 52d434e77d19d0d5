"""Final success against the KL budget, per domain and task: mean and 95 % stratified bootstrap interval."""

from experiments.analysis.figures import style
from experiments.analysis.figures.study import Drawing, Missing, Series, Study, by_env
from experiments.analysis.figures.sweep import draw_points, finished, last_step, points_over


def budget(study: Study) -> Drawing:
    """The figure."""
    points = points_over(study, "kl_budget")
    if not points:
        raise Missing("no method with several KL budgets on one domain, evaluated after behaviour cloning")
    last = last_step(points)
    views: dict[str, list[Series]] = {}
    for env, own in by_env(one for one in points if last in one.steps).items():
        tasks = sorted({task for one in own for task in one.tasks})
        if len(tasks) > 1:
            views[f"{env}\nmean of {len(tasks)} tasks"] = own
        views |= {f"{env}\ntask {task}": [one.of_task(task) for one in own if task in one.tasks] for task in tasks}
    figure, panels = style.grid(list(views), rows=1)
    for title, (axis,) in panels.items():
        draw_points(axis, study, views[title], last, len(views))
    return finished(study, figure, panels, points, last, "KL budget, nats per action")
