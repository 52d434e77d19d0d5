"""Arrays too large for memory: .npy files that are written a piece at a time and opened as memory maps."""

import contextlib
import errno
import math
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from trqam_jax.errors import UserError
from trqam_jax.files import lock_target, replacing


class MappedError(UserError):
    """Files could not be written, or are not what was written."""


class ArraySpec(NamedTuple):
    """What one file holds."""

    shape: tuple[int, ...]
    dtype: type

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def open_maps(
    folder: pathlib.Path,
    specs: Mapping[str, ArraySpec],
    make: Callable[[dict[str, ArraySpec]], Iterable[Mapping[str, np.ndarray]]],
) -> dict[str, np.ndarray]:
    """Read-only maps of {name}.npy in `folder`. Those not there yet are written first, by one process at a time.

    make(specs of the missing): pieces of (at least) these arrays, to be joined along the first axis. MappedError if the
    disk is full, the folder cannot be written, or a file is not whole.
    """

    def missing() -> dict[str, ArraySpec]:
        return {name: spec for name, spec in specs.items() if not _path(folder, name).exists()}

    if wanted := missing():
        with _disk_errors(folder, sum(spec.nbytes for spec in wanted.values())), lock_target(folder):
            if wanted := missing():  # another process may just have made them
                _write(folder, wanted, make(wanted))
    return {name: _read(_path(folder, name), spec) for name, spec in specs.items()}


def _path(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"{name}.npy"


def _write(folder: pathlib.Path, specs: Mapping[str, ArraySpec], pieces: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Under other names, and moved to their places when all are complete: a file that is there is whole."""
    folder.mkdir(exist_ok=True)
    with replacing([_path(folder, name) for name in specs], ".part") as temporary:
        parts = {name: temporary[_path(folder, name)] for name in specs}
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(parts[name].open("wb")) for name in specs}
            for name, (shape, dtype) in specs.items():
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(files[name], header)
            for piece in pieces:
                for name, file in files.items():
                    # Not through a map: a full disk would end the process by a signal.
                    file.write(np.ascontiguousarray(piece[name], specs[name].dtype).data)
                del piece  # or it stays while the next one is made
        for name, part in parts.items():
            _read(part, specs[name])


@contextlib.contextmanager
def _disk_errors(folder: pathlib.Path, needed: int) -> Iterator[None]:
    """One line for what a disk may refuse. needed: bytes."""
    size = f"{needed / 2**30:,.2f} GiB"
    try:
        free = shutil.disk_usage(folder.parent).free
        if free < needed:
            raise MappedError(f"{folder}: needs {size}, the disk has {free / 2**30:,.2f} GiB left")
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MappedError(f"{folder}: the disk is full, {size} are needed; nothing was kept") from error
        raise MappedError(
            f"{folder}: cannot be written ({error.strerror or error}); use a folder of your own with links to the files"
        ) from error


def _read(path: pathlib.Path, spec: ArraySpec) -> np.ndarray:
    """A read-only map of one file; MappedError if it is not whole."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise MappedError(f"{path}: damaged ({error}); remove it, and it is made again") from error
    if (array.shape, array.dtype) != (spec.shape, np.dtype(spec.dtype)):
        raise MappedError(
            f"{path}: holds {array.dtype} {array.shape}, expected {np.dtype(spec.dtype)} {spec.shape}; "
            "remove it, and it is made again"
        )
    return array.view(np.ndarray)  # without the subclass, whose every slice costs microseconds
