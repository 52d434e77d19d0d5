"""Evaluation against the raw simulator: python -m benchmarks.evaluation --env=cube-single --env=puzzle-4x4.

Raw is the plain loop over one environment, resets included, replaying episodes that the evaluation has played: in one
process, and in as many at once as there are cores. Worker processes import this file again, so it imports JAX only
inside its functions.
"""

import functools
import time
from typing import Any

import numpy as np
from absl import app, flags, logging

import envs
from envs.base import SimulatorFactory
from envs.vector.slots import VectorSlots
from envs.vector.workers import Workers, cpu_count
from trqam_jax import console

SIZES = {"512x4": (512, 512, 512, 512), "128x3": (128, 128, 128)}


class Raw:
    """A process with one environment and the loop everybody writes."""

    def __init__(self, make: SimulatorFactory):
        self._simulator = make()
        self._simulator.reset(0)

    def steps_per_second(self, episodes: list[tuple[int, np.ndarray]], seconds: float) -> float:
        """episodes: [(seed, actions)], again and again."""
        start, steps = time.perf_counter(), 0
        while True:
            for seed, actions in episodes:
                self._simulator.reset(seed)
                for action in actions:
                    self._simulator.step(action)
                    steps += 1
                    if time.perf_counter() - start > seconds:
                        return steps / seconds

    def seconds_per_reset(self, seeds: list[int]) -> float:
        """The mean over seeds."""
        start = time.perf_counter()
        for seed in seeds:
            self._simulator.reset(seed)
        return (time.perf_counter() - start) / len(seeds)

    def close(self) -> None:
        self._simulator.close()


class Observed:
    """Slots whose clock is read: seconds in `wait` and in `play`, and what was played."""

    def __init__(self, slots: VectorSlots):
        self._slots = slots

    def begin(self, seeds: np.ndarray) -> None:
        self.waited, self.sent, self.turns = 0.0, 0.0, 0
        self._seeds, self._chunks, self._start = seeds, {}, time.perf_counter()
        self._slots.begin(seeds)

    def wait(self) -> Any:
        start = time.perf_counter()
        turn = self._slots.wait()
        self.waited += time.perf_counter() - start
        if turn is not None:
            self._episode = turn[2]
        return turn

    def play(self, group: int, chunks: np.ndarray) -> None:
        self.turns += 1
        for slot in np.argwhere(self._episode >= 0):
            place = slot[0], self._episode[tuple(slot)]
            self._chunks.setdefault(place, []).append(chunks[tuple(slot)])
        start = time.perf_counter()
        self._slots.play(group, chunks)
        self.sent += time.perf_counter() - start

    def results(self) -> dict[str, np.ndarray]:
        self.seconds = time.perf_counter() - self._start
        return self._slots.results()

    def played(self, count: int, lengths: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(seed, actions) of the first `count` episodes."""
        places = sorted(self._chunks)[:count]
        return [(int(self._seeds[p]), np.concatenate(self._chunks[p])[: lengths[p]]) for p in places]


def replicas(domain: envs.Domain, size: str, count: int) -> Any:
    """Untrained TRQAM policies: how long they take does not depend on what they have learnt."""
    import jax

    import agents
    from trqam_jax.agent_config import AgentConfig
    from trqam_jax.replicas import create_replicas
    from trqam_jax.types import Spec

    config = AgentConfig.create(agents.settings("trqam"), {"hidden_dims": SIZES[size]})
    spec = Spec(domain.observation_dim, domain.action_dim, domain.horizon)
    keys = jax.random.split(jax.random.key(0), count)
    return create_replicas(agents.AGENTS["trqam"], keys, spec, config)


def measure(domain: envs.Domain, cores: int) -> None:
    """The rows of one domain. Raw and evaluation take turns, and medians are printed: a machine is rarely quiet."""
    import jax

    from trqam_jax.evaluation import evaluate, start_seeds

    task, count = domain.default_task, FLAGS.replicas
    factory = envs.suite_of(domain).env_factory(domain, task)
    make = functools.partial(Raw, factory)
    seeds = start_seeds(list(range(count)), "benchmark", 0, FLAGS.episodes)
    keys = jax.random.split(jax.random.key(1), count)
    with (
        Workers([make] * cores) as raw,
        VectorSlots(
            [factory] * count,
            domain.observation_dim,
            FLAGS.episodes,
            workers=cores,
            groups=FLAGS.groups,
            slots_per_worker=FLAGS.slots or None,
        ) as slots,
    ):
        print(f"\n{domain.name}, {count} replicas, {FLAGS.episodes} episodes each, {cores} cores")
        print(
            f"{'':<20}{'steps/s':>9}{'raw':>9}{'raw at once':>13}{'of raw x cores':>16}{'of raw at once':>16}", end=""
        )
        print(f"{'policy':>8}{'wait':>7}{'send':>7}{'turns/s':>9}")
        observed = Observed(slots)
        for size in FLAGS.size:
            policies = replicas(domain, size, count)
            lengths = evaluate(policies, observed, seeds[:, :4], keys).lengths  # compiles; these are replayed raw
            order = observed.played(8, lengths), FLAGS.seconds
            rows = []
            for _ in range(FLAGS.rounds):
                raw.send(0, "steps_per_second", *order)
                alone, together = raw.receive(0), sum(raw.call("steps_per_second", [order] * cores))
                lengths, total = evaluate(policies, observed, seeds, keys).lengths, observed.seconds
                rate, wait, send = lengths.sum() / total, observed.waited / total, observed.sent / total
                ratios = rate / alone / cores, rate / together
                rows.append((rate, alone, together, *ratios, 1 - wait - send, wait, send, observed.turns / total))
            formats = "9.0f", "9.0f", "13.0f", "16.2f", "16.2f", "8.2f", "7.2f", "7.3f", "9.1f"
            medians = zip(np.median(rows, axis=0), formats, strict=True)
            print(f"{f'policy {size}':<20}" + "".join(f"{value:{form}}" for value, form in medians), flush=True)
        raw.send(0, "seconds_per_reset", seeds.ravel()[:16].tolist())
        reset = raw.receive(0)
        share = reset * seeds.size / cores / total
        print(f"a reset takes {1000 * reset:.1f} ms, all of them {share:.1%} of the last evaluation")


def main(_) -> None:
    from trqam_jax import backend
    from trqam_jax.versions import versions

    logging.set_verbosity(logging.WARNING)
    backend.prepare_process()
    found = versions()
    print(", ".join(f"{name} {found[name]}" for name in ("jax", "device", "python")))
    for name in FLAGS.env:
        measure(envs.parse_env(name)[0], FLAGS.workers or cpu_count())


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_multi_string("env", ["cube-single"], "Environment; may be given several times.")
    flags.DEFINE_multi_enum("size", list(SIZES), list(SIZES), "Networks of the policy; may be given several times.")
    flags.DEFINE_integer("replicas", 1, "Replicas.")
    flags.DEFINE_integer("episodes", 24, "Episodes per replica.")
    flags.DEFINE_integer("workers", 0, "Worker processes; 0: one per core.")
    flags.DEFINE_integer("groups", 2, "Groups of slots; with 1, policy and workers take turns.")
    flags.DEFINE_integer("slots", 0, "Slots per worker, at most; 0: as evaluation has them.")
    flags.DEFINE_integer("rounds", 3, "Measurements of each row.")
    flags.DEFINE_float("seconds", 2.0, "Of each raw measurement.")
    app.run(main)
