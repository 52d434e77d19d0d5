"""What figures are made of: the rows of several runs as series, with or without diverged replicas."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.released import ReleasedRun
from experiments.analysis.rows import Run, groups, label
from experiments.row_format import DIVERGED
from trqam_jax.errors import UserError


class Missing(UserError):
    """The runs do not have what a figure is made of."""


class Drawing(NamedTuple):
    """A figure and the text that belongs under it."""

    figure: Figure
    caption: str


class Series(NamedTuple):
    """A metric of one method's R replicas in one domain, at the S steps that all of them have.

    A diverged replica keeps the parameters it had before. Its run goes on evaluating it, and its metrics of training
    are nan; a run whose replicas have all diverged ends, and the values of its later steps are nan.
    """

    label: str
    env: str
    value: float  # of the setting that the figure is over; nan of other figures
    steps: np.ndarray  # (S,) updates since behaviour cloning; 0 is the BC policy
    values: np.ndarray  # (S, R)
    tasks: np.ndarray  # (R,)
    diverged: np.ndarray  # (R,) the first step whose row says that the replica has diverged; inf: it has not
    longest: int  # the last step of the replica that is furthest

    def of_task(self, task: int) -> "Series":
        """The replicas of one task."""
        return self.replicas(self.tasks == task)

    def replicas(self, which: np.ndarray) -> "Series":
        """Some of them. which: (R,) bool."""
        return self._replace(values=self.values[:, which], tasks=self.tasks[which], diverged=self.diverged[which])

    def at(self, step: int) -> list[np.ndarray]:
        """Of every task, its seeds' values at a step."""
        (row,) = self.values[self.steps == step]
        return [row[self.tasks == task] for task in np.unique(self.tasks)]


_REPLICA = ["folder", "task", "seed", "variant"]


class Study:
    """All runs of one call: their rows, which replicas diverged, and which line each row belongs to."""

    def __init__(self, runs: Sequence[Run | ReleasedRun]):
        protocols = sorted({str(run.config["protocol"]) for run in runs})
        if len(protocols) > 1:
            mixed = ", ".join(protocols)
            raise UserError(f"The runs follow the protocols {mixed}, whose numbers must not be mixed; name runs of one")
        self._runs = runs
        self._evals = _joined([(run.folder, run.eval) for run in runs])
        by_columns: dict[tuple[str, ...], list[tuple[pathlib.Path, pd.DataFrame]]] = {}
        for run in runs:
            by_columns.setdefault(tuple(run.train.columns), []).append((run.folder, run.train))
        self._trained = [_joined(frames) for frames in by_columns.values()]
        # A run whose replicas have all diverged ends with rows of training.
        self._diverged = _first_diverged([self._evals, *(rows for rows in self._trained if "status" in rows)])
        self._settings = {(run.agent, variant): settings for run in runs for variant, settings in run.variants.items()}
        self.notes = self._name_diverged()
        self._looks = self._order()

    def _name_diverged(self) -> list[str]:
        notes = []
        for method, rows in groups(self._evals, "method"):
            replicas = _replicas(rows).unique()
            if count := replicas.isin(self._diverged.index).sum():
                notes.append(f"{method}: {count} of {len(replicas)} replicas diverged and are left out.")
        return notes

    def _order(self) -> dict[str, int]:
        """{label: which look}, in the order of agents and of their variants' values."""
        agents = list(dict.fromkeys(agent for agent, _ in self._settings))
        order = lambda key: (agents.index(key[0]), sorted(_sortable(*item) for item in self._settings[key].items()))
        ordered = sorted(self._settings, key=order)
        looks: dict[str, int] = {}
        # Labels without a setting are in the figures over it, where those with it are not.
        for setting in [*self.swept(), None]:
            labels = dict.fromkeys(self._label(*key, setting) for key in ordered)
            looks |= {name: i for i, name in enumerate(labels)}
        return looks

    def _label(self, agent: str, variant: str, without: str | None) -> str:
        settings = self._settings[agent, variant]
        return label(agent, {key: value for key, value in settings.items() if key != without})

    def look(self, name: str) -> int:
        """A number for the method's looks, the same in all figures of a call."""
        return self._looks[name]

    @property
    def lines(self) -> int:
        """How many methods and variants there are."""
        return len(self._settings)

    def swept(self) -> list[str]:
        """The settings of numbers in which replicas or runs of a method differ."""
        settings = [item for own in self._settings.values() for item in own.items()]
        return sorted({key for key, value in settings if _is_number(value)})

    def border(self) -> int | None:
        """How many offline updates come before the online phase; None if no run has one."""
        borders = sorted({run.offline_steps for run in self._runs if (run.eval.phase == "online").any()})
        if len(borders) > 1:
            raise UserError(f"The online phases begin after {borders} updates: draw those runs in separate calls")
        return borders[0] if borders else None

    def success(self, *, over: str | None = None, diverged: bool = False) -> list[Series]:
        """Success in percent. over: a setting, whose values are not in the labels but are those of the series.

        diverged: with the replicas that diverged.
        """
        rows = self._evals.assign(success=100.0 * self._evals.success)
        return self._series("success", rows, over, diverged)

    def train(self, metric: str, *, diverged: bool = False) -> list[Series]:
        """A column of train.csv, of the methods that have it. diverged: with the replicas that diverged."""
        frames = [rows for rows in self._trained if metric in rows]
        return self._series(metric, pd.concat(frames, ignore_index=True), None, diverged) if frames else []

    def _series(self, metric: str, rows: pd.DataFrame, over: str | None, diverged: bool) -> list[Series]:
        at = self._diverged.reindex(_replicas(rows), fill_value=np.inf).to_numpy(float)
        rows = rows.assign(diverged=at)
        rows = rows if diverged else rows[np.isinf(at)]
        kinds, kind = _distinct(rows, ["agent", "variant"])
        rows = rows.assign(
            label=np.array([self._label(agent, variant, over) for agent, variant in kinds], object)[kind],
            value=np.array([_number(self._settings[one].get(over or "")) for one in kinds], float)[kind],
        )
        lines = groups(rows, ["label", "env", "value"])
        return [_one_series(name, env, value, own, metric) for (name, env, value), own in lines]


