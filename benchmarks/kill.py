"""Kill a small run at random moments, start it again each time, and compare with a run that was left alone.

    python -m benchmarks.kill --kills=30 --seed=0

A line per kill: the run, what the process went on from, the signal (to the process, or to its whole group as a terminal
and a cluster send it), the moment, the exit status. Every run that comes to its end must have the tables, to the byte,
and the BC policy of the one that was left alone. The exit status is non-zero if one has not.
"""

import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import app, flags

from experiments.cli import EXIT_INTERRUPTED
from trqam_jax import console
from trqam_jax.checkpoint import read_meta

KILLS = flags.DEFINE_integer("kills", 30, "How often.")
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
FOLDER = flags.DEFINE_string("folder", None, "Where the runs and data are left. Default: a temporary one.")

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = {
    **{"agent": "trqam", "env": "cube-single-task1", "protocol": "quick", "num_seeds": 2, "dataset": "generate"},
    **{"dataset_episodes": 2, "bc_steps": 400, "offline_steps": 650, "eval_interval": 400, "eval_episodes": 2},
    **{"online_steps": 650, "start_training": 100, "config.online.save_interval": 150},
    **{"log_interval": 100, "save_interval": 150, "config.train.batch_size": 16},
    **{"config.agent.hidden_dims": "8,8", "config.agent.flow_steps": 2},
}


def command(folder: pathlib.Path, out: str) -> list[str]:
    """The run, below folder/out."""
    settings = {**SETTINGS, "dataset_dir": folder / "data", "out_dir": folder / out}
    return [sys.executable, "experiments/main.py", *(f"--{key}={value}" for key, value in settings.items())]


def left_by(place: pathlib.Path) -> dict[str, bytes | str]:
    """What must not depend on kills: the tables, and the BC policy's fingerprint."""
    (policy,) = place.glob("default/*/cloned-*/checkpoints/[0-9]*")
    tables = {f"{t.parent.name}/{t.name}": t.read_bytes() for t in place.glob("default/*/*/*.csv")}
    return {name: text for name, text in tables.items() if not name.endswith("times.csv")} | {
        "BC policy": read_meta(policy)["fingerprint"]
    }


def size(*patterns: str) -> Callable[[pathlib.Path], int]:
    """Bytes in the files, and number of the folders, that match below the place."""

    def measure(place: pathlib.Path) -> int:
        found = 0
        for pattern in patterns:
            for path in place.glob(f"default/*/{pattern}"):
                with contextlib.suppress(FileNotFoundError):
                    found += path.stat().st_size if path.is_file() else 1
        return found

    return measure


#: name: (what must change for it to be near, how long it may then take in seconds).
MOMENTS = {
    "starting": (None, 12.0),
    "a checkpoint": (size("*/checkpoints/.*.new"), 0.15),
    "renaming it": (size("*/checkpoints/.*.new/trqam_jax.json"), 0.03),
    "a row": (size("*/train.csv", "*/eval.csv"), 0.01),
    "between rows": (size("*/train.csv"), 1.0),
    "an evaluation": (size("*/eval.csv"), 2.0),
}


def live(argv: list[str], place: pathlib.Path, log: pathlib.Path, draw: random.Random | None) -> tuple[int, str]:
    """One process, killed at a moment that is drawn, or left alone: (its exit status, what was done to it)."""
    with log.open("w") as file:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        done = ""
        if draw:
            number, group = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)), draw.random() < 0.5
            moment, occurrence = draw.choice(list(MOMENTS)), draw.randint(1, 4)
            near, spread = MOMENTS[moment]
            delay = draw.random() * spread
            if near:
                await_change(lambda: near(place), occurrence, process)
            time.sleep(delay)
            done = f"{number.name:8} {'group' if group else 'process':8} {moment}"
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, number)
        status = process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # simulators that a killed process left
    return status, done


def await_change(measure: Callable[[], int], times: int, process: subprocess.Popen) -> None:
    """Return once the measure has grown so many times, or the process has ended."""
    last = measure()
    while times and process.poll() is None:
        now = measure()
        times -= now > last
        last = now
        time.sleep(0.001)


def as_it_should(status: int, done: str, text: str) -> bool:
    """Whether a process may end with this status and output after what was done to it."""
    if status == 0:
        return True  # it was faster
    if done.startswith("SIGKILL"):
        return status == -signal.SIGKILL
    if "starting" in done and status != EXIT_INTERRUPTED:
        return bool(status)  # before the run listens to signals it ends as any program
    # SIGTERM ends a group's simulators in the middle of a call, which gymnasium reports on its way out.
    return bool(done) and status == EXIT_INTERRUPTED and (done.startswith("SIGTERM  group") or "Traceback" not in text)


def main(_: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        temporary = FOLDER.value or stack.enter_context(tempfile.TemporaryDirectory())
        folder, draw = pathlib.Path(temporary).resolve(), random.Random(SEED.value)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        if not (folder / "alone").exists():
            status, _ = live(command(folder, "alone"), folder / "alone", log, None)
            if status:
                sys.exit(f"error: the run that was left alone failed:\n{log.read_text()[-2000:]}")
        expected = left_by(folder / "alone")
        print(f"{'run':4} {'went on from':28} {'signal':8} {'to':8} {'moment':16} exit status", flush=True)
        killed = runs = failures = 0
        while killed < KILLS.value or status:
            place = folder / f"seed-{SEED.value}-{runs}"
            status, done = live(command(folder, place.name), place, log, draw if killed < KILLS.value else None)
            text = log.read_text()
            start = re.findall(r"going on from .*/(\w+)-\w+/checkpoints/(\S+)", text)
            print(
                f"{runs:<4} {', '.join(' '.join(s) for s in start) or '-':28} {done or 'none':33} {status}", flush=True
            )
            killed += bool(done)
            if not as_it_should(status, done, text):
                failures += 1
                print(text[-3000:])
                break
            if status == 0:
                different = [name for name, content in left_by(place).items() if content != expected.get(name)]
                failures += bool(different)
                print(
                    f"{runs:<4} finished: {'DIFFERENT: ' + ', '.join(different) if different else 'equal to the byte'}"
                )
                runs += 1
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    console.prepare()
    app.run(main)
