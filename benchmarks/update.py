"""How fast updates are: python -m benchmarks.update --agents=trqam,qam --replicas=1,2,4,8 --csv=update.csv

At the paper's size: 512 x 4, 10 critics, batch 256, H = 5, K = 10. "before" is, in the same run, the loop of the
released code's kind: one process per seed, minibatches sampled on the host, one dispatch per update, losses read back.
"released" is that loop with the arithmetic of the released update, which of TRQAM alone is known: a forward pass over
the rollout for the loss. (Its critics' pass over a single candidate is left out: XLA removes that by itself.)
`python -m benchmarks.budget update.csv` makes the README's table of what is written.
"""

import contextlib
import csv
import pathlib
import resource
import sys
import time
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import FrozenConfigDict

import agents
from benchmarks import flops
from trqam_jax import backend, data, trainer
from trqam_jax.errors import suggest
from trqam_jax.flow import Field
from trqam_jax.logging import versions
from trqam_jax.sde import Path, sample_path
from trqam_jax.streams import stack_streams
from trqam_jax.types import Array, Batch, Spec

BATCH = 256
PER_DISPATCH = 4  # updates of each replica; a run makes far more
SPEC = Spec(observation_dim=40, action_dim=5, horizon=5)


class Row(NamedTuple):
    """One measured loop."""

    agent: str
    loop: str  # "released", "before", or "now"
    replicas: int
    hidden_dims: str
    gflop: float  # of matrix products, per update
    xla_gflop: float  # of everything, as XLA counts it: bodies of loops once
    once_gflop: float  # of matrix products, bodies of loops once: to compare with XLA's
    mib_moved: float  # as XLA counts it, bodies of loops once
    peak_gflops: float  # of a 4096^3 product, mean of just before and just after
    create_seconds: float
    first_seconds: float  # from there to the end of the first update
    updates_per_second: float  # of all replicas together
    estimate_mib: float  # device memory by the compiler's account
    resident_mib: float  # peak resident memory of the process so far
    device: str
    jax: str


def fake_data(num_transitions: int = 20_000, episode: int = 500) -> data.Dataset:
    """Noise in the shape of a dataset."""
    rng = np.random.default_rng(0)
    n = num_transitions
    rows = np.arange(n) + np.arange(n) // episode
    return data.Dataset(
        observations=jnp.asarray(rng.normal(size=(rows[-1] + 2, SPEC.observation_dim)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, size=(n, SPEC.action_dim)), jnp.float32),
        rows=jnp.asarray(rows, jnp.int32),
        terminals=jnp.asarray((np.arange(n) + 1) % episode == 0),
        rewards=-jnp.ones((1, n)),
        masks=jnp.ones((1, n)),
    )


def now(agent_class: Any, config: Any, dataset: data.Dataset, num_replicas: int, seconds: float, per_pass: int) -> dict:
    """Create, first update, and a steady state of about `seconds`, by `trainer.Population`."""
    start = time.perf_counter()
    streams = stack_streams(list(range(num_replicas)), "offline")
    replicas = jax.block_until_ready(trainer.create_replicas(agent_class, streams.init, SPEC, config))
    created = time.perf_counter()
    source = trainer.Source(dataset, jnp.zeros(num_replicas, jnp.int32))
    population = trainer.Population(replicas, source, streams, trainer.Rules(BATCH), per_pass=per_pass)
    del replicas
    population.run(0, 1)
    first = time.perf_counter()
    done, steady = 0, time.perf_counter()
    while time.perf_counter() - steady < seconds:
        population.run(1 + done, PER_DISPATCH)
        done += PER_DISPATCH
    return {
        "create_seconds": created - start,
        "first_seconds": first - created,
        "updates_per_second": num_replicas * done / (time.perf_counter() - steady),
        "estimate_mib": sum(population.memory) / 2**20,
    }


def before(agent_class: Any, config: Any, dataset: data.Dataset, seconds: float) -> tuple[dict, Any]:
    """The plain loop of one replica, and its compiled update."""
    rng, horizon = np.random.default_rng(0), SPEC.horizon
    observations, actions, rows = (np.asarray(x) for x in (dataset.observations, dataset.actions, dataset.rows))

    def batch() -> Batch:
        i = rng.integers(0, len(actions) - horizon, BATCH)
        return Batch(
            observations=observations[rows[i]],
            actions=actions[i[:, None] + np.arange(horizon)],
            rewards=-np.ones(BATCH, np.float32),
            masks=np.ones(BATCH, np.float32),
            valid=np.ones(BATCH, np.float32),
            next_observations=observations[rows[i + horizon - 1] + 1],
        )

    start = time.perf_counter()
    agent = jax.block_until_ready(agent_class.create(jax.random.key(0), SPEC, config))
    created, key = time.perf_counter(), jax.random.key(1)
    update = jax.jit(lambda *given: agent_class.update(*given)).lower(agent, batch(), key).compile()
    agent, _ = jax.block_until_ready(update(agent, batch(), key))
    first, done = time.perf_counter(), 0
    while time.perf_counter() - first < seconds:
        key, step_key = jax.random.split(key)
        agent, info = update(agent, batch(), step_key)
        {name: float(value) for name, value in info.items()}
        done += 1
    rate = done / (time.perf_counter() - first)
    times = {"create_seconds": created - start, "first_seconds": first - created, "updates_per_second": rate}
    return {**times, "estimate_mib": float("nan")}, update


