"""How fast updates are: python -m benchmarks.update --agents=trqam,qam --replicas=1,2,4,8 --csv=update.csv

At the paper's size: 512 x 4, 10 critics, batch 256, H = 5, K = 10. "before" is, in the same run, the loop of the
released code's kind: one process per seed, minibatches sampled on the host, one dispatch per update, losses read back.
"released" is that loop with the arithmetic of the released update, which of TRQAM alone is known: a forward pass over
the rollout for the loss. (Its critics' pass over a single candidate is left out: XLA removes that by itself.)
Every row is a process of its own; the compiled loop's is started a second time, from the programs that the first kept.
`python -m benchmarks.budget update.csv` makes the table of benchmarks/README.md of what is written.
"""

import concurrent.futures
import contextlib
import csv
import multiprocessing
import os
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from tqdm import tqdm

import agents
from benchmarks import flops
from experiments.training.phases import Offline
from trqam_jax import backend, console, data
from trqam_jax.agent_config import AgentConfig
from trqam_jax.errors import suggest
from trqam_jax.flow import Field
from trqam_jax.replicas import Population, create_replicas
from trqam_jax.sde import Path, sample_path
from trqam_jax.streams import stack_streams
from trqam_jax.types import Array, Batch, Spec
from trqam_jax.update_loop import ReplicaData, SamplingConfig
from trqam_jax.versions import versions

BATCH = 256
SPEC = Spec(observation_dim=40, action_dim=5, horizon=5)


class Loop(NamedTuple):
    """What a process measures."""

    agent: str
    kind: str  # "released", "before", or "now"
    replicas: int
    hidden_dims: tuple[int, ...]
    per_pass: int
    seconds: float


class Row(NamedTuple):
    """One measured loop."""

    agent: str
    loop: str
    replicas: int
    hidden_dims: str
    gflop: float  # of matrix products, per update
    xla_gflop: float  # of everything, as XLA counts it: bodies of loops once
    once_gflop: float  # of matrix products, bodies of loops once: to compare with XLA's
    mib_moved: float  # as XLA counts it, bodies of loops once
    peak_gflops: float  # of a 4096^3 product, mean of just before and just after
    create_seconds: float
    first_seconds: float  # from there to the end of the first update
    warm_seconds: float  # both, with the programs kept from before
    updates_per_second: float  # of all replicas together
    estimate_mib: float  # device memory by the compiler's account
    resident_mib: float  # the process's peak, the matrices of the peak included
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


def first_update(agent_class: Any, config: Any, loop: Loop) -> tuple[Population, float, float]:
    """A population after its first update; seconds to create it, and from there on."""
    dataset, start = fake_data(), time.perf_counter()
    streams = stack_streams(list(range(loop.replicas)), "offline")
    replicas = jax.block_until_ready(create_replicas(agent_class, streams.init, SPEC, config))
    created = time.perf_counter()
    source = ReplicaData(dataset, jnp.zeros(loop.replicas, jnp.int32))
    population = Population(replicas, source, streams, SamplingConfig(BATCH), per_pass=loop.per_pass)
    del replicas
    population.run(0, 1)
    return population, created - start, time.perf_counter() - created


def now(agent_class: Any, config: Any, loop: Loop) -> dict[str, float]:
    """The loop of a run."""
    population, created, first = first_update(agent_class, config, loop)
    offline, done, steady = Offline(population), 1, time.perf_counter()
    while time.perf_counter() - steady < loop.seconds:
        done = offline.advance(done, 2 * done, tqdm(disable=True))
    return {
        "create_seconds": created,
        "first_seconds": first,
        "updates_per_second": loop.replicas * (done - 1) / (time.perf_counter() - steady),
        "estimate_mib": sum(population.memory) / 2**20,
    }


def before(agent_class: Any, config: Any, loop: Loop) -> dict[str, float]:
    """The plain loop of one replica, and what XLA says of its update."""
    dataset = fake_data()
    rng, horizon = np.random.default_rng(0), SPEC.horizon
    observations, actions, rows = (np.asarray(x) for x in (dataset.observations, dataset.actions, dataset.rows))

    def batch() -> Batch:
        i = rng.integers(0, len(actions) - horizon, BATCH)
        return Batch(
            observations=observations[rows[i]],
            actions=actions[i[:, None] + np.arange(horizon)],
            rewards=-np.ones(BATCH, np.float32),
            masks=np.ones(BATCH, np.float32),
            in_episode=np.ones((BATCH, horizon), np.float32),
            next_observations=observations[rows[i + horizon - 1] + 1],
        )

    start = time.perf_counter()
    agent = jax.block_until_ready(agent_class.create(jax.random.key(0), SPEC, config))
    created, key = time.perf_counter(), jax.random.key(1)
    update = jax.jit(lambda *given: agent_class.update(*given)).lower(agent, batch(), key).compile()
    agent, _ = jax.block_until_ready(update(agent, batch(), key))
    first, done = time.perf_counter(), 0
    while time.perf_counter() - first < loop.seconds:
        key, step_key = jax.random.split(key)
        agent, info = update(agent, batch(), step_key)
        {name: float(value) for name, value in info.items()}
        done += 1
    rate, analysis = done / (time.perf_counter() - first), update.cost_analysis()
    return {
        "create_seconds": created - start,
        "first_seconds": first - created,
        "updates_per_second": rate,
        "xla_gflop": analysis["flops"] / 1e9,
        "mib_moved": analysis["bytes accessed"] / 2**20,
    }


