"""Many runs at once: methods x domains, tasks x seeds in each, on this machine or on Slurm.

    python experiments/sweep.py --agents=trqam,qam,fql --suite=ogbench50 --num_seeds=8 --group=table --dry_run
    python experiments/sweep.py --agents=trqam,qam,fql --suite=ogbench50 --num_seeds=8 --group=table
    python experiments/sweep.py --agents=trqam --envs=cube-triple --config.agent.kl_budget=0.5,1,2 --group=budgets
    python experiments/sweep.py status --group=table
    python experiments/sweep.py retry --group=table --engine=slurm --slurm=partition=gpu --slurm=gpus_per_node=1

Takes the flags of main.py, too: they go to every job. A job is one run of main.py, for one method on one domain; each
domain is cloned once, first. The same command again, or retry, starts what is not done, and that goes on where it was.
"""

import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Mapping

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import envs
from experiments import cli
from experiments.sweeps import engines, manifest
from experiments.sweeps.manifest import State, Sweep
from experiments.training import lock
from trqam_jax.errors import UserError, suggest

COMMANDS = ("run", "status", "retry")
AGENTS = flags.DEFINE_list("agents", ["trqam"], "Algorithms.")
ENVS = flags.DEFINE_list("envs", None, "Domains, or single tasks as for main.py's --env.")
SUITE = flags.DEFINE_enum("suite", None, ["ogbench50"], "Instead of --envs: the papers' ten domains, all five tasks.")
MAX_REPLICAS = flags.DEFINE_integer(
    "max_replicas", None, "Most replicas of a job; one with more is split: by seeds, tasks, KL budgets.", lower_bound=1
)
ENGINE = flags.DEFINE_enum("engine", "local", ["local", "slurm"], "A pool on this machine, or Slurm.")
JOBS = flags.DEFINE_integer(
    "jobs", None, "Jobs at a time, on Slurm of an array; default: one per GPU, on Slurm no limit.", lower_bound=1
)
GPUS = flags.DEFINE_list("gpus", None, "GPUs of the local pool, as CUDA numbers them; default: all.")
SLURM = flags.DEFINE_multi_string(
    "slurm", [], "KEY=VALUE for sbatch, as submitit's SlurmExecutor names them: time (minutes), partition, mem, "
    "gpus_per_node, cpus_per_task, account, qos, constraint, signal_delay_s, ... May be given several times."
)  # fmt: skip
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the jobs and what they would take, and stop.")
BENCHMARK = flags.DEFINE_string("benchmark", None, "For --dry_run: a file that benchmarks/update.py --csv wrote.")
flags.adopt_module_key_flags(cli)

MAIN = str(pathlib.Path(__file__).with_name("main.py").resolve())
#: Flags of main.py that a sweep gives to each job as the job needs them.
_PER_JOB = ("env", "tasks", "seeds", "num_seeds", "protocol", "out_dir", "group")


def place() -> pathlib.Path:
    """The folder of the sweep that --out_dir and --group name."""
    from experiments.config import base

    run = base()["run"]
    return manifest.folder_of(cli.SHARED["out_dir"].value or run["out_dir"], cli.SHARED["group"].value or run["group"])


def planned(argv: list[str]) -> Sweep:
    """The sweep that the flags and argv's --config.key=value ask for."""
    from experiments.sweeps import plan

    if cli.SHARED["env"].present:
        raise UserError(f"--env={cli.SHARED['env'].value}: a sweep has --envs=..., or --suite=ogbench50")
    if bool(ENVS.value) == bool(SUITE.value):
        raise UserError("give --envs=..., or --suite=ogbench50")
    folder = place()
    flags_given = {n: f.value for n, f in cli.SHARED.items() if n not in _PER_JOB and f.value is not None}
    request = plan.Request(
        agents=AGENTS.value,
        envs=ENVS.value or [domain.name for domain in [domain for domain in envs.DOMAINS.values() if domain.benchmark]],
        tasks=cli.SHARED["tasks"].value or ("all" if SUITE.value else None),
        seeds=cli.SHARED["seeds"].value,
        num_seeds=cli.SHARED["num_seeds"].value,
        protocol=cli.SHARED["protocol"].value,
        flags={**flags_given, "out_dir": str(folder.parents[1]), "group": folder.parent.name},
        overrides=dict(argument.removeprefix("--config.").split("=", 1) for argument in argv[1:]),
        max_replicas=MAX_REPLICAS.value,
    )
    return Sweep(folder, MAIN, os.getcwd(), plan.expand(request))


