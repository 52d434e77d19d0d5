"""Products in fewer digits, emulated on a CPU."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.interpreters import mlir

from benchmarks import precision


@pytest.mark.parametrize(("mode", "bits"), [("tf32", 10), ("bf16", 7)])
def test_rounds_to_the_nearest_number_of_so_many_bits(mode, bits):
    kept, half = 1 + 2.0**-bits, 2.0 ** -(bits + 1)
    x = jnp.array([kept, 1 + 0.9 * half, 1 + 1.1 * half, -1 - 1.1 * half, kept * 2.0**100])
    np.testing.assert_array_equal(precision.round_to(x, mode), [kept, 1, kept, -kept, kept * 2.0**100])


@pytest.mark.parametrize(("mode", "error"), [("tf32", 2.0**-10), ("bf16", 2.0**-7), ("bf16_x3", 2.0**-14)])
def test_every_product_of_a_program_is_emulated(mode, error):
    """Forwards, batched, and those of gradients: of u (x w) by x, u w^T, and by w, x^T u."""
    x, w, u = (jax.random.normal(jax.random.key(i), (2, 33, 33)) for i in range(3))
    by_both = jax.vmap(jax.value_and_grad(lambda x, w, u: (u * (x @ w)).sum(), (0, 1)))
    with mock.patch.dict(mlir._platform_specific_lowerings["cpu"]):
        precision.emulate(mode)
        _, gradients = jax.jit(by_both)(x, w, u)
        product = jax.jit(lambda *given: given[0] @ given[1])(x, w)
    x, w, u = (np.asarray(one, np.float64) for one in (x, w, u))
    expected = [u @ w.swapaxes(1, 2), x.swapaxes(1, 2) @ u, x @ w]
    for actual, wanted in zip((*gradients, product), expected, strict=True):
        distance = np.abs(actual - wanted).max() / np.abs(wanted).max()
        assert error / 50 < distance < error


def test_rows_of_what_is_measured_again_replace_the_old_ones():
    row = lambda mode, method, distance: precision.Row(mode, method, "losses", distance, "x")
    old = [row("tf32", "a", 0.1), row("tf32", "b", 0.2), row("bf16", "a", 0.3)]
    kept = precision.merged(old, [row("tf32", "b", 0.4), row("bf16_x3", "a", 0.5)])
    assert kept == [row("tf32", "a", 0.1), row("tf32", "b", 0.4), row("bf16_x3", "a", 0.5), row("bf16", "a", 0.3)]


def test_the_worst_of_each_kind_is_told_with_its_method():
    rows = [precision.Row("tf32", "a", "losses", 0.01, "x"), precision.Row("tf32", "b", "losses", 0.02, "y")]
    assert "| tf32 | 2.0e-02 (b) |" in precision.table(rows)
