"""The papers' released results: pickles of {(scope, method): success (evaluations, seeds)}, in fractions.

A scope is a task's full name, a domain's title or "all". Evaluations are 50,000 updates apart, the online ones after
the offline ones; of a method that was only trained online there may be only those. What was not evaluated is nan.
"""

import pathlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import envs
from experiments.analysis.cells import ALL, benchmarks, parse_scope, scope
from experiments.analysis.rows import MISSING, REPLICA, Run, Source, groups, label, mixtures, name_unfinished, sources
from experiments.row_format import NO_TASK, OK, PHASES, variant_text
from trqam_jax import download
from trqam_jax.errors import UserError
from trqam_jax.files import cache_folder
from trqam_jax.interop import safe_pickle

INTERVAL, OFFLINE, ONLINE_ROWS = 50_000, 1_000_000, 10

Arrays = dict[tuple[str, str], np.ndarray]  # {(scope, method): (evaluations, seeds)}


class Release(NamedTuple):
    """Where a release is, the shape of its arrays and the protocol they were made under."""

    repository: str  # on GitHub, OWNER/NAME@COMMIT
    file: str
    protocol: str
    rows: int
    seeds: int
    first_step: int  # of row 0; 0 is the BC policy

    @property
    def all_steps(self) -> list[int]:
        """The steps of a full array."""
        return [self.first_step + INTERVAL * i for i in range(self.rows)]

    def steps(self, rows: int) -> list[int] | None:
        """Of an array with so many rows; None if there is no such array."""
        first = {self.rows: self.first_step, ONLINE_ROWS: OFFLINE + INTERVAL}.get(rows)
        return None if first is None else [first + INTERVAL * i for i in range(rows)]


RELEASES = {
    "qam": Release("ColinQiyangLi/qam@main", "qam-exp-data.pkl", "qam", 30, 12, INTERVAL),
    "trqam": Release(
        "yonghdong/trqam@a62ed68916af3f67aa55f5dddce6997449a1c127", "trqam-exp-data.pkl", "trqam", 30, 8, INTERVAL
    ),
    "sqam": Release("yonghdong/sqam@1d2f34f802a8b8c652f8a9d319f698347b02ae1a", "sqam-exp-data.pkl", "trqam", 31, 8, 0),
}
GITHUB = "https://raw.githubusercontent.com"


def phase_of(step: int) -> str:
    """The phase that a release's evaluation at a step belongs to."""
    return "bc" if step == 0 else "offline" if step <= OFFLINE else "online"


# ---- reading


def fetched(release_name: str) -> pathlib.Path:
    """The release's file, downloaded if it is not in the cache. A DownloadError says how to give it by hand."""
    release = RELEASES[release_name]
    bases = [*download.mirrors(), f"{GITHUB}/{release.repository.replace('@', '/')}/exp_data"]
    file = download.RemoteFile(release.file, tuple(f"{base}/{release.file}" for base in bases))
    try:
        return download.fetch(cache_folder() / "released", file, damage=_damage)
    except download.DownloadError as error:
        raise download.DownloadError(
            f"{error}. With the file of https://github.com/{release.repository.partition('@')[0]} at hand: "
            f"table.py FILE.pkl --release={release_name}"
        ) from error


def _damage(path: pathlib.Path) -> str | None:
    """Why a file is no pickle of arrays; None if it is."""
    try:
        _content(path)
    except UserError as error:
        return str(error)
    return None


def load(path: pathlib.Path, release_name: str, phase: str, name: str = "") -> Source:
    """A released file's results in one phase. A UserError if it is not of that shape. name: of the source in tables."""
    release = RELEASES[release_name]
    rows = _rows(path, _content(path), release_name, phase)
    _check_domains(path, rows)
    return Source(name or str(path), release.protocol, release.seeds, rows)


def _content(path: pathlib.Path) -> Arrays:
    """The file's arrays; their shapes are not checked yet."""
    content = safe_pickle.load(path)
    if not (isinstance(content, dict) and content and all(_is_key(key) for key in content)):
        raise UserError(f"{path}: expected a dict with keys (task, domain or 'all'; method)")
    _check_distinct(path, content)
    return content