def _joined(frames: Sequence[tuple[pathlib.Path, pd.DataFrame]]) -> pd.DataFrame:
    folders = np.array([str(folder) for folder, _ in frames], object)
    rows = pd.concat([rows for _, rows in frames], ignore_index=True)
    return rows.assign(folder=pd.Series(np.repeat(folders, [len(own) for _, own in frames]), dtype="str"))


def _distinct(rows: pd.DataFrame, columns: list[str]) -> tuple[list[tuple[Any, ...]], np.ndarray]:
    """The different values of the columns, in the order of their appearance, and for each row which of them it has."""
    which = rows.groupby(columns, sort=False, dropna=False).ngroup().to_numpy()
    return list(rows[columns].drop_duplicates().itertuples(index=False, name=None)), which


def _replicas(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[_REPLICA])


def _first_diverged(frames: Sequence[pd.DataFrame]) -> pd.Series:
    """{replica: the first step whose row says that it has diverged}."""
    rows = pd.concat([rows[rows.status == DIVERGED] for rows in frames])
    return rows.groupby(_REPLICA).total_step.min()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else np.nan


def _sortable(key: str, value: Any) -> tuple[str, float, str]:
    return (key, float(value), "") if _is_number(value) else (key, np.inf, str(value))


def _one_series(name: str, env: str, value: float, rows: pd.DataFrame, metric: str) -> Series:
    """What the replicas have in common. A UserError if two folders hold one of them."""
    folders = rows[["task", "seed", "folder"]].drop_duplicates()
    again = folders[folders.duplicated(["task", "seed"])]
    for _, (task, seed, second) in again.head(1).iterrows():
        first = folders[(folders.task == task) & (folders.seed == seed)].folder.iloc[0]
        raise UserError(
            f"{first} and {second} both hold {name} on {env}, task {task}, seed {seed}: draw them in separate calls"
        )
    rows = rows.drop_duplicates(["task", "seed", "total_step"], keep="last")
    replica = ["task", "seed"]
    replicas = pd.MultiIndex.from_frame(rows[replica]).unique()
    of_replicas = rows.groupby(replica)
    diverged = of_replicas.diverged.first()[replicas].to_numpy(float)
    ends = np.where(np.isinf(diverged), np.inf, of_replicas.total_step.max()[replicas])
    table = rows.pivot(index="total_step", columns=replica, values=[metric, "phase"])
    present = table["phase"][replicas].notna().to_numpy()
    steps = table.index.to_numpy(int)
    common = (present | (steps[:, None] > ends)).all(1)
    return Series(
        name,
        env,
        value,
        steps=steps[common],
        values=table[metric][replicas].to_numpy(float)[common],
        tasks=replicas.get_level_values("task").to_numpy(),
        diverged=diverged,
        longest=int(rows.total_step.max()),
    )


# ---- of several series


def by_env(series: Iterable[Series]) -> dict[str, list[Series]]:
    """The series of every domain."""
    result: dict[str, list[Series]] = {}
    for one in series:
        result.setdefault(one.env, []).append(one)
    return result


def labels(series: Iterable[Series]) -> list[str]:
    """Each label once."""
    return list(dict.fromkeys(one.label for one in series))


def common_steps(series: Sequence[Series]) -> list[int]:
    """The steps that all of them have."""
    return sorted(set.intersection(*(set(one.steps.tolist()) for one in series)))


def value_range(one: Series) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest replica at each step; nan where a replica has no value."""
    return one.values.min(1), one.values.max(1)


def until_diverged(one: Series) -> Series:
    """The series with infinity for what a replica's training says after it has diverged."""
    after = one.steps[:, None] > one.diverged
    nothing = np.isnan(one.values) & (one.steps[:, None] >= one.diverged)  # it diverged at the interval's first update
    return one._replace(values=np.where(after | nothing, np.inf, one.values))
