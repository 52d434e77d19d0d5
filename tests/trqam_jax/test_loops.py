"""Short loops in the form for a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trqam_jax import loops
from trqam_jax.backend import compiling_for
from trqam_jax.sde import rollout_points, sample_ode_and_points, sample_path


def step(x, y):
    return 0.5 * x + y, x


@pytest.mark.parametrize("reverse", [False, True])
def test_a_gpus_program_has_no_short_loops(reverse):
    """Others stay, and what they compute does not change."""
    traced = {}
    for platform in ("cpu", "gpu"):
        with compiling_for(platform):
            run = jax.jit(functools.partial(loops.scan, step, jnp.ones(2), reverse=reverse))
            short, long = (jnp.arange(2.0 * n).reshape(n, 2) for n in (loops.UNROLLED_STEPS, loops.UNROLLED_STEPS + 1))
            has_loop = ["while" in run.lower(ys).as_text() for ys in (short, long)]
            assert has_loop == [platform == "cpu", True]
            traced[platform] = run(short)
    jax.tree.map(np.testing.assert_array_equal, traced["gpu"], traced["cpu"])


def test_an_ode_and_an_sde_that_take_their_steps_together_end_where_they_do_alone():
    """For each of the observations its own, with two starts of the ODE."""
    draw = lambda i, *shape: jax.random.normal(jax.random.key(i), shape)
    flow = lambda observations: lambda x, t: jnp.sin(x + observations) * (1 + t)
    following, now, z, x0, eps = draw(0, 4, 3), draw(1, 4, 3), draw(2, 2, 4, 3), draw(3, 4, 3), draw(4, 6, 4, 3)
    alone, _ = sample_ode_and_points(flow, following, z, now, x0, eps)
    path = sample_path(flow(now), flow(now), x0, eps)
    with compiling_for("gpu"):
        ends, xs = sample_ode_and_points(flow, following, z, now, x0, eps)
        points = rollout_points(flow(now), x0, eps)
    np.testing.assert_allclose(ends, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(xs, path.xs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(points, path.xs, rtol=1e-5, atol=1e-6)
