"""The cells of the paper's table: for every method and scope, mean and deviation over seeds, and what is missing.

A scope is what the published tables call so: a domain with its data ("cube-double-play"), a task by OGBench's full
name, or "all". The convention is the TRQAM paper's: a domain's tasks are averaged per seed, then mean and sample
standard deviation over seeds in percent; "all" is the mean of the ten domains' means, each rounded half up.
"""

import math
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

import envs
from experiments.analysis.rows import Point, Source
from experiments.training.csv_rows import read_csv
from trqam_jax.errors import UserError

ALL = "all"


class Cell(NamedTuple):
    """In percent. counts: {what: (how many there are, how many a complete cell has)}; frozen: replicas left out."""

    mean: float | None
    std: float | None
    counts: dict[str, tuple[int, int]]
    frozen: int = 0

    @property
    def complete(self) -> bool:
        return self.mean is not None and not self.marks

    @property
    def marks(self) -> list[str]:
        """What is missing, in words."""
        short = [f"{have}/{of} {what}" for what, (have, of) in self.counts.items() if have < of]
        return short + [f"{self.frozen} frozen"] * bool(self.frozen)


class Results(NamedTuple):
    """A method's cells by scope, with where they are from."""

    method: str
    source: str
    protocol: str
    step: int
    cells: dict[str, Cell]


class Choice(NamedTuple):
    """Which value of a curve counts: the last, the best or the mean of the last `last` evaluations up to a step.

    step None: the last step that any replica of the source has reached; one that has not is missing.
    """

    value: str = "final"
    last: int = 1
    step: int | None = None


def scope(domain: str, task: int | None = None) -> str:
    """As the published tables spell it."""
    known, _ = envs.parse_env(domain)
    return f"{known.name}-{known.dataset}" if task is None else known.task_name(task)


BENCHMARK = [scope(domain.name) for domain in [domain for domain in envs.DOMAINS.values() if domain.benchmark]]
SCOPES = [scope(name) for name in envs.DOMAINS]


def parse_scope(text: str) -> tuple[str, int | None]:
    """The domain, and the task if the name has one."""
    domain, task = envs.parse_env(text)
    return domain.name, task if "-task" in text else None


def rounded(percent: float) -> int:
    """Half up. Finer than any share of episodes, the fourth decimal takes up what floating point has lost."""
    return math.floor(round(percent, 4) + 0.5)


def step_of(source: Source, choice: Choice) -> int:
    """The step that the source's values are taken at."""
    steps = sorted({step for curve in source.curves.values() for step in curve})
    if choice.step is None:
        return steps[-1]
    if choice.step not in steps:
        raise UserError(f"--step={choice.step}: {source.name} evaluated at {', '.join(map(str, steps))}")
    return choice.step


def value(curve: dict[int, Point], step: int, choice: Choice) -> Point | None:
    """What counts of a curve; not "ok" if a part of it is not; None if the curve does not reach the step."""
    if step not in curve:
        return None
    used = [curve[s] for s in sorted(curve) if s <= step]
    if choice.value == "last_k" and len(used) < choice.last:
        raise UserError(f"--last={choice.last}: there are only {len(used)} evaluations up to step {step}")
    used = used[-1:] if choice.value == "final" else used[-choice.last :] if choice.value == "last_k" else used
    successes = [point.success for point in used]
    success = max(successes) if choice.value == "best" else float(np.mean(successes))
    return Point(success, next((point.status for point in used if point.status != "ok"), "ok"))


Tasks = dict[int | None, dict[int, Point]]  # {task: {seed: what counts}}


def tasks_of(source: Source, choice: Choice) -> dict[tuple[str, str], Tasks]:
    """{(method, domain): tasks}, of the replicas that reach the step. A method that none reaches has empty tasks."""
    step, result = step_of(source, choice), {}
    for line, curve in source.curves.items():
        tasks = result.setdefault((line.method, line.domain), {})
        point = value(curve, step, choice)
        tasks.setdefault(line.task, {}).update({line.seed: point} if point else {})
    return result


def cell(tasks: Tasks, num_tasks: int, num_seeds: int) -> Cell:
    """Tasks averaged per seed, then mean and deviation over the seeds that have all tasks that are there at all."""
    ok = {t: {seed: point.success for seed, point in of.items() if point.status == "ok"} for t, of in tasks.items()}
    ok = {task: by_seed for task, by_seed in ok.items() if by_seed}
    seeds = sorted(set.intersection(*map(set, ok.values()))) if ok else []
    means = [100 * float(np.mean([by_seed[seed] for by_seed in ok.values()])) for seed in seeds]
    have = num_tasks if None in ok else len(ok)
    return Cell(
        float(np.mean(means)) if means else None,
        float(np.std(means, ddof=1)) if len(means) > 1 else None,
        {"tasks": (have, num_tasks), "seeds": (len(seeds), num_seeds)},
        sum(len(of) for of in tasks.values()) - sum(map(len, ok.values())),
    )