def _second_pass(velocity: Field, base: Field, x0: Array, eps: Array) -> Path:
    """`sample_path` without gradients, and the velocities at its points once more for the loss."""
    path = jax.tree.map(jax.lax.stop_gradient, sample_path(velocity, base, x0, eps))
    times = path.ts[:, None, None]
    return path._replace(delta_v=velocity(path.xs, times) - base(path.xs, times))


def configured(loop: Loop) -> tuple[Any, AgentConfig]:
    """The algorithm and its settings, in a process that is as `main.py` has it if the loop is today's."""
    if loop.kind == "now":
        backend.prepare_process()
    config = AgentConfig.create(agents.settings(loop.agent), {"hidden_dims": loop.hidden_dims})
    return agents.AGENTS[loop.agent], config


def measure(loop: Loop) -> Row:
    """All but a start from kept programs."""
    agent_class, config = configured(loop)
    found, key, peak = versions(), jax.random.key(0), flops.matmul_peak()
    released = mock.patch("trqam_jax.adjoint.sample_path", _second_pass)
    with released if loop.kind == "released" else contextlib.nullcontext():
        measured = (now if loop.kind == "now" else before)(agent_class, config, loop)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        dataset = fake_data()
        agent = jax.eval_shape(lambda: agent_class.create(key, SPEC, config))
        batch = jax.eval_shape(lambda: data.sample(dataset, jnp.int32(0), key, BATCH, SPEC.horizon, 0.99))
        work, once = (
            flops.count(lambda *given: agent_class.update(*given), agent, batch, key, loops=loops) / 1e9
            for loops in (True, False)
        )
    unknown = dict.fromkeys(("xla_gflop", "mib_moved", "warm_seconds", "estimate_mib"), float("nan"))
    rest = {
        "hidden_dims": "x".join(map(str, loop.hidden_dims)),
        "gflop": work,
        "once_gflop": once,
        "peak_gflops": (peak + flops.matmul_peak()) / 2e9,
        "resident_mib": resident,
        "device": found["device"],
        "jax": found["jax"],
    }
    return Row(agent=loop.agent, loop=loop.kind, replicas=loop.replicas, **{**unknown, **measured, **rest})


def start_again(loop: Loop) -> float:
    """Seconds to create it and make the first update."""
    _, *seconds = first_update(*configured(loop), loop)
    return sum(seconds)


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) in a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *args).result()


def _sizes(name: str) -> tuple[int, ...]:
    """Of a flag that lists numbers from 1 on."""
    texts = FLAGS[name].value
    if not texts or not all(text.isdecimal() and int(text) for text in texts):
        sys.exit(f"error: --{name}={','.join(texts)}: expected numbers from 1 on, separated by commas")
    return tuple(map(int, texts))


def main(_) -> None:
    names = [name for name in agents.AGENTS if name != "bc"] if FLAGS.agents == ["all"] else FLAGS.agents
    for name in names:
        if name not in agents.AGENTS:
            sys.exit(f"error: Unknown agent {name!r}.{suggest(name, agents.AGENTS)}")
    if FLAGS.seconds <= 0:
        sys.exit(f"error: --seconds={FLAGS.seconds}: expected more than 0")
    widths, counts = (_sizes(name) for name in ("hidden_dims", "replicas"))
    found = in_new_process(versions)  # this process leaves the device alone
    print(", ".join(f"{name} {found[name]}" for name in ("jax", "device", "python")))
    titles = "create s", "first s", "warm s", "updates/s", "of peak", "peak GFLOP/s", "MiB estimated", "MiB resident"
    print(f"{'agent':<16}{'loop':<9}{'R':>3}" + "".join(f"{title:>15}" for title in titles))
    rows, settings = [], (widths, FLAGS.replicas_per_pass, FLAGS.seconds)
    for name in names:
        plain = (["released"] if name == "trqam" else []) + ["before"] if FLAGS.before else []
        for kind, count in [*((kind, 1) for kind in plain), *(("now", r) for r in counts)]:
            loop = Loop(name, kind, count, *settings)
            with tempfile.TemporaryDirectory() as folder:
                os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
                row = in_new_process(measure, loop)
                if kind == "now" and FLAGS.warm:
                    row = row._replace(warm_seconds=in_new_process(start_again, loop))
            numbers = row.create_seconds, row.first_seconds, row.warm_seconds, row.updates_per_second
            share = row.updates_per_second * row.gflop / row.peak_gflops
            cells = [f"{x:.2f}" for x in (*numbers, share)]
            cells += [f"{x:.0f}" for x in (row.peak_gflops, row.estimate_mib, row.resident_mib)]
            print(f"{name:<16}{kind:<9}{count:>3}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
            rows.append(row)
            if FLAGS.csv:  # after every row: what was measured survives what comes later
                with pathlib.Path(FLAGS.csv).open("w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(Row._fields)
                    writer.writerows([f"{x:.5g}" if isinstance(x, float) else x for x in row] for row in rows)


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_list("agents", ["trqam"], "Algorithms, or all.")
    flags.DEFINE_list("replicas", ["1", "2", "4", "8"], "Numbers of replicas.")
    flags.DEFINE_list("hidden_dims", ["512"] * 4, "Widths of all networks.")
    flags.DEFINE_integer("replicas_per_pass", 0, "As main.py's.")
    flags.DEFINE_bool("before", True, "Measure the plain loop as well.")
    flags.DEFINE_bool("warm", True, "Start today's loop again with the programs kept.")
    flags.DEFINE_float("seconds", 10.0, "Steady state to measure, per row, at least.")
    flags.DEFINE_string("csv", None, "Where the rows are written.")
    app.run(main)
