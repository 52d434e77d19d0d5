"""What simulators take: python -m benchmarks.simulators --csv=simulators.csv

Per domain, with simulators built one by one and with twins (`envs.base.TwinFactory`): seconds, also of processor time,
and MiB of a worker process with its first simulator, its start and imports included, and of each further one; what a
node would need by these; and seconds and MiB of an evaluation's worker processes up to the first observations of all
slots. Memory is the processes' proportional share (Pss), which Linux alone tells.
"""

import csv
import functools
import os
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

import envs
from envs.base import SimulatorFactory, TwinFactory
from envs.vector.simulator import Player, make_players
from envs.vector.slots import BUILT_SLOTS, TWIN_SLOTS, VectorSlots
from envs.vector.workers import Workers, cpu_count
from trqam_jax import console

STEPS = 50  # that a simulator plays before its memory counts
DOMAINS = ("cube-double", "scene", "puzzle-4x4", "antmaze-large", "humanoidmaze-medium", "pointmaze-medium")


def mebibytes(process: int) -> float:
    """The memory of a process, its share of pages that it has in common with others."""
    found = re.search(r"^Pss:\s+(\d+) kB", pathlib.Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None, "smaps_rollup has no Pss"
    return int(found[1]) / 1024


class Growing:
    """A worker whose simulators are made one at a time."""

    def __init__(self, make: SimulatorFactory, action_dim: int):
        self._make, self._actions = make, np.zeros((STEPS, action_dim), np.float32)
        self._players = make_players([make])
        self._players[0].play(self._actions)

    def processor_seconds(self) -> float:
        """Of this process so far."""
        return time.process_time()

    def add(self) -> tuple[float, float]:
        """Make one more, as a worker does, and play; the seconds, and those of the processor, that it took to make."""
        start = np.array([time.perf_counter(), time.process_time()])
        first = self._players[0].simulator
        simulator = self._make.twin(first) if isinstance(self._make, TwinFactory) else self._make()
        self._players.append(Player(simulator))
        wall, processor = np.array([time.perf_counter(), time.process_time()]) - start
        self._players[-1].play(self._actions)
        return wall, processor

    def close(self) -> None:
        for player in self._players:
            player.close()


def slots_of(make: SimulatorFactory) -> int:
    """That a worker of an evaluation has."""
    return TWIN_SLOTS if isinstance(make, TwinFactory) else BUILT_SLOTS


def in_one_worker(domain: envs.Domain, make: SimulatorFactory, count: int) -> dict[str, float]:
    """Of one simulator and of the median of `count` further ones."""
    start = time.perf_counter()
    with Workers([functools.partial(Growing, make, domain.action_dim)]) as workers:
        workers.wait_until_made()
        (worker,) = workers.processes
        first, memory = time.perf_counter() - start, mebibytes(worker)
        (processor,) = workers.call("processor_seconds", [()])
        further = np.median([workers.call("add", [()])[0] for _ in range(count)], axis=0)
        return {
            "first, s": first,
            "first, processor s": processor,
            "first, MiB": memory,
            "further, s": float(further[0]),
            "further, processor s": float(further[1]),
            "further, MiB": (mebibytes(worker) - memory) / count,
        }


def of_an_evaluation(domain: envs.Domain, make: SimulatorFactory, cores: int) -> dict[str, float]:
    """From the start to the first observations of all slots, a worker on each core."""
    start, episodes = time.perf_counter(), slots_of(make) * cores
    with VectorSlots([make], domain.observation_dim, episodes, workers=cores) as slots:
        slots.begin(np.arange(episodes)[None])
        seen = 0
        while seen < episodes:
            turn = slots.wait()
            assert turn is not None, "a round of an evaluation ended before all slots had started"
            seen += turn[1].shape[1]
        seconds = time.perf_counter() - start
        return {"slots": episodes, "slots, s": seconds, "slots, MiB": sum(map(mebibytes, slots.processes))}


def measure(name: str, twins: bool) -> dict[str, Any]:
    """The row of one domain."""
    domain = envs.parse_env(name)[0]
    factory = envs.suite_of(domain).env_factory(domain, domain.default_task)
    make = factory if twins else functools.partial(_build, factory)
    row = in_one_worker(domain, make, FLAGS.further)
    further = slots_of(make) - 1
    node = FLAGS.node_cores * (row["first, MiB"] + further * row["further, MiB"]) / 1024
    built = row["first, s"] + further * row["further, s"]
    node_row = {f"{FLAGS.node_cores} cores, GiB": node, f"{FLAGS.node_cores} cores, s": built}
    evaluation = of_an_evaluation(domain, make, FLAGS.workers or cpu_count()) if FLAGS.evaluation else {}
    return {"domain": name, "made": "as twins" if twins else "one by one", **row, **evaluation, **node_row}


def _build(factory: SimulatorFactory) -> Any:
    return factory()


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if value < 0.1 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def main(_) -> None:
    rows: list[dict[str, Any]] = []
    for name in FLAGS.env:
        for twins in (False, True):
            rows.append(measure(name, twins))
            print(rows[-1], flush=True)
    print(f"\n{os.cpu_count()} processors\n\n{markdown(rows)}")
    if FLAGS.csv:
        with pathlib.Path(FLAGS.csv).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _text(value) for key, value in row.items()} for row in rows)


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_multi_string("env", list(DOMAINS), "Environment; may be given several times.")
    flags.DEFINE_integer("further", 5, "Further simulators in one worker.")
    flags.DEFINE_bool("evaluation", True, "Also an evaluation's worker processes up to their first observations.")
    flags.DEFINE_integer("workers", 0, "Worker processes of the evaluation; 0: one per core.")
    flags.DEFINE_integer("node_cores", 64, "Cores of the node that is computed.")
    flags.DEFINE_string("csv", None, "Where the rows are written.")
    app.run(main)
