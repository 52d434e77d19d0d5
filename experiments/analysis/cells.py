"""The cells of the papers' tables: for every method and scope, mean and deviation over seeds, and what is missing.

A scope is what the published tables call so: a domain's title ("cube-double-play"), a task's full name, or "all". The
convention is the TRQAM paper's: a domain's tasks are averaged per seed, then mean and sample standard deviation over
seeds in percent; "all" is the mean of the means of a suite's benchmark domains, each rounded half up.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

import envs
from experiments.analysis.rows import MISSING, REPLICA, Source, groups
from experiments.row_format import DIVERGED, NO_TASK, OK
from trqam_jax.errors import UserError

ALL = "all"
VALUES = ("final", "best", "last_k")  # which of the evaluations up to a step counts


class Cell(NamedTuple):
    """In percent. counts: {what: (how many there are, how many a complete cell has)}; diverged: replicas left out.

    Where nobody says how many seeds there were, counts has no "seeds", and the cell is not complete.
    """

    mean: float | None
    std: float | None
    counts: dict[str, tuple[int, int]]
    diverged: int = 0

    @property
    def complete(self) -> bool:
        return self.mean is not None and not self.marks

    @property
    def percent(self) -> int:
        """The mean as tables print it; only of a cell that has one."""
        assert self.mean is not None
        return rounded(self.mean)

    @property
    def marks(self) -> list[str]:
        """What is missing, in words."""
        short = [f"{have}/{of} {what}" for what, (have, of) in self.counts.items() if have < of]
        unknown = ["? seeds"] * ("seeds" not in self.counts)
        return short + unknown + [f"{self.diverged} diverged"] * bool(self.diverged)


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

    value: str = "final"  # one of VALUES
    last: int = 1
    step: int | None = None


# ---- scopes


def scope(env: str, task: int | None = None) -> str:
    """A domain, or one of its tasks, as the published tables spell it."""
    domain, _ = envs.parse_env(env)
    return domain.title if task is None else domain.task_name(task)


def parse_scope(text: str) -> tuple[str, int | None]:
    """The domain, and the task if the name has one."""
    domain, task = envs.split_env(text)
    return domain.name, task


def is_all(name: str) -> bool:
    """Whether the scope is the benchmark of a whole suite."""
    return name == ALL or name.startswith(f"{ALL} ")


def benchmarks() -> dict[str, list[str]]:
    """{suite: the scopes of its benchmark domains}, of the suites that have some."""
    result: dict[str, list[str]] = {}
    for domain in envs.DOMAINS.values():
        if domain.benchmark:
            result.setdefault(domain.suite, []).append(domain.title)
    return result


def rounded(percent: float) -> int:
    """Half up. Finer than any share of episodes, the fourth decimal takes up what floating point has lost."""
    return math.floor(round(percent, 4) + 0.5)


# ---- which evaluations count


def step_of(source: Source, choice: Choice) -> int:
    """The step that the source's values are taken at."""
    steps = sorted(source.rows.step[source.rows.status != MISSING].unique())
    if choice.step is None:
        return int(steps[-1])
    if choice.step not in steps:
        raise UserError(f"--step={choice.step}: {source.name} evaluated at {', '.join(map(str, steps))}")
    return choice.step


def values(source: Source, choice: Choice) -> pd.DataFrame:
    """What counts of every replica: a frame of method, env, task, seed, success, status and end.

    status: DIVERGED if an evaluation that counts is, MISSING of a replica that has not evaluated at the step.
    end: the step of its last evaluation, 0 without one.
    """
    step = step_of(source, choice)
    evaluated = source.rows[source.rows.status != MISSING]
    reached = evaluated.loc[evaluated.step == step, REPLICA]
    used = evaluated[evaluated.step <= step].merge(reached, on=REPLICA).sort_values("step", kind="stable")
    if choice.value != "best":
        used = _last(used, choice.last if choice.value == "last_k" else 1, step)
    counted = (
        (used.assign(status=used.status != OK))
        .groupby(REPLICA, sort=False)
        .agg(success=("success", "max" if choice.value == "best" else "mean"), status=("status", "any"))
    )
    counted["status"] = counted.status.map({False: OK, True: DIVERGED})
    ends = evaluated.groupby(REPLICA, sort=False).step.max().rename("end")
    replicas = source.rows[REPLICA].drop_duplicates().join(counted, on=REPLICA).join(ends, on=REPLICA)
    return replicas.fillna({"status": MISSING, "end": 0}).astype({"end": int}).reset_index(drop=True)


