"""How JAX compiles and computes: precision of matrix products, what is kept of programs and memory."""

import contextlib
import ctypes
import gc
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

import jax

from trqam_jax.files import sha256

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


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
    root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = root / "trqam_jax" / "compiled" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        print(f"compiled programs are not kept: {folder}: {error.strerror}")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def compiler_options() -> dict[str, Any]:
    """XLA's, for programs that take seconds to compile: on a CPU the first level of its optimisation. More takes longer
    and makes no update faster. XLA_FLAGS, where it names a level, decides."""
    level = "xla_backend_optimization_level"
    if jax.default_backend() != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {level: 1}


def prepare_process() -> None:
    """For the main thread of a process that trains, to call when all is imported and before anything is computed."""
    keep_freed_memory()
    gc.freeze()  # while programs are traced, collections would look through all that the imports made


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
