"""Random streams: every draw is a function of (seed, purpose, step) and of nothing else.

Two methods under one seed therefore see the same minibatches, flow noise and evaluation starts, whether a seed runs
alone or beside others, and however the updates are cut into dispatches.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from trqam_jax.types import Array, Key


class Streams(NamedTuple):
    """One key per purpose; leaves are scalars, or (R,) for R replicas."""

    init: Array
    batch: Array
    update: Array
    evaluation: Array
    acting: Array  # online


def named(key: Key, name: str) -> Key:
    """The stream called `name` below `key`; the same name gives the same draws in every algorithm."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def normals(key: Key, **shapes: tuple[int, ...]) -> dict[str, Array]:
    """Standard normal draws by name, each from its own stream."""
    return {name: jax.random.normal(named(key, name), shape) for name, shape in shapes.items()}


def make_streams(seed: int, phase: str) -> Streams:
    """The streams of one replica in one phase ("bc", "offline", ...)."""
    key = named(jax.random.key(seed), phase)
    return Streams(*(named(key, purpose) for purpose in Streams._fields))


def stack_streams(seeds: Sequence[int], phase: str) -> Streams:
    """Streams of R replicas, leaves (R,)."""
    return jax.tree.map(lambda *keys: jnp.stack(keys), *(make_streams(seed, phase) for seed in seeds))
