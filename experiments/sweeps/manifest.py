"""A sweep's jobs as a file. Imports no JAX.

{out_dir}/{group}/sweep/manifest.json      every job with its exact arguments
{out_dir}/{group}/sweep/logs/NAME.log      the output of its attempts, see logs.py
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from trqam_jax.errors import UserError
from trqam_jax.files import expand, read_json, write_json


class Job(NamedTuple):
    """One run of main.py."""

    name: str
    agent: str
    env: str
    argv: list[str]
    after: list[str]  # names of the jobs that must be done before
    replicas: int
    updates: int  # of each replica
    settings: dict[str, Any]  # by flat key, as JSON reads them: what tells its run from others


class Sweep(NamedTuple):
    """folder: absolute, {out_dir}/{group}/sweep. Jobs run `program` in the folder `cwd`."""

    folder: pathlib.Path
    program: str
    cwd: str
    jobs: dict[str, Job]

    def log(self, name: str) -> pathlib.Path:
        """Where a job's output goes."""
        return self.folder / "logs" / f"{name.replace('/', '_')}.log"

    def only(self, names: Iterable[str]) -> "Sweep":
        """The sweep with these jobs alone, in its order."""
        wanted = set(names)
        return self._replace(jobs={name: job for name, job in self.jobs.items() if name in wanted})


def folder_of(out_dir: str, group: str) -> pathlib.Path:
    """Where the sweep of that group is kept, absolute."""
    return expand(out_dir).resolve() / group / "sweep"


def exists(folder: pathlib.Path) -> bool:
    """Whether a sweep's manifest lies there."""
    return (folder / "manifest.json").exists()


def read(folder: pathlib.Path) -> Sweep:
    """The sweep whose manifest lies there, or a UserError. Its runs lie beside it, wherever it was planned."""
    path = folder / "manifest.json"
    if not path.exists():
        raise UserError(f"{path}: there is no sweep; --out_dir and --group name it, or start it by --agents and --envs")
    content = read_json(path, ("program", "cwd", "jobs"))
    try:
        jobs = [Job(**job) for job in content["jobs"]]
        for value in (content["program"], content["cwd"]):
            _check(value, "a path", str)
        for job in jobs:
            for value in (job.name, job.agent, job.env):
                _check(value, job.name, str)
            for value in (job.replicas, job.updates):
                _check(value, job.name, int)
            for values in (job.argv, job.after):
                _check(values, job.name, list)
                for value in values:
                    _check(value, job.name, str)
            _check(job.settings, job.name, dict)
    except TypeError as error:
        raise UserError(f"{path}: damaged, or of another version ({error})") from error
    by_name: dict[str, Job] = {}
    for job in jobs:
        if job.name in by_name:
            raise UserError(f"{path}: damaged, two jobs are called {job.name}; remove one of them")
        for other in job.after:
            if other not in by_name:
                raise UserError(
                    f"{path}: damaged, {job.name} comes after {other!r:.80}, and no such job stands above it"
                )
        by_name[job.name] = job._replace(argv=[_in_place(argument, folder) for argument in job.argv])
    return Sweep(folder, content["program"], content["cwd"], by_name)


def _in_place(argument: str, folder: pathlib.Path) -> str:
    """An argument of a job, with where the sweep's folder is now in place of where it was planned."""
    places = {"--out_dir": folder.parents[1], "--group": folder.parent.name}
    flag = argument.partition("=")[0]
    return f"{flag}={places[flag]}" if flag in places else argument


def _check(value: Any, where: Any, kind: type) -> None:
    """TypeError unless the value is of that kind."""
    if type(value) is not kind:
        raise TypeError(f"{value!r:.60} of {where!r:.60}, expected {kind.__name__}")


def write(sweep: Sweep) -> None:
    """Atomically."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    content = {"program": sweep.program, "cwd": sweep.cwd, "jobs": [job._asdict() for job in sweep.jobs.values()]}
    write_json(sweep.folder / "manifest.json", content)


def as_json(value: Any) -> Any:
    """The value as it is after it was written and read: tuples are lists."""
    return json.loads(json.dumps(value))
