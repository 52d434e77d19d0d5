"""What reading many runs takes: python -m benchmarks.many_runs --csv=many.csv

Makes the folders of two sweeps, as runs of one replica leave them under the papers' protocol, and starts the commands
that read them, each as a process of its own: seconds, seconds of the processor, and the most memory it held.

    jobs    1,010 jobs, some done, some failed, interrupted or waiting; each that was started has a log of 100 kB
    runs    2,800 finished runs: 7 methods x 50 tasks x 8 seeds, with 21 evaluations and 200 rows of training each

The numbers in the rows mean nothing.
"""

import csv
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

import envs
from experiments import config as configuration
from experiments.cli import EXIT_INTERRUPTED
from experiments.sweeps import logs, manifest, plan
from experiments.training.replica import replicas_of
from experiments.training.stages import FINE_TUNING
from trqam_jax import console
from trqam_jax.versions import versions

FOLDER = flags.DEFINE_string("folder", None, "Where the runs are left, and found again. Default: a temporary one.")
CSV = flags.DEFINE_string("csv", None, "Where the rows are written as well.")
SHARE = flags.DEFINE_integer("share", 1, "Of the seeds one in so many, for a first look.", lower_bound=1)
ONLY = flags.DEFINE_list("only", None, "Which measurements; default: all.")

ROOT = pathlib.Path(__file__).parents[1]
METHODS = ("trqam", "qam", "qam_edit", "qam_fql", "fql", "dsrl", "cgql")
TRAIN = ("critic_loss", "flow_loss", "grad_norm", "q_mean")
TRUST_REGION = ("adjoint_loss", "adjoint_max", *TRAIN, "kl_average", "kl_budget", "lambda", "path_kl")
STEPS, ROW, EVALUATION = 1_000_000, 5_000, 50_000
#: What became of the jobs, in turn.
ENDS = ("done",) * 7 + ("failed", "interrupted", "waiting")


class Row(NamedTuple):
    """One command."""

    command: str
    seconds: float
    processor_seconds: float
    peak_mib: float
    what_it_read: str


# ---- folders


def make(root: pathlib.Path, group: str, methods: Sequence[str], seeds: int, ends: Sequence[str]) -> None:
    """A sweep below root/group over the benchmark's tasks, a job for each method, task and seed; ends: of its jobs."""
    asked = plan.Request(
        agents=methods,
        envs=_domains(),
        tasks="all",
        seeds=None,
        num_seeds=seeds,
        protocol="trqam",
        flags={"out_dir": str(root), "group": group},
        overrides={},
        max_replicas=1,
    )
    folder = manifest.folder_of(str(root), group)
    jobs = plan.expand(asked)
    sweep = manifest.Sweep(folder, str(ROOT / "experiments" / "main.py"), str(root), jobs)
    manifest.write(sweep)
    (folder / "logs").mkdir(exist_ok=True)
    end_of = {name: end for name, end in zip(jobs, itertools.cycle(ends)) if jobs[name].after}
    rng = np.random.default_rng(0)
    for name, job in jobs.items():
        end = end_of.get(name, "done")
        if end != "waiting":
            _make_run(_config(job, root, group), end, rng)
            sweep.log(name).write_text(_log(job, end))


def _domains() -> list[str]:
    return [domain.name for domain in envs.DOMAINS.values() if domain.benchmark and domain.num_tasks == 5]


def _config(job: manifest.Job, root: pathlib.Path, group: str) -> ConfigDict:
    """As main.py makes it of the job's arguments."""
    result = _base(job.agent, job.env, str(root), group).copy_and_resolve_references().unlock()
    result.tasks, result.run.seeds = tuple(job.settings["tasks"]), tuple(job.settings["run.seeds"])
    result.run.part, result.data.fingerprint = job.settings["run.part"], "0123456789abcdef"
    result.eval.episodes, result.eval.video_episodes = job.settings["eval.episodes"], 0
    return result.lock()


_bases: dict[tuple[str, ...], ConfigDict] = {}


def _base(agent: str, env: str, root: str, group: str) -> ConfigDict:
    key = agent, env, root, group
    if key not in _bases:
        where = {"run.out_dir": root, "run.group": group}
        _bases[key] = configuration.resolve(agent=agent, env=env, tasks="all", settings=where)
    return _bases[key]


