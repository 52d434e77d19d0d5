"""A device that JAX cannot use is one line with the way out; a home that is not there keeps no run from training."""

import errno
import os
import pathlib
import pwd
import subprocess
import sys

import jax
import pytest

from trqam_jax import backend, files
from trqam_jax.errors import DeviceFailed, UserError

ROOT = pathlib.Path(__file__).parents[2]


def test_a_platform_that_is_not_there():
    """As the command has it: JAX itself ends in an AssertionError without words."""
    found = subprocess.run(
        [sys.executable, "experiments/main.py", "--env=cube-single", "--protocol=quick"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("error: JAX_PLATFORMS=cuda: ")
    assert line.endswith("unset JAX_PLATFORMS")


#: What jax 0.10's xla_bridge, its CUDA plugin, and CUDA below them say.
MESSAGES = [
    (
        "Unable to initialize backend 'cuda': INTERNAL: no supported devices found for platform CUDA (set "
        "JAX_PLATFORMS='' to automatically choose an available backend)",
        "memory is full .*XLA_PYTHON_CLIENT_MEM_FRACTION",
    ),
    (
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 80530636800 bytes.\nAllocator dump\n ...",
        "memory is full .*allocate 80530636800 bytes.*CUDA_VISIBLE_DEVICES.*train.replicas_per_pass",
    ),
    (
        "INTERNAL: failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "memory is full .*nvidia-smi",
    ),
    (
        "Unable to initialize backend 'cuda': jaxlib/cuda/versions_helpers.cc:98: operation cudaGetDeviceCount(&"
        "device_count) failed: CUDA driver version is insufficient for CUDA runtime version",
        "driver or CUDA libraries do not fit .*update the driver.*JAX=cuda12",
    ),
    (
        "Unable to initialize backend 'cuda': Unable to use CUDA because of the following issues with CUDA "
        "components:\nOutdated cuDNN installation found.\nVersion JAX was built against: 91002",
        "driver or CUDA libraries do not fit",
    ),
    (
        "Unable to initialize backend 'gpux': Backend 'gpux' is not in the list of known backends: ['cpu', 'tpu']",
        "JAX cannot use the device .*'gpux' is not in the list",
    ),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
@pytest.mark.parametrize("asked", ["cuda", ""])
def test_what_jax_says_of_devices_is_one_line_with_the_way_out(message, expected, asked, monkeypatch):
    def fail():
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setenv("JAX_PLATFORMS", asked)
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(UserError, match=expected) as raised, backend.explained():
        backend.find_devices()
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("JAX_PLATFORMS=cuda: ") == bool(asked)


def test_where_there_is_no_gpu_memory_is_the_machines():
    much = jax.jit(lambda: jax.numpy.ones(10**14) * 2)
    with pytest.raises(UserError, match="this machine's memory is full") as raised, backend.explained():
        much().block_until_ready()
    assert "nvidia-smi" not in str(raised.value)


def test_a_gpu_that_cannot_be_used_is_no_reason_to_train_on_the_cpu(monkeypatch):
    """Unless that is asked for. Without CUDA's plugin there is nothing to say."""
    cpu = jax.devices("cpu")

    def devices(platform="", reason="Backend 'cuda' failed to initialize: CUDA_ERROR_OUT_OF_MEMORY"):
        if platform:
            raise RuntimeError(reason)
        return cpu

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    previous = jax.config.jax_platforms
    try:
        jax.config.update("jax_platforms", None)
        with pytest.raises(UserError, match="memory is full"), backend.explained():
            backend.find_devices()
        monkeypatch.setattr(jax, "devices", lambda platform="": devices(platform, "Unknown backend cuda"))
        backend.find_devices()
        jax.config.update("jax_platforms", "cpu")
        monkeypatch.setattr(jax, "devices", devices)
        backend.find_devices()
    finally:
        jax.config.update("jax_platforms", previous)


#: What CUDA, and XLA and its libraries above it, say of a device that they lose while they compute.
FAILURES = [
    "INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered",
    "INTERNAL: Failed to enqueue async memcpy from device to host: CUDA_ERROR_ILLEGAL_ADDRESS: illegal address",
    "INTERNAL: Failed to launch CUDA kernel: fusion_3: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
    "INTERNAL: device lost",
    "INTERNAL: CUBLAS_STATUS_EXECUTION_FAILED\nmore of it",
]


@pytest.mark.parametrize("message", FAILURES)
def test_a_device_that_fails_is_told_from_other_errors(message):
    with pytest.raises(DeviceFailed, match=r"the device failed .*there, on another") as raised, backend.explained():
        raise jax.errors.JaxRuntimeError(message)
    assert "\n" not in str(raised.value)


def test_a_device_that_will_not_start_is_one_that_failed_unless_it_was_asked_for(monkeypatch):
    message = "Unable to initialize backend 'cuda': INTERNAL: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"
    for asked in (True, False):
        monkeypatch.setenv("JAX_PLATFORMS", "cuda") if asked else monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        with pytest.raises(UserError, match="JAX cannot use the device") as raised, backend.explained():
            raise RuntimeError(message)
        assert isinstance(raised.value, DeviceFailed) != asked


def test_a_command_whose_device_failed_ends_at_once_with_a_status_of_its_own():
    """What would tidy up at the end of the process hangs or aborts without its device."""
    code = """
import atexit, os
from experiments import cli
from trqam_jax.errors import DeviceFailed
atexit.register(os.abort)
print("printed before")
cli.fail(DeviceFailed("the device failed"))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == os.EX_UNAVAILABLE
    assert (found.stdout, found.stderr) == ("printed before\n", "error: the device failed\n")


def test_other_errors_are_not_explained_away():
    for error in (AssertionError("of our own"), RuntimeError("shapes do not fit"), KeyError("x")):
        with pytest.raises(type(error)), backend.explained():
            raise error


@pytest.fixture
def homeless(monkeypatch):
    """As a container's user without an entry among the users."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)

    def unknown(_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def no_update(monkeypatch):
    def update(name, _):
        raise AssertionError(f"{name} was set")

    monkeypatch.setattr(jax.config, "update", update)


def test_without_a_home_programs_are_not_kept(homeless, no_update, capsys):
    backend.keep_compiled_programs()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("compiled programs are not kept: ~/.cache: there is no such home folder")
    assert "XDG_CACHE_HOME" in line


def test_a_path_without_its_home_is_refused(homeless):
    """Not a folder that is called ~."""
    with pytest.raises(UserError, match=r"^~/.ogbench/data: there is no such home folder here; set HOME"):
        files.expand("~/.ogbench/data")
    assert files.expand("./~/data") == pathlib.Path("~/data")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("mkdir", errno.EACCES),
        ("mkdir", errno.EROFS),
        ("posix_fallocate", errno.EDQUOT),
        ("posix_fallocate", errno.ENOSPC),
        ("posix_fallocate", errno.ESTALE),
    ],
)
def test_a_home_that_cannot_be_written_keeps_no_programs(name, code, tmp_path, monkeypatch, no_update, capsys):
    """Forbidden, read-only, over quota, full, or gone from the network."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(pathlib.Path if name == "mkdir" else os, name, fail)
    backend.keep_compiled_programs()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"compiled programs are not kept: {tmp_path}: {os.strerror(code)}")
