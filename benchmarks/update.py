"""Time to the first update, and updates per second: python -m benchmarks.update --agent=trqam.

At the paper's size: 512 x 4, 10 critics, batch 256, H = 5, K = 10. The baseline of the same run is the loop of the
released code's kind: sample on the host, one jitted update per dispatch.
"""

import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import FrozenConfigDict

import agents
from benchmarks import flops
from trqam_jax import data, trainer
from trqam_jax.errors import suggest
from trqam_jax.logging import versions
from trqam_jax.streams import stack_streams
from trqam_jax.types import Batch, Spec

BATCH = 256
SPEC = Spec(observation_dim=40, action_dim=5, horizon=5)


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


class Timing(NamedTuple):
    """Of R replicas in the compiled loop."""

    create: float  # seconds
    first: float  # seconds from there to the end of the first update
    rate: float  # updates per second of all replicas together
    memory: trainer.Memory


def compiled_loop(agent_class, config, dataset, num_replicas: int, seconds: float, per_pass: int = 0) -> Timing:
    """Create, first update, and a steady state of about `seconds`."""
    start = time.perf_counter()
    streams = stack_streams(list(range(num_replicas)), "offline")
    replicas = jax.block_until_ready(trainer.create_replicas(agent_class, streams.init, SPEC, config))
    created = time.perf_counter()
    tasks = jnp.zeros(num_replicas, jnp.int32)
    population = trainer.Population(
        replicas, trainer.Source(dataset, tasks), streams, trainer.Rules(BATCH), per_pass=per_pass
    )
    del replicas
    population.run(0, 1)
    first = time.perf_counter()
    done, length = 0, 1
    steady = time.perf_counter()
    while time.perf_counter() - steady < seconds:
        population.run(1 + done, length)
        done += length
        length = min(2 * length, 16)
    rate = num_replicas * done / (time.perf_counter() - steady)
    return Timing(created - start, first - created, rate, population.memory)


def per_dispatch(agent_class, config, dataset, seconds: float) -> float:
    """Updates per second of the plain loop, one replica: numpy sampling, one dispatch per update, losses read back."""
    rng, horizon = np.random.default_rng(0), SPEC.horizon
    observations, actions, rows = (np.asarray(x) for x in (dataset.observations, dataset.actions, dataset.rows))
    agent = agent_class.create(jax.random.key(0), SPEC, config)
    update = jax.jit(agent_class.update)
    key, done, start = jax.random.key(1), -1, 0.0
    while done < 2 or time.perf_counter() - start < seconds:
        if done == 0:
            start = time.perf_counter()  # the first update compiled
        i = rng.integers(0, len(actions) - horizon, BATCH)
        batch = Batch(
            observations=observations[rows[i]],
            actions=actions[i[:, None] + np.arange(horizon)],
            rewards=-np.ones(BATCH, np.float32),
            masks=np.ones(BATCH, np.float32),
            valid=np.ones(BATCH, np.float32),
            next_observations=observations[rows[i + horizon - 1] + 1],
        )
        key, step_key = jax.random.split(key)
        agent, info = update(agent, batch, step_key)
        {name: float(value) for name, value in info.items()}
        done += 1
    return done / (time.perf_counter() - start)


def main(_) -> None:
    if FLAGS.agent not in agents.AGENTS:
        sys.exit(f"error: Unknown agent {FLAGS.agent!r}.{suggest(FLAGS.agent, agents.AGENTS)}")
    agent_class = agents.AGENTS[FLAGS.agent]
    config = FrozenConfigDict(agents.default_config(FLAGS.agent))
    dataset = fake_data()
    agent = jax.eval_shape(lambda: agent_class.create(jax.random.key(0), SPEC, config))
    key = jax.random.key(0)
    batch = jax.eval_shape(lambda: data.sample(dataset, jnp.int32(0), key, BATCH, SPEC.horizon, 0.99))
    work = flops.count(agent_class.update, agent, batch, key)
    peak = flops.matmul_peak()
    found = versions()
    print(", ".join(f"{name} {found[name]}" for name in ("jax", "device", "python")))
    print(f"{FLAGS.agent}: {work / 1e9:.1f} GFLOP of matrix products per update; matmul peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'loop':<24}{'create s':>10}{'first s':>10}{'updates/s':>12}{'of peak':>10}")

    def row(name: str, created: float | None, first: float | None, rate: float) -> None:
        times = "".join("".rjust(10) if t is None else f"{t:10.2f}" for t in (created, first))
        print(f"{name:<24}{times}{rate:12.3f}{rate * work / peak:10.2f}", flush=True)

    for count in map(int, FLAGS.replicas):
        timing = compiled_loop(agent_class, config, dataset, count, FLAGS.seconds)
        row(f"compiled, R={count}", timing.create, timing.first, timing.rate)
    row("host-sampled, R=1", None, None, per_dispatch(agent_class, config, dataset, FLAGS.seconds))
    print(f"matmul peak again, after the runs: {flops.matmul_peak() / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    FLAGS = flags.FLAGS
    flags.DEFINE_string("agent", "trqam", "Algorithm.")
    flags.DEFINE_list("replicas", ["1", "2", "4"], "Numbers of replicas.")
    flags.DEFINE_float("seconds", 20.0, "Steady state to measure, per row.")
    app.run(main)