def _make_run(config: ConfigDict, end: str, rng: np.random.Generator) -> None:
    folder = FINE_TUNING.folder(config)
    folder.mkdir(parents=True)
    content = {**config.to_dict(), "notes": configuration.notes(config)}
    (folder / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True))
    (folder / "versions.json").write_text(json.dumps(versions()))
    if end == "done":
        (folder / "DONE").write_text("{}")
    if config.agent_name == "bc":
        return
    reached = STEPS if end == "done" else STEPS // 2
    (replica,) = replicas_of(config)
    start = f"{config.env},{replica.task},{config.agent_name},{replica.seed},"
    names = TRUST_REGION if config.agent_name.startswith("trqam") else TRAIN
    header = ",".join(["env,task,agent,seed,phase,step,status", *names])
    steps = range(ROW, reached + 1, ROW)
    numbers = rng.lognormal(size=(len(steps), len(names))).astype(np.float32)
    if "kl_budget" in names:
        numbers[:, names.index("kl_budget")] = 1.0  # a run has one, and figures draw a line for each
    metrics = numbers.astype(str).tolist()
    rows = [f"{start}offline,{step},ok,{','.join(own)}" for step, own in zip(steps, metrics, strict=True)]
    (folder / "train.csv").write_text("\n".join([header, *rows, ""]))
    header = "env,task,agent,seed,phase,step,episodes,success,return,length,status"
    steps = range(0, reached + 1, EVALUATION)
    success = rng.integers(0, 51, len(steps)) / 50
    places = [f"offline,{step}" if step else "bc,300000" for step in steps]
    rows = [f"{start}{place},50,{x},{-200 * x},{400 - 200 * x},ok" for place, x in zip(places, success, strict=True)]
    (folder / "eval.csv").write_text("\n".join([header, *rows, ""]))
    rows = [f"offline,{step},{rng.normal(60, 2):.3f},," for step in range(ROW, reached + 1, ROW)]
    rows += [f"offline,{step},,{rng.normal(40, 2):.3f},1234.5" for step in range(EVALUATION, reached + 1, EVALUATION)]
    header = "phase,step,updates_per_second,eval_seconds,env_steps_per_second"
    (folder / "times.csv").write_text("\n".join([header, *rows, ""]))


def _log(job: manifest.Job, end: str) -> str:
    """An attempt of five hours, with a line of the progress bar every 30 seconds."""
    status = {"done": 0, "failed": 1, "interrupted": EXIT_INTERRUPTED}[end]
    bar = "offline:  52%|█████▏    | 520123/1000000 [2:24:12<2:13:03, 60.12step/s]\r"
    last = {"failed": "error: the device's memory is full", "interrupted": "interrupted by SIGTERM"}.get(end, "")
    start = logs.start_line([sys.executable, "-u", "experiments/main.py", *job.argv])
    return f"{start}{bar * 1200}\n{last}\n{logs.end_line(status)}"


# ---- measurements


def commands(root: pathlib.Path) -> Iterator[tuple[str, list[str], str]]:
    """Name, arguments and what is read."""
    where = [f"--out_dir={root}"]
    again = ["--suite=ogbench50", "--max_replicas=1", "--dry_run"]
    five, two, seven = (f"--agents={','.join(part)}" for part in (METHODS[:5], METHODS[5:], METHODS))
    jobs, runs = _size(root, "jobs"), _size(root, "runs")
    yield "sweep.py status", ["sweep.py", "status", *where, "--group=jobs"], jobs
    yield "sweep.py status of more jobs", ["sweep.py", "status", *where, "--group=runs"], runs
    yield "sweep.py --dry_run", ["sweep.py", *where, "--group=jobs", five, _seeds(4), *again], jobs
    yield "sweep.py --dry_run of two more methods", ["sweep.py", *where, "--group=jobs", two, _seeds(4), *again], jobs
    yield "sweep.py where all is done", ["sweep.py", *where, "--group=runs", seven, _seeds(8), *again[:-1]], runs
    folder = str(root / "runs")
    yield "table.py", ["table.py", folder], runs
    yield "table.py --statistics", ["table.py", folder, "--statistics"], runs
    yield "figures.py", ["figures.py", folder, f"--out={root / 'figures'}"], runs
    yield "report.py", ["report.py", folder, f"--out={root / 'report.html'}"], runs


def _seeds(count: int, start: int = 0) -> str:
    return f"--seeds={','.join(map(str, envs.get_protocol('trqam').seeds[start : _share(count) + start]))}"


def _share(seeds: int) -> int:
    return max(1, seeds // SHARE.value)


def _size(root: pathlib.Path, group: str) -> str:
    return f"{len(manifest.read(manifest.folder_of(str(root), group)).jobs):,} jobs"


#: Starts its arguments, and prints seconds, the processor's seconds and KiB at the most. A process of its own: what it
#: starts would count as large as this one, which it is a copy of until it begins.
_MEASURE = """
import json, os, sys, time
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(name: str, arguments: Sequence[str], what: str) -> Row:
    """The command as a process."""
    script, *rest = arguments
    command = [sys.executable, str(ROOT / "experiments" / script), *rest]
    done = subprocess.run([sys.executable, "-ISc", _MEASURE, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    seconds, processor, kib = json.loads(done.stdout)
    return Row(name, round(seconds, 2), round(processor, 2), round(kib / 1024, 1), what)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(FOLDER.value or temporary).resolve()
        if not manifest.exists(manifest.folder_of(str(root), "jobs")):
            make(root, "jobs", METHODS[:5], _share(4), ENDS)
        if not manifest.exists(manifest.folder_of(str(root), "runs")):
            make(root, "runs", METHODS, _share(8), ["done"])
        rows = []
        for name, arguments, what in commands(root):
            if ONLY.value is None or name in ONLY.value:
                rows.append(measure(name, arguments, what))
                print("{:32} {:8.2f} s {:8.2f} s of the processor {:8.1f} MiB  {}".format(*rows[-1]), flush=True)
    if CSV.value:
        with pathlib.Path(CSV.value).open("w", newline="") as file:
            csv.writer(file).writerows([Row._fields, *rows])


if __name__ == "__main__":
    console.prepare()
    app.run(main)
