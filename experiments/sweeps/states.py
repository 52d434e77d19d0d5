"""What has become of a sweep's jobs, read from their runs' folders and their logs, whatever started them."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from experiments.analysis.rows import last_step
from experiments.cli import EXIT_INTERRUPTED
from experiments.config import flatten
from experiments.sweeps import logs
from experiments.sweeps.manifest import Job, Sweep
from experiments.sweeps.merge import complete
from trqam_jax.files import read_json


class State(NamedTuple):
    """kind: done, running, queued, failed, interrupted (and to be continued) or waiting."""

    kind: str
    place: str = ""  # phase and step of the last row of train.csv
    error: str = ""


def all_states(sweep: Sweep, under_way: Mapping[str, str]) -> dict[str, State]:
    """By the job's name."""
    return {name: state(sweep, job, under_way) for name, job in sweep.jobs.items()}


def state(sweep: Sweep, job: Job, under_way: Mapping[str, str]) -> State:
    """What has become of the job. under_way: {name: running or queued}, as a scheduler has it."""
    folder = run_folder(sweep, job)
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


def run_folder(sweep: Sweep, job: Job) -> pathlib.Path | None:
    """The folder of the job's run, None before it has one. The newest, where only the data's content differs."""
    found = []
    for path in (sweep.folder.parent / job.env).glob(f"{job.agent}-*/config.json"):
        stored = complete(job.agent, flatten(read_json(path)))
        if all(stored.get(key) == value for key, value in job.settings.items()):
            found.append(path)
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def last_place(folder: pathlib.Path) -> str:
    """Phase and step of the last row of train.csv, empty before there is one."""
    last = last_step(folder)
    return "{} {:,}".format(*last) if last else ""
