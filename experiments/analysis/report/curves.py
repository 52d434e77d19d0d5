"""Every replica's success and metrics of training over updates, small enough for a page."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.analysis.rows import Run, groups
from experiments.row_format import DIVERGED

MOST_POINTS = 200  # of a curve of training
MOST_NUMBERS = 500_000  # of all curves of training together: 3.5 MB
FEWEST_POINTS = 10
METRICS = ("path_kl", "kl_average", "lambda", "grad_norm")  # beside the losses
LOSSES = ("_loss", "mse")  # how their names end

_REPLICA = ["task", "seed"]


class Replicas(NamedTuple):
    """The rows of one method on one domain, of all runs that have some."""

    protocol: str
    method: str
    env: str
    evals: pd.DataFrame
    train: pd.DataFrame
    border: int | None  # how many updates come before the online phase, where there is one

    @property
    def names(self) -> pd.MultiIndex:
        """Task and seed of each replica, sorted."""
        return pd.MultiIndex.from_frame(self.evals[_REPLICA].drop_duplicates()).sort_values()

    @property
    def metrics(self) -> list[str]:
        """The columns of train.csv that are shown and hold a number."""
        shown = [name for name in self.train if name in METRICS or str(name).endswith(LOSSES)]
        order = {name: i for i, name in enumerate(METRICS[:-1])}
        present = [str(name) for name in shown if self.train[name].notna().any()]
        return sorted(present, key=lambda name: (order.get(name, len(order)), name))

    @property
    def diverged(self) -> pd.Series:
        """{(task, seed): the first step whose row says that the replica has diverged}."""
        tables = [rows for rows in (self.evals, self.train) if "status" in rows]
        rows = pd.concat([rows.loc[rows.status == DIVERGED, [*_REPLICA, "total_step"]] for rows in tables])
        return rows.groupby(_REPLICA).total_step.min()


def replicas(runs: Sequence[Run]) -> Iterator[Replicas]:
    """Those of every protocol, domain and method, in the order of the runs."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        kinds.setdefault((run.config["protocol"], run.config["env"]), []).append(run)
    for (protocol, env), own in kinds.items():
        evals = pd.concat([run.eval for run in own], ignore_index=True)
        train = pd.concat([run.train[run.train.phase != "bc"] for run in own], ignore_index=True)
        online = [run.offline_steps for run in own if (run.eval.phase == "online").any()]
        border = max(online) if online else None
        for method, rows in groups(evals, "method"):
            yield Replicas(protocol, method, env, rows, train[train.method == method], border)


def points(found: Sequence[Replicas]) -> int:
    """How many points a curve of training may have, so that all of them fit."""
    count = sum(len(one.names) * len(one.metrics) for one in found)
    return min(MOST_POINTS, max(FEWEST_POINTS, MOST_NUMBERS // max(1, count)))


def curves(one: Replicas, most: int) -> dict[str, Any]:
    """The replicas' curves, a list each, over steps that they share. most: points of a curve of training."""
    names, diverged = one.names, one.diverged
    steps, (success,) = _table(one.evals.assign(success=100 * one.evals.success), ["success"], names)
    result: dict[str, Any] = {
        "env": one.env,
        "tasks": names.get_level_values("task").tolist(),
        "seeds": names.get_level_values("seed").tolist(),
        "steps": steps.tolist(),
        "success": _lists(success),
        "diverged": [int(diverged[name]) if name in diverged.index else None for name in names],
        "border": one.border,
        "train_steps": [],
        "train": {},
        "budgets": _budgets(one.train),
    }
    if metrics := one.metrics:
        steps, tables = _table(one.train, metrics, names)
        kept = thinned(steps, most, diverged.tolist())
        result["train_steps"] = steps[kept].tolist()
        result["train"] = {name: _lists(table[kept]) for name, table in zip(metrics, tables, strict=True)}
    return result


def thinned(steps: np.ndarray, most: int, marked: Sequence[int]) -> np.ndarray:
    """Which of the sorted steps stay: `most` of them evenly, the first and the last among them, and around each marked
    step, where a replica diverged, that one and the one before."""
    even = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    at = np.searchsorted(steps, np.asarray(marked, int))
    return np.unique(np.clip([*even, *at, *(at - 1)], 0, len(steps) - 1))


def _table(rows: pd.DataFrame, columns: list[str], names: pd.MultiIndex) -> tuple[np.ndarray, list[np.ndarray]]:
    """The steps (S,), and of each column the values (S, R); nan where a replica has no row."""
    distinct = rows.drop_duplicates([*_REPLICA, "total_step"], keep="last")
    table = distinct.pivot(index="total_step", columns=_REPLICA, values=columns)
    wanted = pd.MultiIndex.from_tuples([(column, *name) for column in columns for name in names])
    values = table.reindex(columns=wanted).to_numpy(float).reshape(len(table), len(columns), len(names))
    return table.index.to_numpy(int), [values[:, i] for i in range(len(columns))]


def _lists(table: np.ndarray) -> list[list[float | int | None]]:
    """(S, R) as a list of S numbers for each replica."""
    return [[short(x) for x in column] for column in table.T.tolist()]


def short(x: float) -> float | int | None:
    """Four significant digits; None for what is no finite number."""
    if not np.isfinite(x):
        return None
    number = float(f"{x:.4g}")
    return int(number) if number.is_integer() and abs(number) < 1e6 else number


def _budgets(train: pd.DataFrame) -> list[float | int]:
    """The levels to hold the path KL against."""
    if "kl_budget" not in train:
        return []
    levels = sorted({short(x) for x in train.kl_budget.unique().tolist()} - {None}, key=lambda x: x or 0.0)
    return [x for x in levels if x is not None]