def estimate(sweep: Sweep) -> str:
    """The jobs as a table, with hours of training on the measured device where there is a measurement."""
    from experiments.sweeps import plan

    costs = plan.costs(sweep.jobs.values(), pathlib.Path(BENCHMARK.value)) if BENCHMARK.value else {}
    rows = [["job", "replicas", "updates of each", "hours", "after"]]
    for name, job in sweep.jobs.items():
        hours = f"{costs[name].seconds / 3600:,.1f}" if name in costs else "not measured"
        rows.append([name, str(job.replicas), f"{job.updates:,}", hours, ", ".join(job.after)])
    replicas = sum(job.replicas for job in sweep.jobs.values() if job.after or job.agent != "bc")
    total = [f"{len(sweep.jobs)} jobs with {replicas:,} replicas, cloning apart"]
    for device in dict.fromkeys(cost.device for cost in costs.values()):
        own = [cost.seconds for cost in costs.values() if cost.device == device]
        total.append(f"{sum(own) / 3600:,.0f} hours of training for {len(own)} of them, on {device}")
    if len(costs) < len(sweep.jobs):
        total.append(f"{len(sweep.jobs) - len(costs)} not measured" + ("" if costs else ": --benchmark=FILE.csv"))
    return f"{_aligned(rows)}\n{'; '.join(total)}; evaluation comes on top"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def states(sweep: Sweep, under_way: Mapping[str, str]) -> dict[str, State]:
    """By name."""
    return {name: manifest.state(sweep, job, under_way) for name, job in sweep.jobs.items()}


def report(sweep: Sweep, found: Mapping[str, State], *, whole: bool = True) -> str:
    """How many jobs are in which state, all of them if `whole`, and why the failed ones did."""
    counts = Counter(state.kind for state in found.values())
    lines = [f"{sweep.folder.parent}: {len(found)} jobs, " + ", ".join(f"{n} {kind}" for kind, n in counts.items())]
    if whole:
        rows = []
        for name, state in found.items():
            failed = [f"{other} failed" for other in sweep.jobs[name].after if found[other].kind == "failed"]
            rows.append([f"  {name}", state.kind, state.place or "".join(failed)])
        lines.append(_aligned(rows))
    for name, state in found.items():
        if state.kind == "failed":
            lines += [f"failed: {name}: {state.error}", f"        its log: {sweep.log(name)}"]
    if counts["done"] == len(found):
        lines.append(f"table: python experiments/table.py {sweep.folder.parent}")
    return "\n".join(lines)


def start(sweep: Sweep) -> int:
    """Run or submit what is not done and not under way. Returns the exit status."""
    options = slurm_options()
    with lock.held(sweep.folder, wait=False):
        manifest.write(manifest.merged(sweep))
        before = states(sweep, engines.in_slurm(sweep))
        done = {name for name, state in before.items() if state.kind == "done"}
        under_way = {name for name, state in before.items() if state.kind in ("running", "queued")}
        if ENGINE.value == "slurm":
            for line in engines.submit_slurm(sweep, done, under_way, options):
                print(line)
            print(report(sweep, states(sweep, engines.in_slurm(sweep)), whole=False))
            return 0
        for name in under_way:
            say(f"{before[name].kind} already: {name}")
        gpus = engines.visible_gpus() if GPUS.value is None else GPUS.value
        places = engines.places(JOBS.value or len(gpus) or 1, gpus)
        engines.run_local(sweep.only(sweep.jobs.keys() - done - under_way), done, places, say)
    after = states(sweep, engines.in_slurm(sweep))
    print(report(sweep, after, whole=False))
    return int(any(state.kind != "done" for state in after.values()))


def say(text: str) -> None:
    """A line with the time of day."""
    print(time.strftime("[%H:%M:%S]"), text, flush=True)


def slurm_options() -> dict[str, int | str]:
    """Of --slurm and --jobs."""
    pairs = [option.partition("=") for option in SLURM.value]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise UserError(f"--slurm={key}{equals}{value}: expected KEY=VALUE, like --slurm=partition=gpu")
    options = {key: int(value) if value.isdecimal() else value for key, _, value in pairs}
    return options | ({"array_parallelism": JOBS.value} if JOBS.value else {})


def main(argv: list[str], command: str = "run") -> int:
    try:
        if command == "run":
            sweep = planned(argv)
            if DRY_RUN.value:
                manifest.merged(sweep)  # names what would not fit
                print(estimate(sweep))
                return 0
            return start(sweep)
        sweep = manifest.read(place())
        if command == "status":
            print(report(sweep, states(sweep, engines.in_slurm(sweep))))
            return 0
        return start(sweep)
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


if __name__ == "__main__":
    named = sys.argv[1:2] if sys.argv[1:2] and not sys.argv[1].startswith("-") else []
    command = named[0] if named else "run"
    if command not in COMMANDS:
        cli.fail(UserError(f"Unknown command {command!r}.{suggest(command, COMMANDS)}"))
    app.run(lambda argv: main(argv, command), argv=[sys.argv[0], *sys.argv[1 + len(named) :]], flags_parser=cli.parse)