def all_domains(cells: dict[str, Cell]) -> Cell:
    """The mean of the benchmark's rounded domain means; no mean unless every domain has one over all its tasks."""
    own = {name: cells[name] for name in BENCHMARK if name in cells}
    seeds = [cell.counts["seeds"] for cell in own.values()]
    given = len(own) == len(BENCHMARK) and all(
        cell.mean is not None and cell.counts["tasks"][0] == cell.counts["tasks"][1] for cell in own.values()
    )
    counts = {"domains": (sum(cell.complete for cell in own.values()), len(BENCHMARK)), "seeds": min(seeds)}
    mean = float(np.mean([rounded(cell.mean) for cell in own.values()])) if given else None
    return Cell(mean, None, counts, sum(cell.frozen for cell in own.values()))


def results(source: Source, choice: Choice) -> list[Results]:
    """Every method of a source, by domain, by task and, if it has a domain of the benchmark, for all."""
    step, by_method = step_of(source, choice), {}
    for (method, domain), tasks in tasks_of(source, choice).items():
        cells, (known, _) = by_method.setdefault(method, {}), envs.parse_env(domain)
        whole = {None: tasks[None]} if None in tasks else tasks
        cells[scope(domain)] = cell(whole, known.num_tasks, source.num_seeds)
        for task in sorted(tasks.keys() - {None}):
            cells[scope(domain, task)] = cell({task: tasks[task]}, 1, source.num_seeds)
    return [
        _with_all(Results(method, source.name, source.protocol, step, cells)) for method, cells in by_method.items()
    ]


def _with_all(row: Results) -> Results:
    """The row with its "all", whatever stood there."""
    cells = {name: cell for name, cell in row.cells.items() if name != ALL}
    return row._replace(cells=cells | ({ALL: all_domains(cells)} if cells.keys() & set(BENCHMARK) else {}))


class Publication(NamedTuple):
    """A table that a paper gives."""

    title: str
    protocol: str


PUBLISHED = {
    "trqam_paper": Publication("the TRQAM paper, arXiv 2605.27079 (SQAM: arXiv 2610.10437)", "trqam"),
    "qam_paper": Publication("the QAM paper, arXiv 2601.14234", "qam"),
}
PUBLISHED_STEPS = {"offline": 1_000_000, "online": 1_500_000}


def published_rows(name: str) -> list[dict[str, str]]:
    """The file's rows as text: method, scope, step, n_seeds, mean_percent, std_percent_ddof1 (may be empty)."""
    return read_csv(pathlib.Path(__file__).parent / "published" / f"{name}.csv")


def published(name: str, step: int) -> list[Results]:
    """The published cells at a step, with "all" made from the domains as for any other results."""
    rows = [row for row in published_rows(name) if int(row["step"]) == step]
    if not rows:
        steps = dict.fromkeys(row["step"] for row in published_rows(name))
        raise UserError(f"{name} has nothing at step {step}, only at {', '.join(steps)}")
    by_method: dict[str, dict[str, Cell]] = {}
    for row in rows:
        seeds = {"seeds": (int(row["n_seeds"]),) * 2}
        whole = {} if row["scope"] == ALL else {"tasks": (1, 1) if "singletask" in row["scope"] else (5, 5)}
        std = float(row["std_percent_ddof1"]) if row["std_percent_ddof1"] else None
        by_method.setdefault(row["method"], {})[row["scope"]] = Cell(float(row["mean_percent"]), std, whole | seeds)
    return [
        _with_all(Results(method, "published", PUBLISHED[name].protocol, step, cells))
        for method, cells in by_method.items()
    ]


def differing_alls(name: str, step: int, rows: Iterable[Results]) -> list[str]:
    """Where the paper's own "all", rounded, is another number than the convention's: "DAC 36.49"."""
    own = {r["method"]: r["mean_percent"] for r in published_rows(name) if r["scope"] == ALL and int(r["step"]) == step}
    return [
        f"{row.method} {own[row.method]}"
        for row in rows
        if rounded(float(own[row.method])) != rounded(row.cells[ALL].mean)
    ]