def _second_pass(velocity: Field, base: Field, x0: Array, eps: Array) -> Path:
    """`sample_path` without gradients, and the velocities at its points once more for the loss."""
    path = jax.tree.map(jax.lax.stop_gradient, sample_path(velocity, base, x0, eps))
    times = path.ts[:, None, None]
    return path._replace(gap=velocity(path.xs, times) - base(path.xs, times))


def measure(name: str, loop: str, replicas: int, dataset: data.Dataset) -> dict[str, Any]:
    """A row but for the machine."""
    agent_class, key = agents.AGENTS[name], jax.random.key(0)
    config = agents.default_config(name)
    config.hidden_dims = tuple(map(int, FLAGS.hidden_dims))
    config = FrozenConfigDict(config)
    agent = jax.eval_shape(lambda: agent_class.create(key, SPEC, config))
    batch = jax.eval_shape(lambda: data.sample(dataset, jnp.int32(0), key, BATCH, SPEC.horizon, 0.99))
    released = mock.patch("trqam_jax.adjoint.sample_path", _second_pass)
    with released if loop == "released" else contextlib.nullcontext():
        # A lambda each, because a traced function is remembered, and with it what was not yet put in its place.
        work, once = (
            flops.count(lambda *given: agent_class.update(*given), agent, batch, key, loops=loops) / 1e9
            for loops in (True, False)
        )
        counts = {"gflop": work, "xla_gflop": float("nan"), "once_gflop": once, "mib_moved": float("nan")}
        if loop == "now":
            return counts | now(agent_class, config, dataset, replicas, FLAGS.seconds, FLAGS.replicas_per_pass)
        measured, update = before(agent_class, config, dataset, FLAGS.seconds)
        analysis = update.cost_analysis()
        counts |= {"xla_gflop": analysis["flops"] / 1e9, "mib_moved": analysis["bytes accessed"] / 2**20}
        return counts | measured


def main(_) -> None:
    names = [name for name in agents.AGENTS if name != "bc"] if FLAGS.agents == ["all"] else FLAGS.agents
    for name in names:
        if name not in agents.AGENTS:
            sys.exit(f"error: Unknown agent {name!r}.{suggest(name, agents.AGENTS)}")
    if FLAGS.cache:
        backend.keep_compiled_programs()
    found, dataset, rows, peak = versions(), fake_data(), [], flops.matmul_peak()
    print(", ".join(f"{name} {found[name]}" for name in ("jax", "device", "python")))
    titles = ("agent", "loop", "R", "create s", "first s", "updates/s", "of peak", "peak GFLOP/s", "MiB estimated")
    print(f"{titles[0]:<16}{titles[1]:<9}{titles[2]:>3}" + "".join(f"{title:>15}" for title in titles[3:]))
    for name in names:
        plain = (["released"] if name == "trqam" else []) + ["before"] if FLAGS.before else []
        for loop, count in [*((loop, 1) for loop in plain), *(("now", int(r)) for r in FLAGS.replicas)]:
            measured, peak_before = measure(name, loop, count, dataset), peak
            jax.clear_caches()
            peak = flops.matmul_peak()
            row = Row(
                agent=name,
                loop=loop,
                replicas=count,
                hidden_dims="x".join(FLAGS.hidden_dims),
                peak_gflops=(peak_before + peak) / 2e9,
                **measured,
                resident_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                device=found["device"],
                jax=found["jax"],
            )
            numbers = (row.create_seconds, row.first_seconds, row.updates_per_second)
            share = row.updates_per_second * row.gflop / row.peak_gflops
            cells = [*(f"{x:.2f}" for x in (*numbers, share)), f"{row.peak_gflops:.0f}", f"{row.estimate_mib:.0f}"]
            print(f"{name:<16}{loop:<9}{count:>3}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
            rows.append(row)
            if FLAGS.csv:  # after every row: what was measured survives what comes later
                with pathlib.Path(FLAGS.csv).open("w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(Row._fields)
                    writer.writerows([f"{x:.5g}" if isinstance(x, float) else x for x in row] for row in rows)


if __name__ == "__main__":
    FLAGS = flags.FLAGS
    flags.DEFINE_list("agents", ["trqam"], "Algorithms, or all.")
    flags.DEFINE_list("replicas", ["1", "2", "4", "8"], "Numbers of replicas.")
    flags.DEFINE_list("hidden_dims", ["512"] * 4, "Widths of all networks.")
    flags.DEFINE_integer("replicas_per_pass", 0, "As main.py's.")
    flags.DEFINE_bool("before", True, "Measure the plain loop as well.")
    flags.DEFINE_bool("cache", False, "Keep compiled programs, as main.py does: a second run starts warm.")
    flags.DEFINE_float("seconds", 10.0, "Steady state to measure, per row.")
    flags.DEFINE_string("csv", None, "Where the rows are written.")
    app.run(main)