def _check_distinct(path: pathlib.Path, content: Arrays) -> None:
    """UserError if a domain or a task is there twice, by two of its names."""
    names: dict[tuple[Any, str], str] = {}
    for name, method in content:
        place = (name if name == ALL else parse_scope(name)), method
        if place in names:
            raise UserError(f"{path}: ({name}, {method}) and ({names[place]}, {method}) are the same, expected one")
        names[place] = name


def _rows(path: pathlib.Path, content: Arrays, release_name: str, phase: str) -> pd.DataFrame:
    """The evaluations of a phase as rows of a Source. A UserError if there are none."""
    frames = []
    for (name, method), array in content.items():
        steps = _checked_steps(f"{path}: ({name}, {method})", array, release_name)
        if name != ALL:  # is made anew from the domains
            frames.append(_as_frame(name, method, array, steps, phase, RELEASES[release_name]))
    rows = pd.concat(frames, ignore_index=True) if frames else None
    if rows is None or (rows.status == MISSING).all():
        raise UserError(f"{path}: nothing of phase {phase!r} in it")
    return rows


@dataclass(frozen=True, eq=False)
class ReleasedRun:
    """A method's curves in a released file, with what figures ask a `Run` for."""

    folder: pathlib.Path  # the file, and in it the method
    agent: str
    config: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    eval: pd.DataFrame
    offline_steps: int = OFFLINE
    train: pd.DataFrame = field(default_factory=pd.DataFrame)  # a release has none


def curves(path: pathlib.Path, release_name: str) -> list[ReleasedRun]:
    """Of every method in a released file its learning curves, task by task."""
    release, content = RELEASES[release_name], _content(path)
    frames = []
    for (name, method), array in content.items():
        steps = _checked_steps(f"{path}: ({name}, {method})", array, release_name)
        if name != ALL and parse_scope(name)[1] is not None:
            frames += [_as_frame(name, method, array, steps, phase, release).assign(phase=phase) for phase in PHASES]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"status": []})
    rows = rows[rows.status == OK]
    if rows.empty:
        raise UserError(f"{path}: it has no curve of a task")
    settings = {"released": release_name}
    variant = variant_text(settings)
    return [
        ReleasedRun(
            folder=path / method,
            agent=method,
            config={"protocol": release.protocol},
            variants={variant: settings},
            eval=own.assign(agent=method, variant=variant, total_step=own.step, method=label(method, settings)),
        )
        for method, own in groups(rows, "method")
    ]


def _is_key(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key)


def _checked_steps(where: str, array: Any, name: str) -> list[int]:
    """The steps of the array's rows. A UserError if the release called `name` has no such arrays."""
    release = RELEASES[name]
    if not (isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "fiu"):
        raise UserError(f"{where}: expected an array (evaluations, seeds)")
    rows, seeds = array.shape
    steps = release.steps(rows)
    if steps is None or seeds > release.seeds:
        known = ", ".join(f"{name} ({of.rows}, {of.seeds})" for name, of in RELEASES.items())
        raise UserError(
            f"{where}: shape {array.shape} is none of --release={name}; releases: {known}, at most so many seeds, and "
            f"{ONLINE_ROWS} rows for a method that was only trained online"
        )
    if not np.all(np.isnan(array) | ((array >= 0) & (array <= 1))):
        raise UserError(f"{where}: expected fractions from 0 to 1, it holds {np.nanmin(array)} to {np.nanmax(array)}")
    return steps


def _as_frame(
    name: str, method: str, array: np.ndarray, steps: list[int], phase: str, release: Release
) -> pd.DataFrame:
    """The array's evaluations in the phase as rows of a Source, replica by replica."""
    domain, task = parse_scope(name)
    wanted = [step for step in release.all_steps if phase_of(step) == phase]
    # A replica without an evaluation in the phase stays: it is missing.
    by_seed = pd.DataFrame(np.asarray(array, float), index=steps).reindex(wanted)
    rows = by_seed.melt(var_name="seed", value_name="success", ignore_index=False).rename_axis("step").reset_index()
    rows["status"] = np.where(rows.success.isna(), MISSING, OK)
    return rows.assign(method=method, env=domain, task=NO_TASK if task is None else task).astype({"seed": int})