def _last(rows: pd.DataFrame, number: int, step: int) -> pd.DataFrame:
    """The last evaluations of every replica. rows: in the order of steps."""
    counts = rows.groupby(REPLICA, sort=False).size()
    if (counts < number).any():
        raise UserError(f"--last={number}: there are only {counts.min()} evaluations up to step {step}")
    return rows.groupby(REPLICA, sort=False).tail(number)


# ---- cells


def cell(replicas: pd.DataFrame, num_tasks: int, num_seeds: int) -> Cell:
    """Tasks averaged per seed, then mean and deviation over the seeds that have all tasks that are there at all.

    replicas: rows of `values` of one method and domain.
    """
    by_seed = replicas[replicas.status == OK].pivot(index="seed", columns="task", values="success")
    have = num_tasks if NO_TASK in by_seed else len(by_seed.columns)
    means = 100 * by_seed.dropna().mean(axis=1).to_numpy()
    return Cell(
        float(np.mean(means)) if len(means) else None,
        float(np.std(means, ddof=1)) if len(means) > 1 else None,
        {"tasks": (have, num_tasks), "seeds": (len(means), num_seeds)},
        int((replicas.status == DIVERGED).sum()),
    )


def results(source: Source, choice: Choice) -> list[Results]:
    """Every method of a source, by domain and by task; `with_alls` adds "all"."""
    step, found = step_of(source, choice), []
    for method, own in groups(values(source, choice), "method"):
        cells: dict[str, Cell] = {}
        for env, replicas in groups(own, "env"):
            domain, _ = envs.parse_env(env)
            whole, tasks = (replicas[replicas.task == NO_TASK], replicas[replicas.task != NO_TASK])
            cells[scope(env)] = cell(tasks if whole.empty else whole, domain.num_tasks, source.num_seeds)
            for task, of_task in groups(tasks, "task", sort=True):
                cells[scope(env, task)] = cell(of_task, 1, source.num_seeds)
        found.append(Results(method, source.name, source.protocol, step, cells))
    return found


def with_alls(rows: Iterable[Results]) -> list[Results]:
    """The rows with "all", where they have a benchmark domain. If they are of several suites: "all SUITE", of each."""
    rows = list(rows)
    scopes = {name for row in rows for name in row.cells}
    present = {suite: own for suite, own in benchmarks().items() if scopes & set(own)}
    result = []
    for row in rows:
        alls = {
            ALL if len(present) == 1 else f"{ALL} {suite}": all_domains(row.cells, own)
            for suite, own in present.items()
            if row.cells.keys() & set(own)
        }
        result.append(row._replace(cells=row.cells | alls))
    return result


def all_domains(cells: dict[str, Cell], domains: Sequence[str]) -> Cell:
    """The mean of the domains' rounded means; no mean unless every domain has one over all its tasks."""
    own = [cells[name] for name in domains if name in cells]
    seeds = [cell.counts["seeds"] for cell in own]
    given = len(own) == len(domains) and all(
        cell.mean is not None and cell.counts["tasks"][0] == cell.counts["tasks"][1] for cell in own
    )
    counts = {"domains": (sum(cell.complete for cell in own), len(domains)), "seeds": min(seeds)}
    mean = float(np.mean([cell.percent for cell in own])) if given else None
    return Cell(mean, None, counts, sum(cell.diverged for cell in own))
