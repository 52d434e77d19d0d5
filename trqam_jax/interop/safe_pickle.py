"""Reads pickles of nested containers, numbers and arrays, whoever wrote them, without running anything they name.

A pickle is a program, and its globals may be any function. Python's own unpickler is not used: the program's steps are
taken here, and there are none but those that make data. No name is looked up and nothing is imported: the few names
that arrays of numpy and JAX are pickled by stand for functions of this module, which only collect bytes, and any other
name is refused. Arrays are made of plain numbers, and after the program has ended. What is read takes no more memory
than a few times the file, whatever sizes the file declares.
"""

import math
import os
import pathlib
import pickletools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np

from trqam_jax.errors import UserError

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # numpy's names of dtypes
MOST_PARTS = 1000  # of a dict's key, or of what is in a set: tuples of tuples take for ever to hash


class Refused(UserError):
    """The pickle asks for something other than data."""


def load(path: pathlib.Path) -> Any:
    """Dicts, lists, tuples, sets, texts, bytes, numbers and numpy arrays; a one-line UserError for anything else."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            bounded: Any = _Bounded(file, size)  # all of a file that pickletools asks for
            return _Copies(size).finished(_Machine().run(pickletools.genops(bounded)))
    except Refused as error:
        raise UserError(f"{path}: not loaded: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # what a damaged pickle raises can be anything
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, or no pickle ({type(error).__name__}: {reason:.200})") from None


class _Bounded:
    """A file from which nothing is read, and for which no room is made, that it does not hold."""

    def __init__(self, file: BinaryIO, size: int):
        self._size, self.readline, self.tell, self._read = size, file.readline, file.tell, file.read

    def read(self, count: int) -> bytes:
        left = self._size - self.tell()
        if not 0 <= count <= left:
            raise ValueError(f"{count} bytes at {self.tell()}, where {left} are left")
        return self._read(count)


class _Dtype:
    """A dtype: `numpy.dtype(name, align, copy)`, then its state, of which only the byte order is read."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any):
        if name not in NUMBERS:
            raise Refused(f"it holds an array of dtype {name!r:.80}, and only numbers are read")
        self.name: str = name
        self.order: Any = "="

    def set_state(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def finished(self) -> np.dtype:
        return np.dtype(self.name).newbyteorder(self.order)


class _Array:
    """An array: either empty, as numpy's reconstruct makes it, until its state is set, or all there from the start."""

    __slots__ = ("axes", "data", "dtype", "order", "shape")

    def __init__(self, data: Any = None, dtype: Any = None, shape: Any = (), order: Any = "C", axes: Any = None):
        self.data, self.dtype, self.shape, self.order, self.axes = data, dtype, shape, order, axes

    def set_state(self, state: tuple[Any, ...]) -> None:
        *_, shape, dtype, fortran, data = state
        self.__init__(data, dtype, shape, "F" if fortran else "C")

    def finished(self) -> np.ndarray:
        """numpy's own `_frombuffer`, in native byte order."""
        if not (isinstance(self.dtype, _Dtype) and isinstance(self.data, (bytes, bytearray))):
            raise Refused("it holds an array that is not made of the bytes of numbers")
        if not all(type(length) is int and 0 <= length < 2**63 for length in self.shape):
            raise ValueError("a shape that is none")
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


class _Global:
    """What a name in a pickle stands for: something to call, if anything."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any] | None = None):
        self.call = call

    def __call__(self, *args: Any) -> Any:
        if self.call is None:
            raise Refused("it makes an array in a way that numpy's own pickles do not")
        return self.call(*args)


def _jax_array(reconstruct: Any, args: Any, state: Any, aval: Any) -> _Array:
    """A numpy array, and in `aval` what only JAX reads: weak_type, and named_shape in older versions."""
    if reconstruct is not RECONSTRUCT:
        raise Refused("it makes a JAX array of something other than a numpy array")
    array = _Array()
    array.set_state(state)
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


#: What a step leaves on the stack that has nothing to do but that.
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
#: Those whose argument is what they leave.
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)


class _Machine:
    """A pickle's program: a stack, the stacks below its marks, and a memo. What it can do are the methods' names."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, steps: Iterable[tuple[Any, Any, Any]]) -> Any:
        """What is on the stack when the program stops. steps: (opcode, argument, place), as pickletools has them."""
        for opcode, argument, _ in steps:
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _LITERALS:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name in _STEPS:
                _STEPS[name](self, argument)
            else:
                raise Refused(f"it takes the step {name}, which no pickle of arrays needs")
        raise ValueError("it does not stop")

    def _marked(self) -> list[Any]:
        """What is above the last mark, taken off the stack."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def _top(self, kind: type) -> Any:
        """The container on the stack, which a step is to change."""
        if type(self._stack[-1]) is not kind:
            raise Refused(f"it adds to something that is no {kind.__name__}")
        return self._stack[-1]

    def mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def pop_mark(self, _: None) -> None:
        self._marked()

    def dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def nothing(self, _: Any) -> None:
        """Of what only says how the file is laid out."""

    def make_list(self, _: None) -> None:
        items = self._marked()
        self._stack.append(items)

    def make_tuple(self, _: None) -> None:
        items = self._marked()
        self._stack.append(tuple(items))

    def make_short_tuple(self, length: int) -> None:
        items = [self._stack.pop() for _ in range(length)]
        self._stack.append(tuple(items[::-1]))

    def make_dict(self, _: None) -> None:
        items = self._marked()
        self._stack.append({})
        self._set_items(items)

    def make_frozenset(self, _: None) -> None:
        items = self._marked()
        self._stack.append(frozenset(map(_checked_key, items)))

    def append(self, _: None) -> None:
        item = self._stack.pop()
        self._top(list).append(item)

    def appends(self, _: None) -> None:
        items = self._marked()
        self._top(list).extend(items)

    def set_item(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def set_items(self, _: None) -> None:
        self._set_items(self._marked())

    def add_items(self, _: None) -> None:
        items = self._marked()
        self._top(set).update(map(_checked_key, items))

    def _set_items(self, flat: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[_checked_key(key)] = value

    def name_in_one(self, text: str) -> None:
        module, _, name = text.rpartition(" ")
        self._name(module, name)

    def name_of_two(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if not (type(module) is str and type(name) is str and (module, name) in GLOBALS):
            raise Refused(f"it names {f'{module}.{name}'!r:.200}, and only arrays of numpy and JAX are read")
        self._stack.append(GLOBALS[module, name])

    def call(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise Refused("it calls something that is no function of numpy's or JAX's")
        self._stack.append(function(*arguments))

    def set_state(self, _: None) -> None:
        state = self._stack.pop()
        if type(self._stack[-1]) not in (_Array, _Dtype):
            raise Refused("it sets the state of something that is no array")
        self._stack[-1].set_state(state)


def _checked_key(key: Any) -> Any:
    """The key, if it is hashed at once: tuples that share their parts have few bytes and any number of parts."""
    parts, left = 0, [key]
    while left:
        part = left.pop()
        parts += 1
        if parts > MOST_PARTS:
            raise Refused(f"it has a key of more than {MOST_PARTS} parts")
        if type(part) is tuple:
            left.extend(part)
    return key


_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), _Machine.nothing),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "LIST": _Machine.make_list,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.make_short_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_short_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_short_tuple(3),
    "DICT": _Machine.make_dict,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "ADDITEMS": _Machine.add_items,
    "FROZENSET": _Machine.make_frozenset,
    "GLOBAL": _Machine.name_in_one,
    "STACK_GLOBAL": _Machine.name_of_two,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.set_state,
}


class _Copies:
    """What a program made, with arrays in place of what stood for them. Refused: whatever is not data, and cycles."""

    def __init__(self, size: int):
        self._size = size  # of the file, in bytes
        self._arrays = 0  # bytes of the arrays so far
        self._seen: dict[int, Any] = {}  # by the ids of the originals: a part that is met often is copied once

    def finished(self, x: Any) -> Any:
        if x is None or type(x) in (bool, int, float, complex, str, bytes, bytearray):
            return x
        if id(x) in self._seen:
            if self._seen[id(x)] is None:
                raise Refused("it holds a container that contains itself")
            return self._seen[id(x)]
        self._seen[id(x)] = None
        if type(x) is dict:
            result = {self.finished(key): self.finished(value) for key, value in x.items()}
        elif type(x) in (list, tuple, set, frozenset):
            result = type(x)([self.finished(item) for item in x])
        elif type(x) is _Array:
            result = self._array(x)
        elif type(x) is _Scalar:
            result = self._array(x.array)[()]
        else:
            raise Refused("it holds something that is no data")
        self._seen[id(x)] = result
        return result

    def _array(self, x: _Array) -> np.ndarray:
        """Each array's bytes are in the file once; else a small file could ask for any amount of memory."""
        self._arrays += len(x.data) if isinstance(x.data, (bytes, bytearray)) else 0
        if self._arrays > self._size:
            raise Refused("it makes several arrays of the same bytes, larger together than the file")
        return x.finished()