def _check_domains(path: pathlib.Path, rows: pd.DataFrame) -> None:
    """A line on stderr where a domain is not the mean of its tasks: the domain's own values are used."""
    for (env, method), own in groups(rows, ["env", "method"]):
        tasks = range(1, envs.DOMAINS[env].num_tasks + 1)
        for seed, replica in groups(own, "seed", sort=True):
            by_task = replica.pivot(index="step", columns="task", values="success").dropna(axis="columns", how="all")
            if not {NO_TASK, *tasks} <= set(by_task.columns):
                continue
            if (by_task[NO_TASK] - by_task[[*tasks]].mean(axis=1)).abs().max() > 1e-3:
                where = f"{env}, {method}, seed {seed}"
                print(f"{path}: {where} is not the mean of its tasks; its own values are used", file=sys.stderr)


# ---- writing


def export(runs: list[Run], release_name: str) -> Arrays:
    """The released format of runs. A UserError if they are of another protocol or never evaluate at its steps."""
    release = RELEASES[release_name]
    if problems := mixtures(runs, {f"--release={release_name}": release.protocol}):
        raise UserError("; ".join(problems))
    name_unfinished(runs)
    present = {phase for run in runs for phase in run.eval.phase}
    by_phase = {phase: sources(runs, phase)[0].rows for phase in ("bc", "offline", "online") if phase in present}
    result = dump(by_phase, release)
    seen = {int(step) for phase, rows in by_phase.items() if phase != "bc" for step in rows.step}
    if off := sorted(seen - set(release.all_steps)):
        print(f"left out, as the format has no such rows: steps {', '.join(map(str, off))}", file=sys.stderr)
    if not result or all(np.isnan(array).all() for array in result.values()):
        raise UserError(f"nothing to export: no evaluation at a multiple of {INTERVAL:,} updates")
    return result


def dump(by_phase: Mapping[str, pd.DataFrame], release: Release) -> Arrays:
    """The released format: tasks, and domains and "all" where all tasks are there. Diverged evaluations are nan.

    by_phase: rows of sources in the phases bc, offline and online.
    """
    rows = _at_released_steps(by_phase)
    steps, seeds = release.all_steps, sorted(rows.seed.unique())
    result: Arrays = {}
    for (method, env), own in groups(rows, ["method", "env"], sort=True):
        arrays = []
        for task, replicas in groups(own, "task", sort=True):
            by_seed = replicas[replicas.step.notna()].pivot(index="step", columns="seed", values="success")
            array = by_seed.reindex(index=steps, columns=seeds).to_numpy(float)
            result[scope(env, task), method] = array
            arrays.append(array)
        if len(arrays) == envs.DOMAINS[env].num_tasks:
            result[scope(env), method] = np.mean(arrays, axis=0)
    for method in sorted({method for _, method in result}):
        complete = [own for own in benchmarks().values() if all((domain, method) in result for domain in own)]
        if len(complete) > 1:
            raise UserError(f"{method}: has all of several suites, and the format has one {ALL!r}; export them apart")
        for own in complete:
            result[ALL, method] = np.mean([result[domain, method] for domain in own], axis=0)
    return result


def _at_released_steps(by_phase: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The evaluations of all phases; the step is nan where the format's phase of it is another one."""
    frames = []
    for phase, rows in by_phase.items():
        if phase == "bc":  # the BC policy, however many updates made it, is the release's step 0
            rows = rows.sort_values("step", kind="stable").drop_duplicates(REPLICA, keep="last").assign(step=0)
        frames.append(rows.assign(step=rows.step.where(rows.step.map(phase_of) == phase)))
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(success=rows.success.where(rows.status == OK))
