"""What a quick run of each method costs: python -m benchmarks.quick --csv=benchmarks/results/quick-cpu.csv

Each method is one process of main.py with --protocol=quick on one task and the data that are generated for it, from its
start to its rows: compilation and evaluations included. The first process trains the BC policy that the others start
from. A method that does not come to its end, or has a diverged replica, has no row, and the benchmark fails after the
others. What is given besides goes to main.py: --eval_episodes=10. A method that is trained online alone makes its
updates in environment steps.
"""

import csv
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import jax
import pandas as pd
from absl import app, flags, logging

import agents
from experiments.analysis.rows import read_runs
from experiments.row_format import OK
from trqam_jax import console
from trqam_jax.errors import UserError, suggest
from trqam_jax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]


class Row(NamedTuple):
    """One method's run."""

    agent: str
    family: str
    seconds: float  # of the process
    updates_per_second: float  # of the last phase, between its last two rows
    evaluation_seconds: float  # of all evaluations
    bc_success: float  # percent; nan without a BC policy
    success: float  # percent, at the end
    device: str
    jax: str


def measure(name: str, folder: pathlib.Path) -> Row:
    """Run main.py."""
    given = {
        "agent": name,
        "env": FLAGS.env,
        "protocol": "quick",
        "dataset": "generate",
        "dataset_dir": folder / "data",
        "out_dir": folder / "runs",
        "group": name,
    }
    if name != "bc":
        given |= {"bc_checkpoint": bc_policy(folder), "bc_steps": 0}
    command = [sys.executable, "experiments/main.py", *(f"--{key}={value}" for key, value in given.items()), *EXTRA]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (run,) = read_runs([folder / "runs" / name])
    if not (run.eval.status == OK).all():
        raise UserError(f"{name} diverged: {run.folder}")
    times = pd.read_csv(run.folder / "times.csv")
    of_phase = run.eval.groupby("phase").success.last() * 100
    return Row(
        agent=name,
        family=agents.AGENTS[name].family,
        seconds=round(seconds, 1),
        updates_per_second=float(times.updates_per_second.dropna().iloc[-1]) if name != "bc" else float("nan"),
        evaluation_seconds=round(float(times.eval_seconds.sum()), 1),
        bc_success=float(of_phase.get("bc", float("nan"))),
        success=float(run.eval.success.iloc[-1] * 100),
        device=jax.devices()[0].device_kind,
        jax=versions()["jax"],
    )


def bc_policy(folder: pathlib.Path) -> pathlib.Path:
    """The checkpoint that the first run left."""
    (place,) = (folder / "runs" / "bc").glob("*/cloned-*/checkpoints/[0-9]*")
    return place


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    names = list(agents.AGENTS) if FLAGS.agents == ["all"] else ["bc", *(n for n in FLAGS.agents if n != "bc")]
    for name in names:
        if name not in agents.AGENTS:
            sys.exit(f"unknown agent {name!r}.{suggest(name, agents.AGENTS)}")
    EXTRA.extend(argv[1:])
    failed = []
    with tempfile.TemporaryDirectory() as temporary, pathlib.Path(FLAGS.csv).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for name in names:
            try:
                row = measure(name, pathlib.Path(FLAGS.folder or temporary))
            except UserError as error:
                failed.append(name)
                print(error, file=sys.stderr, flush=True)
                continue
            print(row, flush=True)
            writer.writerow(row)
            file.flush()
    if failed:
        sys.exit(f"not to the end, or diverged: {', '.join(failed)}")


if __name__ == "__main__":
    console.prepare()
    FLAGS, EXTRA = flags.FLAGS, []
    flags.DEFINE_list("agents", ["all"], "Which; the BC policy is trained in any case.")
    flags.DEFINE_string("env", "cube-single-task1", "Task.")
    flags.DEFINE_string("folder", None, "Where data and runs are left; temporary by default.")
    flags.DEFINE_string("csv", "quick.csv", "Where the rows are written.")
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
