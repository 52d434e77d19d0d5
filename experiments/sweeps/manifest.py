"""A sweep's jobs as a file, and what each has left behind so far. Imports no JAX.

    {out_dir}/{group}/sweep/manifest.json      every job with its exact arguments
    {out_dir}/{group}/sweep/logs/NAME.log      the output of its attempts, between the lines `== start` and `== end`

What a job has done is read from its run's folder and its log, whatever started it.
"""

import json
import os
import pathlib
import platform
import re
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments.cli import EXIT_INTERRUPTED
from trqam_jax.errors import UserError
from trqam_jax.files import read_json, write_json


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
    return pathlib.Path(out_dir).expanduser().resolve() / group / "sweep"


def read(folder: pathlib.Path) -> Sweep:
    """The sweep whose manifest lies there, or a UserError."""
    path = folder / "manifest.json"
    if not path.exists():
        raise UserError(f"{path}: there is no sweep; --out_dir and --group name it, or start it by --agents and --envs")
    content = read_json(path, ("program", "cwd", "jobs"))
    try:
        jobs = [Job(**job) for job in content["jobs"]]
    except TypeError as error:
        raise UserError(f"{path}: damaged, or of another version ({error})") from error
    return Sweep(folder, content["program"], content["cwd"], {job.name: job for job in jobs})


def write(sweep: Sweep) -> None:
    """Atomically."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    content = {"program": sweep.program, "cwd": sweep.cwd, "jobs": [job._asdict() for job in sweep.jobs.values()]}
    write_json(sweep.folder / "manifest.json", content)


def merged(new: Sweep) -> Sweep:
    """The sweep on the disk with the jobs that `new` adds to it. A UserError if it has one of them otherwise."""
    if not (new.folder / "manifest.json").exists():
        return new
    old = read(new.folder)
    for job in new.jobs.values():
        _refuse_overlap(new.folder, job, [other for name, other in old.jobs.items() if name not in new.jobs])
    for name, job in new.jobs.items():
        before = old.jobs.get(name, job)
        if (before.argv, before.after) != (job.argv, job.after):
            was, now = (" ".join(a for a in x.argv if a not in y.argv) for x, y in ((before, job), (job, before)))
            raise UserError(
                f"{new.folder}: the sweep there has {name} with {was or 'nothing more'}, not with "
                f"{now or 'nothing more'}; choose another --group"
            )
    return old._replace(program=new.program, jobs=old.jobs | new.jobs)


def _refuse_overlap(folder: pathlib.Path, job: Job, others: Iterable[Job]) -> None:
    """A UserError if another job of the sweep has some of this one's KL budgets: they would be trained twice."""
    value = lambda job: job.settings.get("agent.kl_budget", [])
    budgets = lambda job: set(value(job) if isinstance(value(job), list) else [value(job)])
    rest = lambda job: {key: value for key, value in job.settings.items() if key != "agent.kl_budget"}
    for other in others:
        both = budgets(job) & budgets(other)
        if both and rest(job) == rest(other) and budgets(job) != budgets(other):
            raise UserError(
                f"{folder}: the sweep there has {other.name}, with the KL budgets {sorted(both)} already; "
                "ask for the others alone, or choose another --group"
            )


class State(NamedTuple):
    """kind: done, running, queued, failed, interrupted (and to be continued) or waiting."""

    kind: str
    place: str = ""  # phase and step of the last row of train.csv
    error: str = ""


def state(sweep: Sweep, job: Job, under_way: Mapping[str, str]) -> State:
    """What has become of the job. under_way: {name: running or queued}, as a scheduler has it."""
    folder = run_folder(sweep, job)
    place = last_place(folder) if folder else ""
    if folder and (folder / "DONE").exists():
        return State("done", place)
    attempt = last_attempt(sweep.log(job.name))
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
        stored = _flat(read_json(path))
        if all(stored.get(key) == value for key, value in job.settings.items()):
            found.append(path)
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in content.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def as_json(value: Any) -> Any:
    """The value as it is after it was written and read: tuples are lists."""
    return json.loads(json.dumps(value))


def last_place(folder: pathlib.Path) -> str:
    """Phase and step of the last whole row of train.csv, empty before there is one."""
    path = folder / "train.csv"
    header, *rows = path.read_text().split("\n")[:-1] if path.exists() else [""]
    if not rows:
        return ""
    row = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    return f"{row['phase']} {int(row['step']):,}"


class Attempt(NamedTuple):
    """The last time that a job was started, as its log has it."""

    pid: int | None
    host: str
    status: int | None  # None: it has not ended, or nobody was left to say so
    error: str

    def is_running(self, program: str) -> bool:
        """Whether the process is there, as far as this machine can tell."""
        if self.status is not None or self.pid is None or self.host != platform.node():
            return False
        try:
            return os.fsencode(program) in pathlib.Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False


def start_line(command: list[str]) -> str:
    """The line of a log that an attempt begins with, for the process that writes it; what is before may have no end."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"\n== start: pid {os.getpid()} on {platform.node()}, {when}: {' '.join(command)}\n"


def end_line(status: int | str) -> str:
    """The line of a log that an attempt ends with."""
    return f"\n== end: status {status}\n"


def last_attempt(log: pathlib.Path) -> Attempt | None:
    """None if the job was never started."""
    if not log.exists():
        return None
    text = log.read_text(errors="replace")
    starts = list(re.finditer(r"^== start: pid (\d+) on (.*), \S+ \S+: .*$", text, re.MULTILINE))
    pid, host, text = (int(starts[-1][1]), starts[-1][2], text[starts[-1].end() :]) if starts else (None, "", text)
    ends = re.findall(r"^== end: status (-?\d+)$", text, re.MULTILINE)
    status = int(ends[-1]) if ends else None
    return Attempt(pid, host, status, _error(text, status))


def _error(text: str, status: int | None) -> str:
    """The last line that says `error:`, else the last one at all, and the signal that ended the process."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("== ")]
    words = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
    number = -status if status and status < 0 else (status or 0) - 128  # as Python has it, and as a shell
    if number > 0 and number in set(signal.Signals):
        killed = f"ended by {signal.Signals(number).name}" + " (out of memory?)" * (number == signal.SIGKILL)
        return f"{killed}; {words}" if words else killed
    return words or f"ended with status {status}"
