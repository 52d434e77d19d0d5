"""Compile quickly: the tests compile much and compute little."""

import os

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """A process may map so many pieces of memory, and every compiled program takes some: a file keeps only its own."""
    yield
    import jax

    jax.clear_caches()
