"""Arithmetic of a traced function: the matrix products, counted exactly, with loops multiplied out."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval


def count(function: Callable[..., Any], *args: Any, loops: bool = True) -> int:
    """Floating-point operations (2 per multiply-add) of all matrix products in one call that its result needs.

    loops: multiplied by the loops' lengths; without, their bodies count once, as in XLA's cost analysis.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(used, loops)


def _count(jaxpr: Any, loops: bool) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            lhs = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(lhs[i] for i in contracted)
        times = 1
        if equation.primitive.name == "scan":  # an unrolled one is no loop
            times = equation.params["length" if loops else "unroll"]
        total += times * sum(_count(inner, loops) for inner in _inner(equation.params.values()))
    return total


def _inner(values: Any) -> list[Any]:
    found = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += _inner(value)
        elif hasattr(value, "jaxpr"):
            found.append(value.jaxpr)
        elif hasattr(value, "eqns"):
            found.append(value)
    return found


def matmul_peak(size: int = 4096, repeats: int = 2) -> float:
    """FLOP/s of float32 products of size x size matrices at the default precision: the better of two dispatches of
    `repeats` products each."""
    a = jax.random.normal(jax.random.key(0), (size, size)) / math.sqrt(size)
    products = jax.jit(lambda a, x, count: jax.lax.fori_loop(0, count, lambda _, x: a @ x, x))
    products(a, a, 1).block_until_ready()
    best = math.inf
    for _ in range(2):
        start = time.perf_counter()
        products(a, a, repeats).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 * repeats / best
