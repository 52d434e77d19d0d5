"""Many runs at once: methods x domains, tasks x seeds x values in each, on this machine or on Slurm.

    python experiments/sweep.py --agents=trqam,qam,fql --suite=ogbench50 --num_seeds=8 --group=table --dry_run
    python experiments/sweep.py --agents=trqam,qam,fql --suite=ogbench50 --num_seeds=8 --group=table
    python experiments/sweep.py --agents=qam --envs=cube-triple --config.agent.inv_temp=1,3,10 --group=temperatures
    python experiments/sweep.py status --group=table
    python experiments/sweep.py retry --group=table --engine=slurm --slurm=partition=gpu --slurm=gpus_per_node=1

Takes the flags of main.py, too: they go to every job. A job is one run of main.py, of one method on one domain; each
domain's BC policy is trained once, first. The same command again, or retry, continues what is not done.
"""

import functools
import os
import pathlib
import sys

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import envs
from experiments import cli, settings
from experiments.sweeps import manifest
from trqam_jax import console
from trqam_jax.errors import UserError, suggest

MAIN = pathlib.Path(__file__).with_name("main.py").resolve()
COMMANDS = ("run", "status", "retry")
SUITES = {suite.benchmark: suite for suite in envs.SUITES.values() if suite.benchmark}

flags.DEFINE_list("agents", ["trqam"], "Algorithms.")
flags.DEFINE_list("envs", None, "Domains, or single tasks as for main.py's --env.")
flags.DEFINE_enum("suite", None, [*SUITES], "Instead of --envs: the domains of the papers' tables, all their tasks.")
flags.DEFINE_integer("max_replicas", None, "A job with more is split: by seeds, tasks, values.", lower_bound=1)
flags.DEFINE_enum("engine", "local", ["local", "slurm"], "A pool on this machine, or Slurm.")
flags.DEFINE_integer("jobs", None, "Jobs at a time; default: one per GPU, on Slurm no limit.", lower_bound=1)
flags.DEFINE_list("gpus", None, "GPUs of the local pool, as CUDA numbers them; default: all.")
flags.DEFINE_multi_string("slurm", [], "One KEY=VALUE of submitit's SlurmExecutor: partition, time (minutes), ...")
flags.DEFINE_bool("dry_run", False, "Print the jobs and what they would take, and stop.")
flags.DEFINE_string("benchmark", None, "For --dry_run: a file that benchmarks/update.py --csv wrote.")
flags.adopt_module_key_flags(cli)
FLAGS = flags.FLAGS


def folder_of_sweep() -> pathlib.Path:
    """The folder that --out_dir and --group name."""
    defaults = settings.SECTIONS["run"]
    return manifest.folder_of(FLAGS.out_dir or defaults["out_dir"].default, FLAGS.group or defaults["group"].default)


def planned(argv: list[str]) -> manifest.Sweep:
    """The sweep that the flags and argv's --config.key=value ask for."""
    from experiments.sweeps import plan

    choices = f"--envs=..., or --suite={'|'.join(SUITES)}"
    folder, given = folder_of_sweep(), cli.given()
    env = given.pop("env")
    if FLAGS["env"].present:
        raise UserError(f"--env={env}: a sweep has {choices}")
    if bool(FLAGS.envs) == bool(FLAGS.suite):
        raise UserError(f"give {choices}")
    request = plan.Request(
        agents=FLAGS.agents,
        envs=FLAGS.envs or [domain.name for domain in SUITES[FLAGS.suite].domains.values() if domain.benchmark],
        tasks=given.pop("tasks", "all" if FLAGS.suite else None),
        seeds=given.pop("seeds", None),
        num_seeds=given.pop("num_seeds", None),
        protocol=given.pop("protocol"),
        flags=given | {"out_dir": str(folder.parents[1]), "group": folder.parent.name},
        overrides=cli.overrides(argv),
        max_replicas=FLAGS.max_replicas,
    )
    return manifest.Sweep(folder, str(MAIN), os.getcwd(), plan.expand(request))


def status(sweep: manifest.Sweep) -> str:
    """How far it is. Nothing in here imports JAX, so that it answers at once."""
    from experiments.sweeps import progress, report, slurm, states

    runs = states.Runs(sweep)
    found = states.all_states(sweep, slurm.under_way(sweep), runs)
    return report.progress(sweep, found, progress.all_progress(sweep, found, runs))


def refuse_settings(argv: list[str], command: str) -> None:
    """A UserError at what would plan other jobs: status and retry take those that the manifest has."""
    names = [*cli.SHARED, "agents", "envs", "suite", "max_replicas", "dry_run", "benchmark"]
    given = [f"--{name}" for name in names if FLAGS[name].present and name not in ("out_dir", "group")]
    for argument in [*given, *argv[1:]]:
        raise UserError(
            f"{argument}: `{command}` takes a sweep's jobs as they were planned; leave it out, or ask for the sweep "
            "again with it"
        )


def parse(argv: list[str], command: str) -> list[str]:
    """The flags. `status` does without those of agents' settings, where none is given: they import JAX."""
    given = [argument.lstrip("-").partition("=")[0] for argument in argv[1:] if argument.startswith("-")]
    known = all(name in FLAGS and "help" not in name for name in given)
    return cli.parse(argv, agents_flags=not (command == "status" and known))


def main(argv: list[str], command: str) -> int:
    try:
        if command != "run":
            refuse_settings(argv, command)
        if command == "status":
            print(status(manifest.read(folder_of_sweep())))
            return 0
        from experiments.sweeps import launch, merge, report, slurm

        sweep = planned(argv) if command == "run" else manifest.read(folder_of_sweep())
        if command == "run" and FLAGS.dry_run:
            merge.merged(sweep)  # names what would not fit
            print(report.estimate(sweep, FLAGS.benchmark))
        elif FLAGS.engine == "slurm":
            return launch.on_slurm(sweep, slurm.parse_options(FLAGS.slurm, FLAGS.jobs))
        else:
            return launch.on_this_machine(sweep, FLAGS.jobs, FLAGS.gpus)
        return 0
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    named = sys.argv[1:2] if sys.argv[1:2] and not sys.argv[1].startswith("-") else []
    command = named[0] if named else "run"
    if command not in COMMANDS:
        cli.fail(UserError(f"Unknown command {command!r}.{suggest(command, COMMANDS)}"))
    app.run(
        functools.partial(main, command=command),
        argv=[sys.argv[0], *sys.argv[1 + len(named) :]],
        flags_parser=functools.partial(parse, command=command),
    )
