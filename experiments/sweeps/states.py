"""What has become of a sweep's jobs, read from their runs' folders and their logs, whatever started them.

Imports no JAX as long as the runs are of this version: `status` is to answer at once.
"""

import math
import pathlib
import platform
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.cli import EXIT_INTERRUPTED
from experiments.row_format import BC_PREFIX, PHASES, flatten
from experiments.sweeps import logs
from experiments.sweeps.logs import Attempt
from experiments.sweeps.manifest import Job, Sweep
from experiments.training.csv_rows import last_rows
from experiments.training.time_left import Pace, in_words
from trqam_jax.errors import UserError
from trqam_jax.files import read_json

#: A run writes at least its progress bar to its log, every half a minute except in an evaluation.
SILENCE = 1800


class Run(NamedTuple):
    """The folder of a job's run, its settings by flat key, and how far it is: the last row of train.csv.

    tables: the folder whose rows tell; of a BC job that of behaviour cloning itself.
    """

    folder: pathlib.Path
    tables: pathlib.Path
    config: Mapping[str, Any]
    phase: str
    step: int

    @property
    def place(self) -> str:
        """Phase and step; empty before there is a row."""
        return f"{self.phase} {self.step:,}" if self.phase else ""

    def pace(self) -> Pace:
        """How fast it goes, by the end of times.csv."""
        pace, path = Pace(), self.tables / "times.csv"
        for row in last_rows(path, 1000):
            if row.get("updates_per_second"):
                pace.trained(_phase(path, row), _number(path, row, "updates_per_second"))
            if row.get("eval_seconds"):
                pace.evaluated(_number(path, row, "eval_seconds"))
        return pace

    def silent_for(self, log: pathlib.Path) -> float:
        """Seconds since a table or the log was written."""
        files = (log, *(self.tables / f"{name}.csv" for name in ("train", "eval", "times")))
        return time.time() - max(path.stat().st_mtime for path in files if path.exists())


def _phase(path: pathlib.Path, row: Mapping[str, str]) -> str:
    """Of a row; UserError if it is none."""
    if row.get("phase") not in PHASES:
        raise _damaged(path, row, "phase", f"one of {', '.join(PHASES)}")
    return row["phase"]


def _number(path: pathlib.Path, row: Mapping[str, str], column: str) -> float:
    """What a row has in the column; UserError if it is no finite number."""
    try:
        number = float(row.get(column, ""))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _damaged(path, row, column, "a number")
    return number


def _damaged(path: pathlib.Path, row: Mapping[str, str], column: str, expected: str) -> UserError:
    what = f"{column} is {row.get(column)!r:.60} in one of its last rows, expected {expected}"
    return UserError(f"{path}: damaged, {what}; mend it or move it away")


class State(NamedTuple):
    """kind: done, failed, waiting, interrupted (and to be continued), queued and running, as far as a scheduler or this
    machine knows, elsewhere (started on another host, and heard of since), or stale (started, not ended, and gone)."""

    kind: str
    place: str = ""  # phase and step of the last row of train.csv
    error: str = ""  # why it failed, or is taken to be gone


class Runs:
    """The runs of a sweep's jobs. Every config.json is read once."""

    def __init__(self, sweep: Sweep):
        self._root = sweep.folder.parent
        self._read: dict[tuple[str, str], list[tuple[pathlib.Path, dict[str, Any]]]] = {}
        self._found: dict[str, Run | None] = {}

    def of(self, job: Job) -> Run | None:
        """None before it has a folder. The newest, where only the data's content differs."""
        if job.name not in self._found:
            self._found[job.name] = self._find(job)
        return self._found[job.name]

    def _find(self, job: Job) -> Run | None:
        found = self._newest(job, job.agent)
        if found is None:
            return None
        folder, config = found
        cloning = self._newest(job, BC_PREFIX) if job.agent == "bc" else None
        tables = cloning[0] if cloning else folder
        path = tables / "train.csv"
        rows = last_rows(path, 2000)
        phase, step = (_phase(path, rows[-1]), int(_number(path, rows[-1], "step"))) if rows else ("", 0)
        return Run(folder, tables, config, phase, step)

    def _newest(self, job: Job, prefix: str) -> tuple[pathlib.Path, dict[str, Any]] | None:
        """The folder of this prefix, and its settings."""
        key = job.env, prefix
        if key not in self._read:
            paths = (self._root / job.env).glob(f"{prefix}-*/config.json")
            self._read[key] = [(path, flatten(read_json(path))) for path in paths]
        alike = [(path, stored) for path, stored in self._read[key] if _is_of(stored, job)]
        if not alike:
            return None
        path, stored = max(alike, key=lambda found: found[0].stat().st_mtime)
        return path.parent, stored


def _is_of(stored: dict[str, Any], job: Job) -> bool:
    """Whether the settings are those of the job, later ones than its version has being at their defaults."""
    if job.settings.items() <= stored.items():
        return True
    if any(key in stored and stored[key] != value for key, value in job.settings.items()):
        return False
    from experiments.sweeps.merge import complete

    whole = complete(job.agent, stored)
    return all(whole.get(key) == value for key, value in job.settings.items())


def all_states(sweep: Sweep, under_way: Mapping[str, str], runs: Runs | None = None) -> dict[str, State]:
    """By the job's name."""
    runs = runs or Runs(sweep)
    return {name: state(sweep, job, under_way, runs) for name, job in sweep.jobs.items()}


def state(sweep: Sweep, job: Job, under_way: Mapping[str, str], runs: Runs | None = None) -> State:
    """What has become of the job. under_way: {name: running or queued}, as a scheduler has it."""
    run = (runs or Runs(sweep)).of(job)
    place = run.place if run else ""
    if run and (run.folder / "DONE").exists():
        return State("done", place)
    log = sweep.log(job.name)
    attempt = logs.last_attempt(log)
    if job.name in under_way:
        return State(under_way[job.name], place)
    if attempt and attempt.pid is not None and attempt.status is None:
        return _unended(attempt, sweep.program, place, log, run)
    if attempt and attempt.status not in (None, 0, EXIT_INTERRUPTED):
        return State("failed", place, attempt.error)
    started = run or (attempt and attempt.status != 0)
    return State("interrupted" if started else "waiting", place)


def _unended(attempt: Attempt, program: str, place: str, log: pathlib.Path, run: Run | None) -> State:
    """Of a job that was started, and whose end nobody has written down."""
    if attempt.is_running(program):
        return State("running", place)
    if attempt.host == platform.node():
        return State("stale", place, f"process {attempt.pid} is gone, and did not say why")
    silent = run.silent_for(log) if run else time.time() - log.stat().st_mtime
    evaluation = run.pace().eval_seconds if run else None
    where = f"on {attempt.host}, last heard of {in_words(max(0, silent))} ago"
    return State("elsewhere" if silent < max(SILENCE, 3 * (evaluation or 0)) else "stale", place, where)
