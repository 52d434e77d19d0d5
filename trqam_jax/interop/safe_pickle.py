"""Reads pickles of nested containers, numbers and arrays, whoever wrote them, without running anything they name.

A pickle is a program, and its globals may be any function. Here no name is looked up and nothing is imported: the few
names that arrays of numpy and JAX are pickled by stand for functions of this module, which only collect bytes, and any
other name is refused. Arrays are made of plain numbers, and after the pickle's program has ended.
"""

import math
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from trqam_jax.errors import UserError

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # numpy's names of dtypes


class Refused(UserError):
    """The pickle asks for something other than data."""


def load(path: pathlib.Path) -> Any:
    """Dicts, lists, tuples, sets, texts, bytes, numbers and numpy arrays; a one-line UserError for anything else."""
    try:
        with path.open("rb") as file:
            return _finished(_ArrayUnpickler(file).load(), {})
    except Refused as error:
        raise UserError(f"{path}: not loaded: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # what a damaged pickle raises can be anything, as the pickle module documents
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, or no pickle ({type(error).__name__}: {reason:.200})") from None


class _Dtype:
    """A dtype: `numpy.dtype(name, align, copy)`, then its state, of which only the byte order is read."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any):
        if name not in NUMBERS:
            raise Refused(f"it holds an array of dtype {name!r:.80}, and only numbers are read")
        self.name: str = name
        self.order: Any = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def finished(self) -> np.dtype:
        return np.dtype(self.name).newbyteorder(self.order)


class _Array:
    """An array: either empty, as numpy's reconstruct makes it, until its state is set, or all there from the start."""

    __slots__ = ("axes", "data", "dtype", "order", "shape")

    def __init__(self, data: Any = None, dtype: Any = None, shape: Any = (), order: Any = "C", axes: Any = None):
        self.data, self.dtype, self.shape, self.order, self.axes = data, dtype, shape, order, axes

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, dtype, fortran, data = state
        self.__init__(data, dtype, shape, "F" if fortran else "C")

    def finished(self) -> np.ndarray:
        """numpy's own `_frombuffer`, in native byte order."""
        if not (isinstance(self.dtype, _Dtype) and isinstance(self.data, (bytes, bytearray))):
            raise Refused("it holds an array that is not made of the bytes of numbers")
        dtype = self.dtype.finished()
        if len(self.data) != math.prod(self.shape) * dtype.itemsize:
            raise ValueError(f"{len(self.data)} bytes for the shape {self.shape} of {self.dtype.name}")
        flat = np.frombuffer(self.data, dtype)
        if self.order == "K":
            return flat.reshape(self.shape).transpose(self.axes).astype(dtype.newbyteorder("="))
        return flat.reshape(self.shape, order=self.order).astype(dtype.newbyteorder("="))


class _Scalar:
    """A number of a numpy type."""

    __slots__ = ("array",)

    def __init__(self, dtype: Any, data: Any):
        self.array = _Array(data, dtype)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it sets the state of a number")

    def finished(self) -> Any:
        return self.array.finished()[()]


class _Global:
    """What a name in a pickle stands for: something to call, if anything, whose own state cannot be set."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any] | None = None):
        self.call = call

    def __call__(self, *args: Any) -> Any:
        if self.call is None:
            raise Refused("it makes an array in a way that numpy's own pickles do not")
        return self.call(*args)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it sets the state of a function")


def _jax_array(reconstruct: Any, args: Any, state: Any, aval: Any) -> _Array:
    """A numpy array, and in `aval` what only JAX reads: weak_type, and named_shape in older versions."""
    if reconstruct is not RECONSTRUCT:
        raise Refused("it makes a JAX array of something other than a numpy array")
    array = _Array()
    array.__setstate__(state)
    return array


RECONSTRUCT = _Global(lambda *args: _Array())
GLOBALS = {
    ("numpy", "ndarray"): _Global(),  # is only handed to RECONSTRUCT
    ("numpy", "dtype"): _Global(_Dtype),
    ("jax._src.array", "_reconstruct_array"): _Global(_jax_array),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    GLOBALS[f"{_core}.multiarray", "_reconstruct"] = RECONSTRUCT
    GLOBALS[f"{_core}.multiarray", "scalar"] = _Global(_Scalar)
    GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Global(_Array)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Global:
        if (module, name) not in GLOBALS:
            raise Refused(f"it names {f'{module}.{name}'!r:.200}, and only arrays of numpy and JAX are read")
        return GLOBALS[module, name]


def _finished(x: Any, seen: dict[int, Any]) -> Any:
    """A copy with arrays in place of what stood for them. Refused: whatever is not data, and cycles.

    seen: the copies by the ids of their originals, so that a part that is met often is copied once.
    """
    if x is None or type(x) in (bool, int, float, complex, str, bytes, bytearray):
        return x
    if id(x) in seen:
        if seen[id(x)] is None:
            raise Refused("it holds a container that contains itself")
        return seen[id(x)]
    seen[id(x)] = None
    if type(x) is dict:
        result = {_finished(key, seen): _finished(value, seen) for key, value in x.items()}
    elif type(x) in (list, tuple, set, frozenset):
        result = type(x)([_finished(item, seen) for item in x])
    elif type(x) in (_Array, _Scalar):
        result = x.finished()
    else:
        raise Refused("it holds something that is no data")
    seen[id(x)] = result
    return result
