"""How JAX compiles and computes: precision of matrix products, what is kept of programs and memory."""

import contextlib
import contextvars
import ctypes
import gc
import os
import pathlib
import platform
import re
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import jax

from trqam_jax.errors import UserError, start_thread
from trqam_jax.files import cache_folder, check_room, sha256

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target platform", default=None)


def target_platform() -> str:
    """What programs are traced and compiled for: "cpu", "gpu" or "tpu". The device that JAX takes, unless
    `compiling_for` names another. For code whose best form differs between platforms; its numbers must not."""
    return _target.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """What is traced inside takes the form for this platform, "cpu", "gpu" or "tpu", which need not be here."""
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Matrix products of everything compiled inside are computed with this precision.

    name: "default" (what the released code computes: float32 on a CPU, the device's own default on a GPU), "highest"
    (float32, the reference vectors' mode), or another of JAX's. A CPU computes float32 whatever is asked for.
    """
    with jax.default_matmul_precision(None if name == "default" else name):
        yield


def keep_compiled_programs() -> None:
    """Programs that took a second to compile are read back by later processes. JAX_COMPILATION_CACHE_DIR, where it is
    set, says where; otherwise it is the user's cache folder, apart for every kind of processor: a home folder may be
    shared by machines that cannot run each other's code. JAX's own key covers program, versions and flags."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder() / "compiled" / _processor()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_room(folder, 0)
    except (OSError, UserError) as error:  # no home, or one that is read-only, full, or somebody else's
        reason = f"{cache_folder().parent}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"compiled programs are not kept: {reason}; XDG_CACHE_HOME names another place")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def compiler_options() -> dict[str, Any]:
    """XLA's, for programs that take seconds to compile: on a CPU the first level of its optimisation. More takes longer
    and makes no update faster. XLA_FLAGS, where it names a level, decides."""
    level = "xla_backend_optimization_level"
    if target_platform() != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {level: 1}


def prepare_process() -> None:
    """For the main thread of a process that trains, to call when all is imported and before anything is computed."""
    check_threads(16 + 6 * (os.cpu_count() or 1))  # 28 were counted on two processors
    keep_freed_memory()
    find_devices()
    gc.freeze()  # while programs are traced, collections would look through all that the imports made


def check_threads(count: int) -> None:
    """UserError unless the system lets this process have so many more: where it does not, XLA ends the process."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            start_thread(thread)
    finally:
        end.set()


def find_devices() -> None:
    """Let JAX look for devices; to be called inside `explained`.

    A GPU that is there and that JAX cannot use is an error unless JAX_PLATFORMS is set: JAX would go on with the CPU.
    """
    devices = jax.devices()
    if devices[0].platform != "cpu" or jax.config.jax_platforms:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        if "failed to initialize" in str(error):
            raise


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What JAX raises about devices inside is a UserError that names the way out; other errors pass as they are."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        line = _explanation(error)
        if line is None:
            raise
        raise UserError(line) from error


def _explanation(error: Exception) -> str | None:
    """None if the error speaks of something else."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    setting, way_out = (f"JAX_PLATFORMS={asked}: ", "unset JAX_PLATFORMS") if asked else ("", "set JAX_PLATFORMS=cpu")
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, AssertionError):  # JAX has no words for it
        if not asked or _raised_in(error) != "jax._src.xla_bridge":
            return None
        where = "`nvidia-smi` lists GPUs, CUDA_VISIBLE_DEVICES may hide them"
        return f"{setting}there is no such device here ({where}); {way_out}"
    if _OF_A_CPU.search(str(error)) and jax.default_backend() == "cpu":
        return (
            f"this machine's memory is full ({text:.200}); train fewer seeds and tasks in one process, or "
            "smaller networks"
        )
    if _MEMORY.search(str(error)):
        return (
            f"{setting}the device's memory is full ({text:.200}); `nvidia-smi` says who has it. Choose another GPU by "
            "CUDA_VISIBLE_DEVICES, take less of it by XLA_PYTHON_CLIENT_MEM_FRACTION=0.5, or train fewer replicas at "
            "once (the setting train.replicas_per_pass)"
        )
    if _DRIVER.search(str(error)):
        return (
            f"{setting}JAX cannot use the GPU, whose driver or CUDA libraries do not fit ({text:.200}); update the "
            f"driver (`nvidia-smi` has its version), install JAX for an older one by make JAX=cuda12, or {way_out}"
        )
    if _BACKEND.search(str(error)):
        return f"{setting}JAX cannot use the device ({text:.200}); {way_out}"
    return None


#: Of CUDA and XLA, wherever they come up.
_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED|OUT_OF_MEMORY|cudaErrorMemoryAllocation|out of memory|"
    "no supported devices found for platform CUDA"
)
_OF_A_CPU = re.compile("Out of memory allocating")
_DRIVER = re.compile(
    "driver version is insufficient|cudaErrorInsufficientDriver|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|"
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED|following issues with CUDA components|Outdated|UNSUPPORTED_PTX_VERSION|libcuda"
)
_BACKEND = re.compile(
    "Unable to initialize backend|failed to initialize|Unknown backend|list of known backends|No visible|"
    "no devices|Could not initialize backend"
)


def _raised_in(error: BaseException) -> str:
    """The module whose code raised it."""
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    return str(last.f_globals["__name__"])


def keep_freed_memory() -> None:
    """Memory that the process frees is kept, and not returned to the system, which hands it out again page by page: a
    program on the CPU takes its working memory anew whenever it runs. Without, one update at the paper's size in a
    dispatch takes 1.4 x the time.

    Programs must then run in the thread that calls them, the main one, for which alone glibc keeps blocks of any size.
    Under other C libraries nothing changes, nor is memory kept on hosts of other devices.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # is read when JAX looks for devices
    if jax.default_backend() == "cpu":
        libc = ctypes.CDLL(None)
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
            libc.mallopt(parameter, value)


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    features = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    text = "\n".join([platform.machine(), platform.processor(), *sorted(features)])
    return f"{platform.machine()}-{sha256([text.encode()])[:8]}"
