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
import warnings
from collections.abc import Iterator
from typing import Any

import jax

from trqam_jax.errors import DeviceFailed, UserError, start_thread
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


#: The dot algorithms that compute what a mode is called, by platform; None: float32, which a CPU computes whatever is
#: asked for. JAX's own modes of these names are other ones: on a GPU its bfloat16 is the default, its tensorfloat32
#: three passes. A TPU multiplies bfloat16 alone; three passes of it have more digits than TF32.
_ALGORITHMS: dict[str, dict[str, str | None]] = {
    "tensorfloat32": {"gpu": "TF32_TF32_F32", "tpu": "BF16_BF16_F32_X3", "cpu": None},
    "bfloat16": {"gpu": "BF16_BF16_F32", "tpu": "BF16_BF16_F32", "cpu": None},
}


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Matrix products of everything that this thread compiles inside are computed in this mode.

    name: "default" (what the released code computes: float32 on a CPU, TF32 on a GPU that has it, one pass of bfloat16
    on a TPU), "highest" (float32, the reference vectors' mode), "tensorfloat32" or "bfloat16" (operands of so many
    digits, sums in float32), or another of JAX's. It follows `target_platform`, which is asked once, on entering.
    """
    mode = None if name == "default" else name
    if name in _ALGORITHMS:
        platform = target_platform()
        if platform not in _ALGORITHMS[name]:
            raise UserError(f"precision={name} on {platform!r}: unknown there, expected default or highest")
        mode = _ALGORITHMS[name][platform]
    with jax.default_matmul_precision(mode):
        yield


def keep_compiled_programs() -> None:
    """Programs that took a second to compile are read back by later processes. JAX_COMPILATION_CACHE_DIR, where it is
    set, says where; otherwise it is the user's cache folder, apart for every kind of processor: a home folder may be
    shared by machines that cannot run each other's code. JAX's own key covers program, versions and flags."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        _say_once_what_is_compiled_anew(os.environ["JAX_COMPILATION_CACHE_DIR"])
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
    _say_once_what_is_compiled_anew(str(folder))


def _say_once_what_is_compiled_anew(folder: str) -> None:
    """JAX compiles anew what it cannot read back (another process may be writing it), and goes on where it cannot
    write. It warns of every program: here the first such warning is one line, and the others none."""
    show, told = warnings.showwarning, set()

    def show_once(message: Warning | str, *place: Any, **more: Any) -> None:
        match = re.match("Error (reading|writing) persistent compilation cache entry", str(message))
        if match is None:
            show(message, *place, **more)
        elif match[1] not in told:
            told.add(match[1])
            what = "is damaged, and compiled anew" if match[1] == "reading" else "cannot be kept"
            print(f"compiled programs: something in {folder} {what}; remove the folder if this line comes again")

    warnings.showwarning = show_once


#: On a CPU the first level of XLA's optimisation: more takes longer to compile and makes no update faster. On a GPU
#: whatever a program starts is part of a graph of kernels, loops included, so that a dispatch is one start of a graph.
_OPTIONS: dict[str, dict[str, Any]] = {
    "cpu": {"xla_backend_optimization_level": 1},
    "gpu": {
        "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,WHILE",
        "xla_gpu_graph_min_graph_size": 1,
    },
}
#: A replica alone: its products are cuBLASLt's, which adds biases and takes GELU at the end of the product. It does not
#: for biases that differ along a batch, as those of several replicas, for which XLA's own kernels move fewer bytes.
_OPTIONS_OF_ONE: dict[str, dict[str, Any]] = {
    "gpu": {"xla_gpu_enable_triton_gemm": False, "xla_gpu_enable_cublaslt": True},
}


