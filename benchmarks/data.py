"""What large data cost: python -m benchmarks.data --rows=2000000 --source=cube-single-play-v0.npz

Copies of one file, one after the other, as shards of at least so many rows: size, conversion and loading with their
times and peak memories, and updates per second on data on the device and streamed, in one run. Every step has a
process of its own, whose peak resident memory counts the files that it has mapped and looked at.
"""

import contextlib
import io
import os
import pathlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

import envs
from envs.ogbench import SUITE, convert, files, generate
from envs.ogbench.domains import dataset_name
from trqam_jax import console
from trqam_jax.errors import UserError

BATCH = 256
NETWORKS = {(128,) * 3: 50, (512,) * 4: 5}  # hidden_dims: updates in a block, few so that many blocks are used up


def write_shards(source: pathlib.Path, domain: envs.Domain, folder: pathlib.Path, rows: int, shards: int) -> int:
    """Shards of equal size, together of at least `rows` rows; returns how many there are."""
    with np.load(source, allow_pickle=False) as file:
        length = len(file["observations"])
        arrays = {key: file[key] for key in file if file[key].shape[:1] == (length,)}
    copies = -(-rows // (shards * length))
    for number in range(shards):
        path = folder / f"{dataset_name(domain)}-{number:03d}.npz"
        copied: dict[str, Any] = {key: np.concatenate([array] * copies) for key, array in arrays.items()}
        np.savez(path, **copied)
        shutil.copy(files.partner(source), files.partner(path))
    return shards * copies * length


def alone(function: Callable, *arguments: Any) -> tuple[Any, float, float]:
    """(result, seconds, peak MiB) of a call in a fresh process; the seconds without its start."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured, function, *arguments).result()


def _measured(function: Callable, *arguments: Any) -> tuple[Any, float, float]:
    with contextlib.redirect_stdout(io.StringIO()):  # lines that name folders
        start = time.perf_counter()
        result = function(*arguments)
        seconds = time.perf_counter() - start
    return result, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def simulator(env: str) -> None:
    """What every conversion needs besides data."""
    from ogbench import relabel_utils  # noqa: F401

    made = SUITE.env_factory(SUITE.domains[env], 1)()
    made.reset(0)
    made.close()


def arrays_of(folder: pathlib.Path, env: str) -> envs.Arrays:
    """The converted arrays of the domain's default task."""
    domain = SUITE.domains[env]
    return SUITE.load(folder, domain, [domain.default_task], domain.horizon, sparse=False, shards=0)


def opened(folder: pathlib.Path, env: str) -> int:
    """Bytes of the converted arrays, opened and not looked at."""
    arrays = arrays_of(folder, env)
    return sum(np.asarray(array).nbytes for array in (*arrays[:4], *arrays.rewards, *arrays.masks))


def on_device(folder: pathlib.Path | None, env: str) -> None:
    """The converted arrays, resident; of nothing: JAX alone."""
    import jax

    from trqam_jax import data

    jax.block_until_ready(data.to_device(arrays_of(folder, env)) if folder else jax.numpy.zeros(1))


def forget(folder: pathlib.Path) -> None:
    """Have the system drop what it keeps of the files in memory."""
    for path in folder.glob("*/*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Kind(NamedTuple):
    """How data reach the updates."""

    name: str
    resident: bool = False
    forgotten: bool = False  # the files are not in the host's memory at first
    cycle: int = 0
    run_blocks: bool = False  # blocks as long as a run's, not so short that many are used up


KINDS = (
    Kind("resident", resident=True),
    Kind("streamed"),
    Kind("streamed, files not in memory", forgotten=True),
    Kind("streamed, one shard at a time", cycle=1000),
    Kind("streamed, blocks as a run's", run_blocks=True),
    Kind("streamed so, files not in memory", run_blocks=True, forgotten=True),
    Kind("resident, again", resident=True),
)


def updates(folder: pathlib.Path, env: str, hidden_dims: tuple[int, ...], kind: Kind, seconds: float) -> tuple:
    """(seconds of the first update, updates per second of the others, blocks begun, seconds waited for all but the
    first, MiB of data on the device) of one replica of TRQAM, compiled."""
    import jax.numpy as jnp

    import agents
    from trqam_jax import backend, data
    from trqam_jax.agent_config import AgentConfig
    from trqam_jax.replicas import Population, create_replicas
    from trqam_jax.streaming import MOST_UPDATES, Stream
    from trqam_jax.streams import stack_streams
    from trqam_jax.types import Spec
    from trqam_jax.update_loop import ReplicaData, SamplingConfig

    backend.prepare_process()
    domain = SUITE.domains[env]
    config = AgentConfig.create(agents.settings("trqam"), {"hidden_dims": hidden_dims})
    spec = Spec(domain.observation_dim, domain.action_dim, domain.horizon)
    arrays, streams = arrays_of(folder, env), stack_streams([0], "offline")
    length = MOST_UPDATES if kind.run_blocks else NETWORKS[hidden_dims]
    source = data.to_device(arrays, kind.cycle) if kind.resident else Stream(arrays, kind.cycle, length)
    made = create_replicas(agents.AGENTS["trqam"], streams.init, spec, config)
    population = Population(made, ReplicaData(source, jnp.zeros(1, jnp.int32)), streams, SamplingConfig(BATCH))
    del made
    start = time.perf_counter()
    population.run(0, 1)
    first = time.perf_counter() - start
    done, start = 1, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count = max(1, int(0.5 * (done - 1) / (time.perf_counter() - start)))  # as a run: a dispatch in half a second
        population.run(done, count)
        done += count
    rate = (done - 1) / (time.perf_counter() - start)
    blocks, waited = (0, 0.0) if kind.resident else (-(-done // length), source.waited)
    return first, rate, blocks, waited, population.memory.data / 2**20


def main(_) -> None:
    domain = SUITE.domains[FLAGS.env]
    with tempfile.TemporaryDirectory(dir=FLAGS.out_dir) as place:
        folder = pathlib.Path(place) / "shards"
        folder.mkdir()
        if FLAGS.source:
            source = pathlib.Path(FLAGS.source)
        else:
            source = generate.generate(FLAGS.env, episodes=FLAGS.episodes, out_dir=place)
        rows = write_shards(source, domain, folder, FLAGS.rows, FLAGS.shards)
        size = sum(path.stat().st_size for path in folder.glob("*-???.npz"))
        print(
            f"{rows:,} rows of {domain.name} in {FLAGS.shards} shards: {size / 2**20:,.0f} MiB of npz, not compressed"
        )

        print(f"\n{'':<48}{'seconds':>10}{'peak MiB':>10}")
        row = lambda name, seconds, peak: print(f"{name:<48}{seconds:>10.2f}{peak:>10,.0f}", flush=True)
        row("simulator alone", *alone(simulator, domain.name)[1:])
        row("conversion, one task", *alone(convert.convert, folder, domain.name)[1:])
        row("conversion, the other four tasks", *alone(convert.convert, folder, domain.name, "all")[1:])
        converted, *numbers = alone(opened, folder, domain.name)
        row(f"opening ({converted / 2**20:,.0f} MiB for one task)", *numbers)
        row("JAX alone", *alone(on_device, None, domain.name)[1:])
        row("onto the device", *alone(on_device, folder, domain.name)[1:])

        titles = ("first s", "updates/s", "blocks", "waited s", "data MiB", "peak MiB")
        print(f"\n{'TRQAM, 1 replica, batch 256':<48}" + "".join(f"{title:>10}" for title in titles))
        for hidden_dims in NETWORKS:
            for _ in range(FLAGS.repeats):
                for kind in KINDS:
                    if kind.forgotten:
                        forget(folder)
                    measured, _, peak = alone(updates, folder, domain.name, hidden_dims, kind, FLAGS.seconds)
                    first, rate, blocks, waited, data = measured
                    name = f"{hidden_dims[0]} x {len(hidden_dims)}, {kind.name}"
                    numbers = f"{first:>10.2f}{rate:>10.2f}{blocks:>10}{waited:>10.3f}{data:>10,.0f}{peak:>10,.0f}"
                    print(f"{name:<48}{numbers}", flush=True)


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_string("env", "cube-single", "Domain.")
    flags.DEFINE_string("source", None, "An OGBench file with its validation file; by default it is generated.")
    flags.DEFINE_integer("episodes", 60, "To generate.")
    flags.DEFINE_integer("rows", 2_000_000, "At least so many.")
    flags.DEFINE_integer("shards", 4, "Number of shards.")
    flags.DEFINE_integer("repeats", 2, "How often updates are measured, in turn.")
    flags.DEFINE_float("seconds", 15.0, "Of updates, per row.")
    flags.DEFINE_string(
        "out_dir", None, "Where a temporary folder is made; it takes about twice the size of the shards."
    )
    try:
        app.run(main)
    except UserError as error:
        sys.exit(f"error: {error}")
