"""What networks compute on a GPU against what they compute elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trqam_jax.backend import compiling_for
from trqam_jax.networks import Critic, NoisePredictor, TimedCritic, Velocity, bind
from trqam_jax.train_state import global_norm

BATCH, OBSERVATION, CHUNK, WIDTHS = 5, 4, 3, (7, 6)
NETWORKS = {
    "critics": lambda: Critic(WIDTHS, 2),
    "critics of a time": lambda: TimedCritic(WIDTHS, 2),
    "velocity": lambda: Velocity(WIDTHS, CHUNK),
    "velocity with layer norm": lambda: Velocity(WIDTHS, CHUNK, layer_norm=True),
    "noise predictor": lambda: NoisePredictor(WIDTHS, CHUNK, 4, layer_norm=True),
}


def evaluated(platform, make, key):
    """Fresh parameters, values, and the gradients of a function of them by parameters and inputs."""
    with compiling_for(platform):
        network = make()
        observations, x = (
            jax.random.normal(key, (BATCH, OBSERVATION)),
            jax.random.normal(jax.random.fold_in(key, 1), (BATCH, CHUNK)),
        )
        inputs = (x,) if make is NETWORKS["critics"] else (x, jnp.full((BATCH, 1), 0.3))
        params = network.init(key, observations, *inputs)["params"]
        params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(key, p.shape), params)
        loss = lambda params, x: jnp.sin(bind(network, params, observations)(x, *inputs[1:])).sum()
        return params, jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_do_not_depend_on_the_form(name):
    key = jax.random.key(3)
    (params, expected), (of_gpu, found) = (evaluated(p, NETWORKS[name], key) for p in ("cpu", "gpu"))
    assert jax.tree.structure(params) == jax.tree.structure(of_gpu)
    jax.tree.map(np.testing.assert_array_equal, params, of_gpu)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_the_norm_is_joint_over_large_leaves_vectors_and_scalars():
    shapes = {"large": (3, 50, 80), "matrix": (4, 5), "vector": (6,), "scalar": ()}
    grads = {name: jax.random.normal(jax.random.key(i), shape) for i, (name, shape) in enumerate(shapes.items())}
    with compiling_for("gpu"):
        np.testing.assert_allclose(global_norm(grads), optax.global_norm(grads), rtol=1e-6)