def compiler_options(replicas: int | None = None) -> dict[str, Any]:
    """XLA's, for programs that take seconds to compile or run for long. What XLA_FLAGS names, it decides.

    replicas: how many an update's program has.
    """
    options = _OPTIONS.get(target_platform(), {})
    if replicas == 1:
        options = options | _OPTIONS_OF_ONE.get(target_platform(), {})
    named = {flag.removeprefix("--").partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    return {name: value for name, value in options.items() if name not in named}


def prepare_process() -> None:
    """For the main thread of a process that trains, to call when all is imported and before anything is computed."""
    check_modes()
    check_threads(16 + 6 * (os.cpu_count() or 1))  # 28 were counted on two processors
    keep_freed_memory()
    find_devices()
    gc.freeze()  # while programs are traced, collections would look through all that the imports made


_SEEDS = "equal seeds are to mean equal random numbers"
#: Modes of JAX, as variables of the environment set them: what they may be, the default first, and why.
_MODES: dict[str, tuple[tuple[Any, ...], str]] = {
    "jax_enable_x64": ((False,), "everything is computed in float32"),
    "jax_disable_jit": ((False,), "programs are compiled before they run"),
    "jax_numpy_rank_promotion": (("allow", "warn"), "arrays are broadcast"),
    "jax_numpy_dtype_promotion": (("standard",), "whole numbers meet float32"),
    "jax_transfer_guard": ((None, "allow", "log", "log_explicit"), "data and rows go between host and device"),
    "jax_default_prng_impl": (("threefry2x32",), _SEEDS),
    "jax_threefry_partitionable": ((True,), _SEEDS),
    "jax_random_seed_offset": ((0,), _SEEDS),
}


def check_modes() -> None:
    """UserError at modes of JAX in which nothing trains, or other numbers would come of the same settings."""
    for name, (allowed, why) in _MODES.items():
        value = getattr(jax.config, name)
        if value not in allowed:
            raise UserError(f"{name.upper()}={value}: expected {allowed[0]}, because {why}; unset it")


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
    """What JAX raises about devices inside is a UserError that names the way out, DeviceFailed where a device that was
    there has failed or will not start; other errors pass as they are."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        line = _explanation(error)
        if line is None:
            raise
        failed = _FAILED.search(str(error)) or ("JAX_PLATFORMS" not in os.environ and line.startswith(_UNUSABLE))
        raise (DeviceFailed if failed else UserError)(line) from error


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
    if _FAILED.search(str(error)):
        return (
            f"the device failed ({text:.200}); what was saved before is intact, and the same command goes on from "
            "there, on another device by CUDA_VISIBLE_DEVICES; `nvidia-smi -q` says what is wrong with this one"
        )
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
    if _ALGORITHM.search(str(error)):
        return (
            f"the device has no matrix products of the mode that is asked for ({text:.200}); set precision to "
            "default or highest"
        )
    if _BACKEND.search(str(error)):
        return f"{setting}{_UNUSABLE} ({text:.200}); {way_out}"
    return None


#: Of CUDA and XLA, wherever they come up.
_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED|OUT_OF_MEMORY|cudaErrorMemoryAllocation|out of memory|"
    "no supported devices found for platform CUDA"
)
_UNUSABLE = "JAX cannot use the device"
#: What takes a device from a process that computes on it: broken memory, a bus or a link that is gone, a kernel that
#: went astray. CUDA gives the process nothing more, and what is in the device's memory cannot be trusted.
_FAILED = re.compile(
    "CUDA_ERROR_(ECC_UNCORRECTABLE|LAUNCH_FAILED|LAUNCH_TIMEOUT|ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS|"
    "INVALID_ADDRESS_SPACE|INVALID_PC|HARDWARE_STACK_ERROR|NVLINK_UNCORRECTABLE|CONTEXT_IS_DESTROYED|DEINITIALIZED|"
    "DEVICE_UNAVAILABLE|SYSTEM_NOT_READY|CONTAINED|UNKNOWN)|cudaError(ECCUncorrectable|LaunchFailure|IllegalAddress|"
    "LaunchTimeout|HardwareStackError|DevicesUnavailable|NvlinkUncorrectable)|CU(BLAS|DNN)_STATUS_EXECUTION_FAILED|"
    "[Dd]evice (is )?lost|fallen off the bus|uncorrectable ECC|unspecified launch failure|illegal memory access"
)
_OF_A_CPU = re.compile("Out of memory allocating")
_DRIVER = re.compile(
    "driver version is insufficient|cudaErrorInsufficientDriver|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|"
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED|following issues with CUDA components|Outdated|UNSUPPORTED_PTX_VERSION|libcuda"
)
_ALGORITHM = re.compile("Unsupported algorithm on the current device|Dot algorithm .* is not supported")
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
