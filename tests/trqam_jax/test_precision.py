"""Precision of matrix products: what each mode asks of a platform's compiler, and how far it moves the vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from golden_vectors import Case, Vectors

from benchmarks import targets
from benchmarks.products import precisions
from experiments.settings import PRECISIONS
from trqam_jax import backend
from trqam_jax.backend import compiling_for, matmul_precision
from trqam_jax.data import sample
from trqam_jax.errors import UserError
from trqam_jax.networks import Critic

NOISE = {name: name for name in ("flow_x0", "flow_t", "rollout_x0")}
CASE = Case("trqam", {"next_action": "next_action_noise", "rollout_eps": "rollout_noise", **NOISE}, {})

#: How far a mode may move the gradients of a TRQAM update from the reference vectors, against each array's largest
#: entry. A CPU computes float32 in all of them, and stays within the first; the others are three decimal digits of
#: a product (10 bits of mantissa) and two (7 bits), grown by ten flow steps.
BOUNDS = {"highest": 1e-5, "default": 0.05, "tensorfloat32": 0.05, "bfloat16": 0.3}


def distance(mode):
    """Largest distance of the gradients from the vectors'."""
    vectors = Vectors("trqam")
    agent = vectors.load("trqam", clip_norm=None)
    with matmul_precision(mode):
        updated, _ = jax.jit(lambda agent, *rest: agent.step(*rest))(agent, vectors.batch(), vectors.noise(CASE))
    gradients = jax.tree.map(lambda mu: mu / (1 - 0.9), updated.train.opt_state[0].mu)
    expected = vectors.tree("grad")
    far = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max()),
        gradients,
        {name: expected[name] for name in gradients},
    )
    return max(jax.tree.leaves(far))


@pytest.mark.parametrize("mode", PRECISIONS)
def test_how_far_a_mode_moves_the_reference_vectors(mode, record_property):
    far = distance(mode)
    record_property("distance", far)
    on_cpu = jax.devices()[0].platform == "cpu"
    assert far < (BOUNDS["highest"] if on_cpu else BOUNDS[mode])


def of_algorithm(digits, passes):
    """How StableHLO writes it."""
    types = f"lhs_precision_type = {digits}, rhs_precision_type = {digits}, accumulation_type = f32"
    return f"{types}, lhs_component_count = 1, rhs_component_count = 1, num_primitive_operations = {passes},"


#: What a product is marked with, by platform and mode, and by what JAX calls the platform.
MARKS = {
    ("gpu", "cuda"): {"tensorfloat32": of_algorithm("tf32", 1), "bfloat16": of_algorithm("bf16", 1)},
    ("tpu", "tpu"): {"tensorfloat32": of_algorithm("bf16", 3), "bfloat16": of_algorithm("bf16", 1)},
    ("cpu", "cpu"): dict.fromkeys(("tensorfloat32", "bfloat16"), "precision = [DEFAULT, DEFAULT]"),
}
PLAIN = {"default": "precision = [DEFAULT, DEFAULT]", "highest": "precision = [HIGHEST, HIGHEST]"}


def gradients_of_critics():
    """A loss's gradients by parameters and chunks of critics, of two replicas; shapes of its arguments."""
    network = Critic((64, 64), num_critics=3)
    states, chunks = jnp.ones((2, 32, 5)), jnp.ones((2, 32, 6))
    params = jax.eval_shape(jax.vmap(network.init), jax.random.split(jax.random.key(0)), states, chunks)
    loss = lambda params, states, chunks: (network.apply(params, states, chunks) ** 2).mean()
    return jax.vmap(jax.grad(loss, (0, 2))), (params, states, chunks)


def lowered(function, arguments, lowering_platform):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(lowering_platform,)).as_text()


@pytest.mark.parametrize("mode", PRECISIONS)
@pytest.mark.parametrize("platforms", MARKS)
def test_every_product_asks_for_the_algorithm_of_its_mode(platforms, mode):
    """Also those that vmap and grad make; no compiler of the platform is needed to see it."""
    platform, lowering_platform = platforms
    with compiling_for(platform), matmul_precision(mode):
        text = lowered(*gradients_of_critics(), lowering_platform)
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == 9  # of three layers: forwards, and backwards by either operand
    mark = (PLAIN | MARKS[platforms])[mode]
    assert all(mark in line for line in products)
    assert ("algorithm" in text) == mark.startswith("lhs")


def test_a_whole_update_has_no_other_products():
    key, horizon = jax.random.key(0), tiny.SPEC.horizon
    arguments = jax.eval_shape(
        lambda: (tiny.agent("trqam"), sample(tiny.dataset(), jnp.int32(0), key, 4, horizon, 0.99), key)
    )
    with compiling_for("gpu"), matmul_precision("bfloat16"):
        text = lowered(lambda agent, *rest: agent.update(*rest), arguments, "cuda")
    assert text.count(MARKS["gpu", "cuda"]["bfloat16"]) == text.count("stablehlo.dot_general") > 40


#: In a compiled program: of its products, and of those with a vector (a critic's last layer), which any kernel sums.
COMPILED = {
    "default": ("default", "elementwise_f32"),
    "highest": ("highest", "elementwise_f32"),
    "tensorfloat32": ("tf32_tf32_f32", "elementwise_tf32"),
    "bfloat16": ("bf16_bf16_f32", "elementwise_bf16"),
}


@pytest.mark.skipif(not targets.is_there("h100"), reason=f"needs {targets.TARGETS['h100'].package}")
@pytest.mark.parametrize("mode", PRECISIONS)
def test_an_h100s_program_computes_in_the_mode(mode):
    """`python -m benchmarks.products` shows it of whole updates, and of a TPU."""
    function, arguments = gradients_of_critics()
    with targets.compiling("h100") as device, matmul_precision(mode):
        program = jax.jit(function).lower(*targets.on(device, arguments)).compile()
    found = precisions(program.as_text())
    assert set(found) == set(COMPILED[mode])
    assert found[COMPILED[mode][0]] >= 6


def test_a_mode_holds_for_what_is_compiled_inside_and_no_longer():
    modes = lambda: str(jax.make_jaxpr(jnp.matmul)(np.ones((2, 2)), np.ones((2, 2))))
    outside = modes()
    with compiling_for("gpu"), matmul_precision("bfloat16"):
        assert modes() != outside
    with matmul_precision("default"):
        assert modes() == outside
    assert modes() == outside


def test_where_a_mode_is_unknown_or_not_to_be_had_the_error_says_what_is():
    with compiling_for("abacus"):
        with matmul_precision("highest"):
            pass
        unknown = pytest.raises(UserError, match=r"precision=bfloat16 on 'abacus'.*default or highest")
        with unknown, matmul_precision("bfloat16"):
            pass
    of_a_v100 = "UNIMPLEMENTED: Unsupported algorithm on the current device(s): ALG_DOT_TF32_TF32_F32\n\t"
    explained = pytest.raises(UserError, match=r"no matrix products .*TF32_TF32_F32.*precision to default or highest")
    with explained, backend.explained():
        raise jax.errors.JaxRuntimeError(of_a_v100)
