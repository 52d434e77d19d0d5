"""Where the jobs of a sweep run: a pool on this machine, or Slurm. Imports no JAX."""

import getpass
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from experiments.cli import EXIT_INTERRUPTED
from experiments.sweeps import attempt, manifest
from experiments.sweeps.manifest import Job, Sweep
from experiments.training import interrupt
from trqam_jax.errors import UserError
from trqam_jax.files import read_json, write_json

POLL_SECONDS = 0.1
ENDS = {0: "done", EXIT_INTERRUPTED: "interrupted"}  # by exit status
Say = Callable[[str], None]


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def places(count: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """The environments of `count` jobs at a time: the GPUs in turn; a job has several, or several jobs share one."""
    if not gpus:
        return [{} for _ in range(count)]
    result = [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i::count] or [gpus[i % len(gpus)]])} for i in range(count)]
    sharing = -(-count // len(gpus))
    if sharing > 1 and not {"XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"} & os.environ.keys():
        result = [place | {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.2f}"} for place in result]
    return result


def run_local(sweep: Sweep, done: Collection[str], environments: Sequence[Mapping[str, str]], say: Say) -> None:
    """Run the sweep's jobs, as many at a time as there are environments, each after the jobs that it names.

    done: names of jobs that need not run. One that fails stops none but those that come after it. A signal makes all
    of them checkpoint and stop, and raises Interrupted when they have.
    """
    finished, waiting, stopping = set(done), dict(sweep.jobs), False
    running: dict[str, tuple[subprocess.Popen, Mapping[str, str]]] = {}
    free = list(environments)
    ready = lambda: [name for name, job in waiting.items() if set(job.after) <= finished]
    with interrupt.watched():
        while running or ready():
            if interrupt.pending() and not stopping:
                say(f"{len(running)} job(s) are asked to checkpoint and stop")
                stopping, waiting = True, {}
                for process, _ in running.values():
                    process.terminate()
            for name in ready()[: len(free)]:
                place = free.pop(0)
                running[name] = _start(sweep, waiting.pop(name), place), place
                say(" ".join(["started", name, *(f"{key}={value}" for key, value in place.items())]))
            time.sleep(POLL_SECONDS)
            for name, (process, place) in list(running.items()):
                if process.poll() is not None:
                    # Stopped before it had come to listen for signals: nothing is lost.
                    early = stopping and process.returncode == -signal.SIGTERM
                    status = EXIT_INTERRUPTED if early else process.returncode
                    with sweep.log(name).open("a") as log:
                        log.write(manifest.end_line(status))
                    del running[name]
                    free.append(place)
                    finished |= {name} if status == 0 else set()
                    say(f"{ENDS.get(status, 'failed')} {name}")


def _start(sweep: Sweep, job: Job, place: Mapping[str, str]) -> subprocess.Popen:
    """In a session of its own: Ctrl-C at the terminal reaches the pool alone, which passes it on."""
    sweep.log(job.name).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, attempt.__file__, str(sweep.folder), job.name]
    return subprocess.Popen(command, env={**os.environ, **place}, stdin=subprocess.DEVNULL, start_new_session=True)


#: What a job asks of Slurm if --slurm does not: a day, and two minutes to checkpoint before the time is over.
SLURM_DEFAULTS: Mapping[str, Any] = {"time": 1440, "signal_delay_s": 120}


def submit_slurm(sweep: Sweep, done: Collection[str], queued: Collection[str], options: Mapping[str, Any]) -> list[str]:
    """Hand the sweep's jobs to Slurm, as arrays of those that come after the same jobs; returns a line about each.

    done, queued: names of jobs that are not to be submitted. options: settings of submitit's SlurmExecutor.
    A job that checkpoints and stops because its time is over is requeued by its batch script. If Slurm itself ends the
    job, to preempt or to cancel it, the batch script ends, too, and Slurm alone decides what follows.
    """
    ids = _submitted(sweep)
    arrays: dict[tuple[str, ...], list[Job]] = {}
    for job in sweep.jobs.values():
        if job.name not in done and job.name not in queued:
            arrays.setdefault(tuple(name for name in job.after if name not in done), []).append(job)
    lines = []
    for after in sorted(arrays, key=len):  # what others come after has its id by then
        jobs = arrays[after]
        made = _submit_array(sweep, jobs, [ids[name] for name in after], options)
        ids |= {job.name: id for job, id in zip(jobs, made, strict=True)}
        write_json(sweep.folder / "submitted.json", ids)
        lines.append(f"submitted {made[0]} to {made[-1]}: {', '.join(job.name for job in jobs)}")
    return lines


def _submitted(sweep: Sweep) -> dict[str, str]:
    path = sweep.folder / "submitted.json"
    return read_json(path) if path.exists() else {}


def _submit_array(sweep: Sweep, jobs: Sequence[Job], after: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    try:
        import submitit
    except ImportError:
        raise UserError('--engine=slurm needs submitit: pip install -e ".[slurm]"') from None
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            raise UserError(f"--engine=slurm: {command} is not on this machine; start it where Slurm's commands are")
    options = {"job_name": f"sweep-{sweep.folder.parent.name}", **SLURM_DEFAULTS, **options}
    # As submitit would have it, USR2 would be sent, which ends the run instead of making it checkpoint.
    more = {"requeue": True, "kill-on-invalid-dep": "yes", "signal": f"USR1@{options['signal_delay_s']}"}
    if after:
        more["dependency"] = "afterok:" + ":".join(after)
    logs = " ".join(shlex.quote(str(sweep.log(job.name))) for job in jobs)
    root = shlex.quote(str(pathlib.Path(__file__).resolve().parents[2]))
    try:
        executor = submitit.SlurmExecutor(sweep.folder / "slurm")
        executor.update_parameters(
            **options,
            setup=[
                f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}",
                f"logs=({logs})",
                'log="${logs[${SLURM_ARRAY_TASK_ID:-0}]}"',
            ],
            teardown=[
                "status=$?",
                f'printf {shlex.quote(manifest.end_line("%d"))} $status >> "$log"',
                f'if [ $status -eq {EXIT_INTERRUPTED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
                "exit $status",
            ],
            additional_parameters=more,
        )
        sweep.log(jobs[0].name).parent.mkdir(parents=True, exist_ok=True)
        with executor.batch():
            made = [executor.submit(attempt.become, str(sweep.folder), job.name) for job in jobs]
    except ValueError as error:
        raise UserError(f"--slurm: {' '.join(str(error).split())}") from error
    except (submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"Slurm took no job: {' '.join(str(error).split())}") from error
    return [job.job_id for job in made]


def in_slurm(sweep: Sweep) -> dict[str, str]:
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
