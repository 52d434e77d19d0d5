"""Runs as the data of the report's page: texts and numbers that JSON can hold, reduced to what the page shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.analysis import grid, table
from experiments.analysis.cells import Choice, Results, is_all, parse_scope, step_of, values
from experiments.analysis.figures.style import COLOURS
from experiments.analysis.published import PUBLISHED, PUBLISHED_STEPS, published_rows
from experiments.analysis.report.curves import curves, points, replicas
from experiments.analysis.report.pairs import compared, finals
from experiments.analysis.report.runs import about, folder_names, settings
from experiments.analysis.rows import REPLICA, Run, Source, name_unfinished, sources

Key = tuple[str, str]  # protocol and method


def collect(
    runs: list[Run], papers: Sequence[str] = (), *, step: int | None = None, mixed: bool = False
) -> dict[str, Any]:
    """Everything but the videos. step: the last evaluation that counts, as for table.py.

    A UserError if protocols or versions must not stand in one table (unless `mixed`).
    """
    others = {f"--published={paper}": PUBLISHED[paper].protocol for paper in papers}
    remarks = table.refuse_mixed(runs, others, mixed=mixed)
    name_unfinished(runs)
    found = list(replicas(runs))
    methods = list(dict.fromkeys((one.protocol, one.method) for one in found))
    ids = {key: i for i, key in enumerate(methods)}
    most = points(found)
    lines = [{"method": ids[one.protocol, one.method], **curves(one, most)} for one in found]
    return {
        "methods": _labels(methods),
        "colours": COLOURS,
        "tables": [
            _table(origins, Choice(step=at), phase, papers, remarks, ids)
            for phase, origins in _phases(runs, step)
            for at in ([None, *_earlier(origins)] if step is None else [step])
        ],
        "curves": lines,
        "points": most,
        "runs": [{"folder": name, **about(run)} for run, name in zip(runs, folder_names(runs), strict=True)],
        "settings": settings(runs),
    }


def _phases(runs: list[Run], step: int | None) -> list[tuple[str, list[Source]]]:
    """Of every phase that was evaluated (the first where there is only the BC policy) its results.

    step: only phases that have it; all if none has, so that the message says which steps there are.
    """
    present = {phase for run in runs for phase in run.eval.phase.unique()}
    names = [phase for phase in PUBLISHED_STEPS if phase in present] or [next(iter(PUBLISHED_STEPS))]
    found = [(phase, sources(_evaluated(runs, phase), phase)) for phase in names]
    having = [(phase, origins) for phase, origins in found if all((own.rows.step == step).any() for own in origins)]
    return having or found


def _earlier(origins: Sequence[Source]) -> list[int]:
    """The last step that all replicas have, if some have not got further."""
    steps = set.intersection(*(_shared_steps(source) for source in origins))
    last = max(step_of(source, Choice()) for source in origins)
    return [max(steps)] if steps and max(steps) < last else []


def _shared_steps(source: Source) -> set[int]:
    distinct = source.rows.drop_duplicates([*REPLICA, "step"])
    counts = distinct.groupby("step").size()
    return set(counts.index[counts == len(distinct.drop_duplicates(REPLICA))].tolist())


def _labels(methods: Iterable[Key]) -> list[str]:
    several = len({protocol for protocol, _ in methods}) > 1
    return [f"{method} (protocol {protocol})" if several else method for protocol, method in methods]


def _table(
    origins: Sequence[Source],
    choice: Choice,
    phase: str,
    papers: Sequence[str],
    remarks: Sequence[str],
    ids: Mapping[Key, int],
) -> dict[str, Any]:
    """The table of a phase at a step, and the pairs of its methods."""
    given = [paper for paper in papers if _has(paper, phase, choice.step)]
    lacking = [f"{paper} has nothing at this step" for paper in papers if paper not in given]
    for source in origins:
        table.name_short(source, choice)
    rows, more = table.collect(origins, choice, phase, given)
    labelled = table.labelled(rows)
    notes = [*remarks, *lacking, *more, *table.episode_limits(labelled, origins)]
    own = [ids.get((row.protocol, row.method)) if row.source == "ours" else None for row in rows]
    return {
        "phase": phase,
        "steps": sorted({step_of(source, choice) for source in origins}),
        "caption": table.caption(labelled, choice, phase, notes, given),
        "domains": _by_domain(labelled, own),
        "tasks": _by_task(labelled, own),
        **_pairs(origins, choice, ids),
    }


def _evaluated(runs: list[Run], phase: str) -> list[Run]:
    """The runs of the protocols that have the phase, or all."""
    having = {run.config["protocol"] for run in runs if (run.eval.phase == phase).any()}
    return [run for run in runs if run.config["protocol"] in having] if having else runs


def _has(paper: str, phase: str, step: int | None) -> bool:
    wanted = PUBLISHED_STEPS[phase] if step is None else step
    return any(int(row["step"]) == wanted for row in published_rows(paper))


# ---- the table


def _by_domain(rows: Sequence[Results], ids: Sequence[int | None]) -> dict[str, Any]:
    """Methods x domains, and "all"."""
    scopes = table.domain_scopes(rows)
    return {
        "corner": "method",
        "columns": [{"label": table.heading(name), **_place(name)} for name in scopes],
        "rows": [
            {"label": row.method, "method": i, "cells": cells}
            for row, i, cells in zip(rows, ids, _cells(rows, scopes), strict=True)
            if row.cells.keys() & set(scopes)
        ],
    }


def _by_task(rows: Sequence[Results], ids: Sequence[int | None]) -> dict[str, Any]:
    """Tasks x methods."""
    scopes = table.task_scopes(rows)
    having = [
        (row, i, cells)
        for row, i, cells in zip(rows, ids, _cells(rows, scopes), strict=True)
        if row.cells.keys() & set(scopes)
    ]
    return {
        "corner": "task",
        "columns": [{"label": row.method, "method": i} for row, i, _ in having],
        "rows": [
            {"label": table.heading(name), **_place(name), "cells": [cells[j] for _, _, cells in having]}
            for j, name in enumerate(scopes)
        ],
    }


def _place(name: str) -> dict[str, Any]:
    """Domain and task of a scope; neither of "all"."""
    if is_all(name):
        return {}
    domain, task = parse_scope(name)
    return {"env": domain, "task": task}


def _cells(rows: Sequence[Results], scopes: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Of every row and scope the text as it is printed, whether in bold, and the number to sort by."""
    result = []
    for row, texts in zip(rows, table.texts(rows, scopes), strict=True):
        means = [row.cells[name].mean if name in row.cells else None for name in scopes]
        result.append(
            [
                {"text": str(text), "bold": isinstance(text, grid.Bold), "mean": None if x is None else round(x, 4)}
                for text, x in zip(texts, means, strict=True)
            ]
        )
    return result


# ---- pairs


def _pairs(origins: Sequence[Source], choice: Choice, ids: Mapping[Key, int]) -> dict[str, Any]:
    """What every method's replicas ended with, in percent, and the comparisons; only within a protocol."""
    ends, pairs = [], []
    for source in origins:
        own = finals(values(source, choice))
        of_source = {method: ids[source.protocol, method] for method in own}
        pairs += compared(own, of_source)
        for method, places in own.items():
            ends += [
                {
                    "method": of_source[method],
                    "env": env,
                    "task": task,
                    "seeds": list(seeds),
                    "success": [round(100 * x, 2) for x in seeds.values()],
                }
                for (env, task), seeds in places.items()
            ]
    return {"ends": ends, "pairs": pairs}
