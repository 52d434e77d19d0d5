"""What has become of a sweep's jobs, read from their runs' folders and their logs, whatever started them.

It imports neither JAX nor pandas: the states of a thousand jobs are there in less time than those take.
"""

import pathlib
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from experiments.cli import EXIT_INTERRUPTED
from experiments.row_format import flatten
from experiments.sweeps import logs
from experiments.sweeps.manifest import Job, Sweep
from experiments.training.csv_rows import last_row
from trqam_jax.errors import UserError
from trqam_jax.files import read_json


class State(NamedTuple):
    """kind: done, running, queued, failed, interrupted (and to be continued) or waiting."""

    kind: str
    place: str = ""  # phase and step of the last row of train.csv
    error: str = ""


class Runs:
    """The runs of a group, found by the settings of jobs. Every configuration is read once."""

    def __init__(self, group: pathlib.Path):
        self._group = group
        self._stored: dict[tuple[str, str], dict[pathlib.Path, dict[str, Any]]] = {}
        self._found: dict[tuple[str, ...], dict[Hashable, list[pathlib.Path]]] = {}

    def folder(self, job: Job) -> pathlib.Path | None:
        """Of the job's run, None before it has one. The newest, where only the data's content differs."""
        keys = (job.agent, job.env, *job.settings)
        if keys not in self._found:
            self._found[keys] = self._by_settings(job)
        paths = self._found[keys].get(_hashable([*job.settings.values()]), [])
        return max(paths, key=lambda path: path.stat().st_mtime).parent if paths else None

    def _by_settings(self, like: Job) -> dict[Hashable, list[pathlib.Path]]:
        """The configurations of the job's agent and domain by their values of the settings that the job has."""
        kind = like.agent, like.env
        if kind not in self._stored:
            paths = (self._group / like.env).glob(f"{like.agent}-*/config.json")
            self._stored[kind] = {path: flatten(read_json(path)) for path in paths}
        result: dict[Hashable, list[pathlib.Path]] = {}
        for path, stored in self._stored[kind].items():
            if not like.settings.keys() <= stored.keys():
                from experiments.sweeps.merge import complete

                stored = complete(like.agent, stored)
            result.setdefault(_hashable([stored.get(key) for key in like.settings]), []).append(path)
        return result


def _hashable(value: Any) -> Hashable:
    """The value with tuples in place of lists."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def all_states(sweep: Sweep, under_way: Mapping[str, str]) -> dict[str, State]:
    """By the job's name."""
    runs = Runs(sweep.folder.parent)
    return {name: state(sweep, job, under_way, runs) for name, job in sweep.jobs.items()}


def state(sweep: Sweep, job: Job, under_way: Mapping[str, str], runs: Runs | None = None) -> State:
    """What has become of the job. under_way: {name: running or queued}, as a scheduler has it. runs: the group's."""
    folder = (runs or Runs(sweep.folder.parent)).folder(job)
    place = last_place(folder) if folder else ""
    if folder and (folder / "DONE").exists():
        return State("done", place)
    attempt = logs.last_attempt(sweep.log(job.name))
    if job.name in under_way or (attempt and attempt.is_running(sweep.program)):
        return State(under_way.get(job.name, "running"), place)
    if attempt and attempt.status not in (None, 0, EXIT_INTERRUPTED):
        return State("failed", place, attempt.error)
    started = folder or (attempt and attempt.status != 0)
    return State("interrupted" if started else "waiting", place)


def last_place(folder: pathlib.Path) -> str:
    """Phase and step of the last row of train.csv, empty before there is one."""
    row = last_row(folder / "train.csv")
    if row is None:
        return ""
    try:
        return f"{row['phase']} {int(row['step']):,}"
    except (KeyError, ValueError) as error:
        raise UserError(f"{folder / 'train.csv'}: damaged, its last row has no phase and step ({row})") from error
