"""The jobs of a sweep on Slurm. Imports no JAX."""

import getpass
import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from experiments.cli import EXIT_DEVICE_FAILED, EXIT_INTERRUPTED
from experiments.sweeps import attempt, logs
from experiments.sweeps.manifest import Job, Sweep
from trqam_jax.errors import UserError
from trqam_jax.files import read_json, write_json

#: What a job asks of Slurm if --slurm does not: a day, and two minutes to checkpoint before the time is over.
DEFAULTS: Mapping[str, Any] = {"time": 1440, "signal_delay_s": 120}
#: Slurm takes no more in one, unless a cluster's MaxArraySize says otherwise.
MOST_IN_AN_ARRAY = 1000


def parse_options(texts: Iterable[str], jobs: int | None = None) -> dict[str, int | str]:
    """The settings of submitit's SlurmExecutor that texts KEY=VALUE mean.

    jobs: at most so many of an array at a time. UserError at another text.
    """
    options: dict[str, int | str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UserError(f"--slurm={text}: expected KEY=VALUE, like --slurm=partition=gpu")
        options[key] = int(value) if value.isdecimal() else value
    if jobs:
        options["array_parallelism"] = jobs
    return options


def submit(sweep: Sweep, done: Collection[str], queued: Collection[str], options: Mapping[str, Any]) -> list[str]:
    """Hand the sweep's jobs to Slurm, as arrays of those that come after the same jobs; returns a line about each.

    done, queued: names of jobs that are not to be submitted. options: settings of submitit's SlurmExecutor.
    A job that checkpoints and stops because its time is over is requeued by its batch script, and so is one whose
    device failed, unless that has happened MOST times in a row. If Slurm itself ends the job, to preempt or to cancel
    it, the batch script ends, too, and Slurm alone decides what follows.
    """
    ids = _submitted(sweep)
    arrays: dict[tuple[str, ...], list[Job]] = {}
    for job in sweep.jobs.values():
        if job.name not in done and job.name not in queued:
            after = tuple(name for name in job.after if name not in done)
            arrays.setdefault(after, []).append(job)
    lines = []
    for after in sorted(arrays, key=len):  # what others come after has its id by then
        for start in range(0, len(arrays[after]), MOST_IN_AN_ARRAY):
            jobs = arrays[after][start : start + MOST_IN_AN_ARRAY]
            made = _submit_array(sweep, jobs, [ids[name] for name in after], options)
            ids |= {job.name: id for job, id in zip(jobs, made, strict=True)}
            write_json(sweep.folder / "submitted.json", ids)
            lines.append(f"submitted {made[0]} to {made[-1]}: {', '.join(job.name for job in jobs)}")
    return lines


def _submitted(sweep: Sweep) -> dict[str, str]:
    path = sweep.folder / "submitted.json"
    return read_json(path) if path.exists() else {}


def _submit_array(sweep: Sweep, jobs: Sequence[Job], after: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Returns Slurm's id of each job."""
    submitit = _import_submitit()
    options = {"job_name": f"sweep-{sweep.folder.parent.name}", **DEFAULTS, **options}
    # As submitit would have it, USR2 would be sent, which ends the run instead of making it checkpoint.
    more = {"requeue": True, "kill-on-invalid-dep": "yes", "signal": f"USR1@{options['signal_delay_s']}"}
    if after:
        more["dependency"] = "afterok:" + ":".join(after)
    try:
        executor = submitit.SlurmExecutor(sweep.folder / "slurm")
        setup, teardown = _script(sweep, jobs)
        executor.update_parameters(**options, setup=setup, teardown=teardown, additional_parameters=more)
        sweep.log(jobs[0].name).parent.mkdir(parents=True, exist_ok=True)
        with executor.batch():
            made = [executor.submit(attempt.become, str(sweep.folder), job.name) for job in jobs]
    except ValueError as error:
        raise UserError(f"--slurm: {' '.join(str(error).split())}") from error
    except (submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"Slurm took no job: {' '.join(str(error).split())}") from error
    return [job.job_id for job in made]


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError('--engine=slurm needs submitit: pip install -e ".[slurm]"') from None
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            raise UserError(f"--engine=slurm: {command} is not on this machine; start it where Slurm's commands are")
    return submitit


def _script(sweep: Sweep, jobs: Sequence[Job]) -> tuple[list[str], list[str]]:
    """The lines of an array's batch script before and after the job: they write down how it ended, and requeue it."""
    files = " ".join(shlex.quote(str(sweep.log(job.name))) for job in jobs)
    root = shlex.quote(str(pathlib.Path(__file__).resolve().parents[2]))
    setup = [
        f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"logs=({files})",
        'log="${logs[${SLURM_ARRAY_TASK_ID:-0}]}"',
    ]
    teardown = [
        "status=$?",
        f'printf {shlex.quote(logs.end_line("%d"))} $status >> "$log"',
        f"failed=$(grep '^== end: ' \"$log\" | tail -n {attempt.MOST} | grep -c ' {EXIT_DEVICE_FAILED}$')",
        f"if [ $status -eq {EXIT_INTERRUPTED} ] || [ $status -eq {EXIT_DEVICE_FAILED} -a $failed -lt {attempt.MOST} ]",
        'then scontrol requeue "$SLURM_JOB_ID"; fi',
        "exit $status",
    ]
    return setup, teardown


def under_way(sweep: Sweep) -> dict[str, str]:
    """{name: running or queued} of the sweep's jobs that Slurm has; a UserError if it does not answer."""
    ids = _submitted(sweep)
    if not ids or shutil.which("squeue") is None:
        return {}
    command = ["squeue", f"--user={getpass.getuser()}", "--noheader", "--array", "--format=%i %T"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise UserError(f"squeue: {answer.stderr.strip()}")
    kinds = dict(line.split() for line in answer.stdout.splitlines())
    return {
        name: "running" if kinds[id] in ("RUNNING", "COMPLETING") else "queued"
        for name, id in ids.items()
        if id in kinds
    }
