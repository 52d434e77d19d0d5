"""Robomimic's simulators and scripted demonstrators in numbers: python -m benchmarks.robomimic.

Per task: how many first attempts of the demonstrators succeed, by style; how many of those that do succeed again when
their actions are replayed from the recorded first state; environment steps per second of one simulator without its
resets, and of evaluation's worker processes playing whole episodes, resets included. The demonstrations are made for
this and not kept. Worker processes import this file again, so it imports JAX only inside its functions.
"""

import functools
import json
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags, logging

from envs.base import Domain
from envs.robomimic.demonstrators import STYLES
from envs.robomimic.domains import DOMAINS
from envs.robomimic.generate import generate
from envs.robomimic.simulators import RobomimicSimulator
from envs.vector.slots import VectorSlots
from envs.vector.workers import cpu_count
from trqam_jax import console

RESULTS = pathlib.Path(__file__).parent / "results" / "robomimic.json"


def demonstrations(path: pathlib.Path) -> Iterator[Any]:
    """The groups of a file, in order."""
    import h5py

    with h5py.File(path, "r") as file:
        for number in range(len(file["data"])):
            yield file[f"data/demo_{number}"]


def by_style(path: pathlib.Path) -> dict[str, str]:
    """{style, and all: "successes/attempts"} of a file that keeps failed attempts."""
    found: dict[str, list[int]] = {"all": [], **{style.name: [] for style in STYLES}}
    for demo in demonstrations(path):
        for name in ("all", str(demo.attrs["style"])):
            found[name].append(int(demo["dones"][-1]))
    return {name: f"{sum(solved)}/{len(solved)}" for name, solved in found.items()}


def replayed(path: pathlib.Path, simulator: RobomimicSimulator, most: int) -> str:
    """Of the file's first successes, "those that succeed when their actions are replayed / all that are"."""
    succeeded = []
    for demo in demonstrations(path):
        if demo["dones"][-1] and len(succeeded) < most:
            simulator.set_state(demo.attrs["model_file"], demo["states"][0])
            succeeded.append(any(simulator.step(action).success for action in demo["actions"][()]))
    return f"{sum(succeeded)}/{len(succeeded)}"


def steps_alone(simulator: RobomimicSimulator, seconds: float) -> float:
    """Steps per second, of random actions."""
    rng, steps, spent = np.random.default_rng(0), 0, 0.0
    while spent < seconds:
        simulator.reset(steps)
        start = time.perf_counter()
        for _ in range(100):
            simulator.step(rng.uniform(-1, 1, 7))
        steps, spent = steps + 100, spent + time.perf_counter() - start
    return steps / spent


def steps_in_workers(domain: Domain, episodes: int) -> float:
    """Steps per second in all, of random actions; the simulators are built before."""
    rng = np.random.default_rng(0)
    factory = functools.partial(RobomimicSimulator, domain, 1)
    with VectorSlots([factory], domain.observation_dim, episodes) as slots:
        lengths = []
        for seeds in (np.arange(2), np.arange(episodes)):  # the first round waits for the simulators
            start = time.perf_counter()
            slots.begin(seeds[None])
            while (turn := slots.wait()) is not None:
                group, _, running, _ = turn
                slots.play(group, rng.uniform(-1, 1, (*running.shape, domain.horizon, 7)).astype(np.float32))
            lengths.append(slots.results()["length"].sum())
        return float(lengths[-1] / (time.perf_counter() - start))


def measure(domain: Domain) -> dict[str, Any]:
    """The row of one task."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = generate(domain.name, episodes=FLAGS.episodes, seed=FLAGS.seed, out_dir=folder, failures="keep")
        seconds = time.perf_counter() - start
        simulator = RobomimicSimulator(domain, 1)
        row = {
            "episode limit": domain.episode_limit,
            "first attempts that succeed": by_style(path),
            "seconds per attempt": round(seconds / FLAGS.episodes, 2),
            "replays that succeed": replayed(path, simulator, FLAGS.replays),
            "steps/s alone": round(steps_alone(simulator, FLAGS.seconds), 1),
        }
        simulator.close()
    rate = steps_in_workers(domain, FLAGS.rollouts)
    return row | {f"steps/s in {cpu_count()} workers": round(rate, 1)}


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)
    found: dict[str, Any] = {name: measure(DOMAINS[name]) for name in FLAGS.env}
    from trqam_jax.versions import versions

    found["versions"] = versions(("mujoco", "robosuite"))
    text = json.dumps(found, indent=2) + "\n"
    print(text, end="")
    pathlib.Path(FLAGS.out).write_text(text)


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_multi_enum("env", list(DOMAINS), list(DOMAINS), "Domain; may be given several times.")
    flags.DEFINE_integer("episodes", 50, "Attempts of the demonstrators.")
    flags.DEFINE_integer("seed", 1, "Of the attempts.")
    flags.DEFINE_integer("replays", 20, "How many are replayed.")
    flags.DEFINE_integer("rollouts", 32, "Episodes that the workers play.")
    flags.DEFINE_float("seconds", 10.0, "Of stepping one simulator.")
    flags.DEFINE_string("out", str(RESULTS), "Where the numbers are written as JSON.")
    app.run(main)
