"""The update's program compiled for a device that is not here: an NVIDIA H100, a TPU v5e."""

import pathlib
import time
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

import agents
from benchmarks import targets
from trqam_jax import backend, replicas
from trqam_jax.agent import AbstractAgent
from trqam_jax.data import Dataset
from trqam_jax.replay import Replay
from trqam_jax.streams import stack_streams
from trqam_jax.types import Spec
from trqam_jax.update_loop import ReplicaData, SamplingConfig, zero_totals

TARGETS = {"gpu": "h100", "tpu": "v5e"}  # by platform, as benchmarks.targets calls them
ROWS, EPISODE = 20_000, 500  # of the dataset, and of the replay online


class Request(NamedTuple):
    """A program."""

    platform: str  # "gpu" or "tpu"
    agent: str
    replicas: int
    hidden_dims: tuple[int, ...]
    num_critics: int
    batch: int
    spec: Spec
    precision: str  # as the setting of a run


class Compiled(NamedTuple):
    """What the compiler says of it."""

    program: Any
    options: dict[str, Any]  # the compiler's, as the trainer asks for them
    lower_seconds: float  # tracing and lowering
    seconds: float
    processor_seconds: float  # of all cores


def compile_updates(request: Request, dump: pathlib.Path | None = None) -> Compiled:
    """The program of a dispatch, as `replicas.Population` compiles it for a pass of all the replicas: of the offline
    phase, or the online one of a method that has no other. Every array is a shape alone.

    dump: an empty folder for the files that XLA writes of it.
    """
    with targets.compiling(TARGETS[request.platform]) as sharding, backend.matmul_precision(request.precision):
        own, dataset, sampling = _arguments(request)
        options = backend.compiler_options(request.replicas)
        files = {"xla_dump_to": str(dump), "xla_dump_hlo_module_re": ".*run_updates.*"} if dump else {}
        start = time.perf_counter()
        with mock.patch.object(replicas, "shardings", return_value=(sharding, sharding)):
            lowered = replicas._lower(own, dataset, sampling, request.replicas)
        middle, processor = time.perf_counter(), time.process_time()
        program = lowered.compile({**options, **files})
        seconds, processor_seconds = time.perf_counter() - middle, time.process_time() - processor
    return Compiled(program, options, middle - start, seconds, processor_seconds)


def _arguments(request: Request) -> tuple[Any, Any, SamplingConfig]:
    """What `replicas._lower` takes of it."""
    agent_class, spec = agents.AGENTS[request.agent], request.spec
    config = agents.make_config(request.agent, hidden_dims=request.hidden_dims, num_critics=request.num_critics)
    streams = stack_streams(list(range(request.replicas)), "online" if agent_class.online_only else "offline")
    shapes: AbstractAgent = replicas.replica_shapes(agent_class, streams.init, spec, config)
    replay = None
    sampling = SamplingConfig(request.batch, windows=shapes.windows)
    if agent_class.online_only:
        sampling = SamplingConfig(request.batch, start_training=5_000, balanced=True)
        empty = lambda: Replay.of_replicas(request.replicas, ROWS, spec.observation_dim, spec.action_dim)
        replay = jax.eval_shape(empty)
    source = ReplicaData(dataset_shapes(spec), jnp.zeros(request.replicas, jnp.int32), replay)
    totals = zero_totals(shapes, source, streams, sampling)
    return replicas._Pass(shapes, totals, source.task, replay, streams), source.dataset, sampling


def dataset_shapes(spec: Spec) -> Dataset:
    """Of one task."""
    episodes = ROWS // EPISODE
    sizes: dict[str, tuple[tuple[int, ...], Any]] = {
        "observations": ((ROWS + episodes, spec.observation_dim), jnp.float32),
        "actions": ((ROWS, spec.action_dim), jnp.float32),
        "rows": ((ROWS,), jnp.int32),
        "terminals": ((ROWS,), bool),
        "rewards": ((1, ROWS), jnp.float32),
        "masks": ((1, ROWS), jnp.float32),
        "ends": ((episodes,), jnp.int32),
    }
    shapes: dict[str, Any] = {name: jax.ShapeDtypeStruct(*size) for name, size in sizes.items()}
    return Dataset(**shapes)
