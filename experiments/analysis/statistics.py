"""Statistics over all tasks of a method, with intervals, and of pairs of methods (trqam_jax/stats.py), in percent."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from experiments.analysis.cells import Choice, scope, values
from experiments.analysis.grid import Grid
from experiments.analysis.rows import Source, groups
from experiments.row_format import NO_TASK, OK
from trqam_jax import stats

RESAMPLES = 2_000
THRESHOLDS = tuple(range(0, 100, 10))  # of the performance profile, in percent
STATISTICS: dict[str, Callable[..., Any]] = {
    "IQM": stats.iqm,
    "median": stats.median,
    "mean": stats.mean,
    "optimality gap": stats.optimality_gap,
}
COLUMNS = ["statistic", "method", "against", "above", "percent", "low", "high", "tasks", "runs", "expected_runs"]

Scores = dict[str, np.ndarray]  # by task: the success of every run, a fraction


def scores_of(source: Source, choice: Choice) -> dict[str, Scores]:
    """{method: scores}, of the replicas that reach the step and have not diverged."""
    result: dict[str, Scores] = {}
    for (method, env), replicas in groups(values(source, choice), ["method", "env"]):
        tasks = replicas[replicas.task != NO_TASK]
        counted = replicas if tasks.empty else tasks  # a domain's mean stands in where no task's own is known
        for task, runs in groups(counted[counted.status == OK], "task", sort=True):
            name = scope(env, None if task == NO_TASK else task)
            result.setdefault(method, {})[name] = runs.success.to_numpy()
    return result


def aggregates(scores: dict[str, Scores], expected_seeds: dict[str, int], seed: int) -> list[dict[str, Any]]:
    """A row of COLUMNS per statistic: of each method, of each pair over the tasks that both have, of each threshold."""
    rows = []

    def add(
        statistic: str, method: str, of: Callable, own: Scores, other: Scores | None = None, **columns: Any
    ) -> None:
        samples = [*own.values(), *(other or {}).values()]
        interval = stats.stratified_bootstrap(of, samples, resamples=RESAMPLES, seed=seed)
        shown: list[Any] = [round(100 * x, 2) for x in interval]
        if max(map(len, samples)) == 1:
            shown[1:] = ["", ""]  # one run per task tells nothing about its spread
        runs = {"runs": sum(map(len, own.values())), "expected_runs": len(own) * expected_seeds[method]}
        row = {"statistic": statistic, "method": method, "tasks": len(own), **runs, **columns}
        rows.append(dict.fromkeys(COLUMNS, "") | row | dict(zip(("percent", "low", "high"), shown, strict=True)))

    for method, own in scores.items():
        for name, statistic in STATISTICS.items():
            add(name, method, statistic, own)
    methods = list(scores)
    for i, method in enumerate(methods):
        for other in methods[i + 1 :]:
            if shared := [task for task in scores[method] if task in scores[other]]:
                ours, theirs = ({task: scores[name][task] for task in shared} for name in (method, other))
                add("improvement", method, stats.mean_improvement, ours, theirs, against=other)
    for above in THRESHOLDS:
        for method, own in scores.items():
            add("profile", method, partial(stats.share_above, threshold=above / 100), own, above=above)
    return rows


_NOTE = "in percent, with 95 % intervals of a bootstrap that is stratified by task"


def grids(rows: list[dict[str, Any]]) -> list[Grid]:
    """The rows as tables for readers; none without rows."""
    of = lambda name: [row for row in rows if row["statistic"] == name]
    methods = [row["method"] for row in of("IQM")]
    columns = [{row["method"]: _text(row) for row in of(name)} for name in STATISTICS]
    overall = [
        [m, *(column[m] for column in columns), *_counts(row)] for m, row in zip(methods, of("IQM"), strict=True)
    ]
    pairs = [[f"{row['method']} over {row['against']}", _text(row), str(row["tasks"])] for row in of("improvement")]
    shares = [[f"{t} %", *(_text(row) for row in of("profile") if row["above"] == t)] for t in THRESHOLDS]
    gap = "the optimality gap is what is missing to 100 % (smaller is better)"
    result = [
        Grid(f"Over the tasks that a method has, {_NOTE}; {gap}.", ["method", *STATISTICS, "tasks", "runs"], overall),
        Grid(
            f"Probability of improvement over the tasks that both have, {_NOTE}.",
            ["a run of", "is better, %", "tasks"],
            pairs,
        ),
        Grid(
            f"Performance profile: share of runs with a success above a threshold, {_NOTE}.",
            ["above", *methods],
            shares,
        ),
    ]
    return [grid for grid in result if grid.body] if rows else []


def _text(row: dict[str, Any]) -> str:
    interval = "" if row["low"] == "" else f" [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{row['percent']:.1f}{interval}"


def _counts(row: dict[str, Any]) -> list[str]:
    runs, expected = row["runs"], row["expected_runs"]
    return [str(row["tasks"]), str(runs) if runs == expected else f"{runs} of {expected}"]
