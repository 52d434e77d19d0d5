"""What is kept from program to program, code and memory, and what programs are compiled for."""

import os
import pathlib
import platform
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.kill import conditions
from trqam_jax import backend
from trqam_jax.backend import compiler_options, compiling_for, target_platform
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]

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


CALLS = """
import jax, jax.numpy as jnp
from trqam_jax.backend import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
for n in range(1, 4):
    print(jax.jit(lambda x: jnp.tanh(x @ x) @ jnp.ones(n))(jnp.arange(float(n * n)).reshape(n, n) / 7).tolist())
"""


def test_several_compile_into_one_folder_and_what_is_damaged_there_is_compiled_anew(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def start():
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, "-c", CALLS], cwd=ROOT, env=environment, **how)

    def numbers(process):
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        lines = said.splitlines()
        return [line for line in lines if line.startswith("[")], [line for line in lines if not line.startswith("[")]

    together = [numbers(process) for process in [start() for _ in range(3)]]
    expected, _ = together[0]
    assert len(expected) == 3
    assert [found for found, _ in together] == [expected] * 3
    entries = sorted(tmp_path.rglob("*-cache"))
    assert len(entries) > 3
    for number, entry in enumerate(entries):
        whole = entry.read_bytes()
        flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
        entry.write_bytes([b"", whole[:100], b"no program", flipped][number % 4])
    found, (line,) = numbers(start())
    assert found == expected
    assert line.startswith(f"compiled programs: something in {entries[0].parent} is damaged, and compiled anew")


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
    assert target_platform() == "cpu"


def test_options_for_a_gpu_are_the_users_to_name(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with compiling_for("gpu"):
        several, alone = compiler_options(replicas=8), compiler_options(replicas=1)
        assert "WHILE" in several["xla_gpu_enable_command_buffer"]
        assert several.items() < alone.items()
        monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_command_buffer= --xla_gpu_enable_triton_gemm")
        left = set(alone) - {"xla_gpu_enable_command_buffer", "xla_gpu_enable_triton_gemm"}
        assert set(compiler_options(replicas=1)) == left
    with compiling_for("tpu"):
        assert not compiler_options(replicas=1)


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


@pytest.mark.parametrize(
    ("mode", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_numpy_rank_promotion", "raise"),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_transfer_guard", "disallow"),
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
        ("jax_random_seed_offset", 1),
    ],
)
def test_modes_in_which_nothing_trains_or_seeds_mean_other_numbers_are_refused(mode, value):
    before = getattr(jax.config, mode)
    backend.check_modes()
    jax.config.update(mode, value)
    try:
        with pytest.raises(UserError, match=f"{mode.upper()}={value}: expected {before}, because .*; unset it"):
            backend.check_modes()
    finally:
        jax.config.update(mode, before)
