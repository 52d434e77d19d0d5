"""Loops of few steps in the form that suits the platform they are compiled for."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from trqam_jax.backend import target_platform
from trqam_jax.types import Array

UNROLLED_STEPS = 16  # at most
Carry = TypeVar("Carry")
X = TypeVar("X")
Y = TypeVar("Y")


def scan(
    step: Callable[[Carry, X], tuple[Carry, Y]], init: Carry, xs: X, *, reverse: bool = False, unrolled: bool = False
) -> tuple[Carry, Y]:
    """`jax.lax.scan`. On a GPU a few steps follow one another in the program, elsewhere only if `unrolled` is set.

    A GPU's loop starts its steps from the host, and stands between what lies before and after it and could be captured
    in one graph of kernels.
    """
    length = len(jax.tree.leaves(xs)[0])
    unroll = (unrolled or target_platform() == "gpu") and length <= UNROLLED_STEPS
    return jax.lax.scan(step, init, xs, reverse=reverse, unroll=unroll)


def shared(scalar: Array) -> Array:
    """The scalar, for many leaves of a state to depend on. On a GPU read from an array: XLA makes one kernel of what it
    computes of leaves of one shape if they read an array in common, and one per leaf if that is only a scalar."""
    if target_platform() != "gpu":
        return scalar
    return jax.lax.optimization_barrier(jnp.broadcast_to(scalar, (2, *jnp.shape(scalar))))[0]
