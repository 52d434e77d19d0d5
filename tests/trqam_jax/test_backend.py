"""Precision of matrix products, and what is kept from program to program: code and memory."""

import os
import pathlib
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_vectors import Case, Vectors

from benchmarks.kill import conditions
from experiments.settings import PRECISIONS
from trqam_jax.backend import compiler_options, compiling_for, matmul_precision, target_platform

ROOT = pathlib.Path(__file__).parents[2]
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


def test_a_mode_holds_for_what_is_compiled_inside_and_no_longer():
    modes = lambda: str(jax.make_jaxpr(jnp.matmul)(np.ones((2, 2)), np.ones((2, 2))))
    outside = modes()
    with matmul_precision("bfloat16"):
        assert modes() != outside
    with matmul_precision("default"):
        assert modes() == outside
    assert modes() == outside


CODE = """
import jax, jax.numpy as jnp
from trqam_jax.backend import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: jnp.tanh(x @ x))(jnp.ones((7, 7))).block_until_ready()
"""


def test_compiled_programs_are_kept_where_the_user_may_say(tmp_path):
    """In the cache folder, readable by nobody else; a second process adds nothing; an own folder is respected."""
    clean = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}

    def kept(**settings):
        subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env={**clean, **settings}, check=True, timeout=120)
        return {path.name for path in tmp_path.rglob("*-cache")}

    first = kept(XDG_CACHE_HOME=str(tmp_path))
    assert first
    (folder,) = (tmp_path / "trqam_jax" / "compiled").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert kept(XDG_CACHE_HOME=str(tmp_path)) == first
    own = tmp_path / "own"
    kept(XDG_CACHE_HOME=str(tmp_path / "other"), JAX_COMPILATION_CACHE_DIR=str(own))
    assert own.exists()
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the level is a CPU's")
def test_the_level_of_optimisation_moves_rounding_alone_and_is_the_users_to_name(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    chosen = compiler_options()
    assert chosen
    x = jax.random.normal(jax.random.key(0), (33, 65))
    loss = jax.jit(jax.grad(lambda x: jax.nn.gelu(jax.nn.standardize(x @ x.T), approximate=False).sum())).lower(x)
    np.testing.assert_allclose(loss.compile(chosen)(x), loss.compile(dict.fromkeys(chosen, 3))(x), atol=1e-6)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert not compiler_options()


MEMORY = """
import resource, sys
from trqam_jax import backend
if sys.argv[1] == "keep":
    backend.keep_freed_memory()
import jax, jax.numpy as jnp
a = jnp.ones((6000, 8))
program = jax.jit(lambda a, x: jnp.tanh(a @ a.T) @ x)  # 137 MiB of working memory
call = lambda: program(a, a[:, 0]).block_until_ready()
call(), call()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    call()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory as it likes")
def test_programs_on_the_cpu_take_the_working_memory_of_those_before():
    """Pages that the system had to provide while a program ran five times again."""

    def pages(how):
        own = ("MALLOC_", "GLIBC_TUNABLES")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
        environment["JAX_PLATFORMS"] = "cpu"
        settings = dict(cwd=ROOT, env=environment, check=True, timeout=120)
        return int(subprocess.run([sys.executable, "-c", MEMORY, how], stdout=subprocess.PIPE, **settings).stdout)

    assert pages("keep") < 0.2 * pages("return")


def test_the_target_platform_is_the_device_or_what_is_compiled_for():
    assert target_platform() == "cpu"
    with compiling_for("gpu"):
        assert target_platform() == "gpu"
        assert compiler_options() == {}
    assert target_platform() == "cpu"


@pytest.mark.skipif(bool(conditions.allowed()), reason=conditions.allowed())
def test_too_few_threads_are_said_before_xla_ends_the_process():
    code = """
import resource, sys
from benchmarks.kill import conditions
from trqam_jax import backend
from trqam_jax.errors import UserError
conditions.limit_processes(8, 61234)
try:
    backend.prepare_process()
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("can't start new thread; this user has as many processes")
