"""Pickles: known attacks, random programs, and damage to good ones, for trqam_jax.interop.safe_pickle and its users."""

import pathlib
import pickle
import struct
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.judge import Fault, Kind, damaged, damages, outcome
from trqam_jax.interop import safe_pickle
from trqam_jax.interop.checkpoints import import_checkpoint

ROOM = 2**26  # bytes of memory that a small pickle may take

#: (module, name, arguments) of what attacks call, from published ones and from lists of what scanners look for.
CALLS = (
    ("os", "system", ("true",)),
    ("posix", "system", ("true",)),
    ("nt", "system", ("true",)),
    ("builtins", "eval", ("1",)),
    ("builtins", "exec", ("1",)),
    ("builtins", "compile", ("1", "a", "eval")),
    ("builtins", "open", ("/tmp/opened-by-a-pickle", "w")),
    ("builtins", "__import__", ("antigravity",)),
    ("builtins", "getattr", (1, "real")),
    ("builtins", "breakpoint", ()),
    ("builtins", "map", (1, 2)),
    ("builtins", "bytearray", (2**40,)),
    ("__builtin__", "eval", ("1",)),
    ("subprocess", "Popen", (("true",),)),
    ("subprocess", "check_output", (("true",),)),
    ("operator", "attrgetter", ("system",)),
    ("operator", "methodcaller", ("system", "true")),
    ("operator", "itemgetter", (0,)),
    ("functools", "partial", (1,)),
    ("functools", "reduce", (1, 2)),
    ("itertools", "starmap", (1, 2)),
    ("copyreg", "_reconstructor", (1, 2, None)),
    ("copyreg", "__newobj__", (1,)),
    ("copy_reg", "_reconstructor", (1, 2, None)),
    ("codecs", "encode", ("a", "latin1")),
    ("_codecs", "encode", ("a", "latin1")),
    ("importlib", "import_module", ("antigravity",)),
    ("runpy", "run_path", ("/tmp/none.py",)),
    ("runpy", "_run_code", ("1", {})),
    ("pty", "spawn", ("true",)),
    ("timeit", "timeit", ("1",)),
    ("cProfile", "run", ("1",)),
    ("pdb", "run", ("1",)),
    ("bdb", "Bdb.run", ("1",)),
    ("code", "interact", ()),
    ("webbrowser", "open", ("http://localhost",)),
    ("socket", "create_connection", (("localhost", 1),)),
    ("urllib.request", "urlopen", ("file:///etc/hostname",)),
    ("shutil", "rmtree", ("/tmp/none",)),
    ("ctypes", "CDLL", ("libc.so.6",)),
    ("types", "FunctionType", (1, {})),
    ("types", "CodeType", ()),
    ("pickle", "loads", (b"N.",)),
    ("_pickle", "Unpickler", ()),
    ("marshal", "loads", (b"N",)),
    ("shelve", "open", ("/tmp/none",)),
    ("zipimport", "zipimporter", ("/tmp/none",)),
    ("pip", "main", (["--version"],)),
    ("torch.hub", "load", ("a", "b")),
    ("numpy", "load", ("/tmp/none",)),
    ("numpy", "fromfile", ("/etc/hostname",)),
    ("numpy", "memmap", ("/etc/hostname",)),
    ("numpy", "frompyfunc", (1, 1, 1)),
    ("numpy.testing._private.utils", "runstring", ("1", {})),
    ("numpy.f2py.crackfortran", "getlincoef", ("1", ())),
    ("numpy.f2py.capi_maps", "getinit", ("1", {})),
    ("numpy.distutils.exec_command", "_exec_command", ("true",)),
    ("numpy._core._multiarray_umath", "_reconstruct", (1, (0,), b"b")),
    ("numpy.core.multiarray", "fromstring", ("a",)),
    ("numpy._core.multiarray", "scalar.__init__", ()),
    ("numpy", "ndarray.tofile", ("/tmp/none",)),
    ("numpy", "ndarray.__class__", ()),
    ("numpy", "dtype.__class__", ()),
    ("jax", "numpy.load", ("/tmp/none",)),
    ("jax._src.array", "_reconstruct_array.__globals__", ()),
    ("jaxlib.xla_extension", "deserialize", (b"",)),
    ("sys", "modules", ()),
    ("trqam_jax.interop.safe_pickle", "load", ("/tmp/none",)),
    ("num\u0440y", "dtype", ("f4", False, True)),  # a letter that only looks like the right one
    ("numpy\u200b", "dtype", ("f4", False, True)),
    ("numpy\n", "dtype", ("f4", False, True)),
    ("\ud800", "\udfff", ()),
    ("", "", ()),
    ("numpy", "dtype" * 10_000, ()),
)


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _arguments(values: tuple[Any, ...]) -> bytes:
    return pickle.dumps(values, 0)[:-1]


def ways(module: str, name: str, values: tuple[Any, ...]) -> Iterator[bytes]:
    """One call, in every way in which a pickle can ask for it."""
    plain = f"{module}\n{name}\n".encode("utf-8", "surrogatepass")
    names = {"c": b"c" + plain, "stack": b"\x80\x04" + _text(module) + _text(name) + b"\x93"}
    for number, named in enumerate(names.values()):
        yield named + _arguments(values) + b"R."
        yield named + b"."
        yield named + _arguments(values) + b"\x81."  # NEWOBJ
        yield b"\x80\x04" + named + _arguments(values) + b"}\x92."  # NEWOBJ_EX
        yield b"(" + named + _arguments(values) + b"o."  # OBJ
        yield named + b"}b."  # BUILD
        yield named + _text("a") + _text("b") + b"s."  # SETITEM on it
        yield named + b"(" + _text("a") + b"e."  # APPENDS to it
        yield b"]" + named + _arguments(values) + b"Ra."  # inside of data
        yield named + _arguments(values) + b"R0N."  # and then thrown away
        yield pickle.dumps(number)[:-1] + b"0" + named + _arguments(values) + b"R."
    yield b"(" + _arguments(values) + b"i" + plain + b"."  # INST
    # Where numpy's own pickles have something else.
    yield b"cnumpy._core.multiarray\n_reconstruct\n(" + names["c"] + b"(K\x00tC\x01btR."
    yield b"cnumpy\ndtype\n(" + names["c"] + b"\x89\x88tR."
    yield b"cjax._src.array\n_reconstruct_array\n(" + names["c"] + _arguments(values) + b"}}tR."


def _int4(number: int) -> bytes:
    return struct.pack("<I", number)


def _nested(depth: int, begin: bytes, end: bytes) -> bytes:
    return b"\x80\x04" + begin * depth + b"N" + end * depth + b"."


def _array(data: bytes, shape: bytes) -> bytes:
    """Of the bytes that the opcodes `data` leave, as numpy pickles one."""
    make = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    order = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR" + order
    return make + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


#: What asks for too much, or for something that is none of data.
BOMBS: dict[str, bytes] = {
    "memo, put": b"\x80\x02Nr" + _int4(2**26) + b".",
    "memo, put far": b"\x80\x02Nr" + _int4(2**32 - 1) + b".",
    "memo, put as text": b"Np99999999999\n.",
    "memo, put below zero": b"Np-1\n.",
    "memo, get what is not there": b"\x80\x02j" + _int4(2**31) + b".",
    "memoize nothing": b"\x80\x04\x94.",
    "unicode8 of 2^63 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"a.",
    "bytes8 of 2^62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "bytes8 of 2^36 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"a.",
    "bytearray8 of 2^30 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**30) + b"a.",
    "bytearray8 of 2^62 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.",
    "frame of 2^62 bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "bytes of -1": b"T" + struct.pack("<i", -1) + b"a.",
    "long4 of -1 bytes": b"\x8b" + struct.pack("<i", -1) + b".",
    "long4 of 2^31 - 1 bytes": b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "a long of many digits": b"L" + b"9" * 100_000 + b"L\n.",
    "a float of many digits": b"F" + b"9" * 100_000 + b"\n.",
    "deep lists": _nested(20_000, b"](", b"e"),
    "deep tuples": _nested(20_000, b"", b"\x85"),
    "deep dicts": _nested(20_000, b"}(N", b"u"),
    "marks alone": b"(" * 50_000 + b".",
    "laughs: lists": b"\x80\x04]"
    + b"".join(b"\x94](h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"e" for i in range(99))
    + b".",
    "laughs: tuples": b"\x80\x04)"
    + b"".join(b"\x94h" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(99))
    + b".",
    "laughs: a key": b"\x80\x04}N\x94"
    + b"".join(b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(60))
    + b"Ns.",
    "laughs: in a set": b"\x80\x04\x8f(N\x94"
    + b"".join(b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(60))
    + b"\x90.",
    "laughs: in a frozenset": b"\x80\x04(N\x94"
    + b"".join(b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(60))
    + b"\x91.",
    "arrays that share their bytes": b"\x80\x04B"
    + _int4(2**20)
    + bytes(2**20)
    + b"\x940]("
    + _array(b"h\x00", b"J" + _int4(2**20) + b"\x85") * 500
    + b"e.",
    "an array of no bytes and a huge shape": b"\x80\x04"
    + _array(b"C\x00", b"K\x00\x8a\x08" + bytes([255] * 7 + [127]) + b"\x86")
    + b".",
    "an array of a negative shape": b"\x80\x04"
    + _array(b"C\x04abcd", b"J\xff\xff\xff\xffJ\xfc\xff\xff\xff\x86")
    + b".",
    "an array of a deep shape": b"\x80\x04" + _array(b"C\x01a", b"(" + b"K\x01" * 100 + b"t") + b".",
    "an array of a shape that is no tuple": b"\x80\x04" + _array(b"C\x01a", b"C\x01\x01") + b".",
    "extension 1": b"\x80\x02\x82\x01.",
    "extension 2": b"\x80\x02\x83\x01\x01.",
    "extension 4": b"\x80\x02\x84" + _int4(2**31 - 1) + b".",
    "extension 0": b"\x80\x02\x82\x00.",
    "persistent id": b"Pfile\n.",
    "persistent id of the stack": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a buffer, read-only": b"\x80\x05C\x01a\x98.",
    "protocol 255": b"\x80\xffN.",
    "no stop": b"\x80\x04N",
    "stop alone": b".",
    "pop of nothing": b"0.",
    "dup of nothing": b"2.",
    "an item without its list": b"\x80\x02Na.",
    "a key that is a list": b"\x80\x02}]Ns.",
    "a dict of an odd number": b"(N d.".replace(b" ", b""),
    "a name of numbers": b"\x80\x04K\x01K\x02\x93.",
    "text that is none": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "two pickles": pickle.dumps(1) + pickle.dumps(2),
    "a zip": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
    "zeros": bytes(1000),
    "itself in itself": b"\x80\x02]q\x00h\x00a.",
    "itself as its key": b"\x80\x02}q\x00(h\x00tNs.",
}

#: The two kinds of files that are read, small.
_params = {
    "Dense_0": {"kernel": np.arange(12, dtype=np.float32).reshape(4, 3), "bias": np.zeros(3, np.float32)},
    "Dense_1": {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)},
}
GOOD: tuple[Any, ...] = (
    {"agent": {"network": {"params": {"modules_actor_slow": {"mlp": _params}}, "step": 7}}},
    {("cube-single-play", "TRQAM"): np.full((30, 8), 0.5), ("all", "QAM"): np.zeros((10, 4), np.float32)},
    [1, -2.5, "text", b"bytes", bytearray(b"more"), None, True, {3}, frozenset({4}), (5, 6), 2**70, {"a": {"b": []}}],
)


class _Watch:
    """Notes what Python's audit events say of a load that must do nothing. Hooks cannot be taken back: one for all."""

    FORBIDDEN = ("os.", "subprocess.", "shutil.", "socket.", "ctypes.", "exec", "compile", "webbrowser.", "tempfile.")

    def __init__(self) -> None:
        self.on, self.seen = False, []
        self._added = False

    def __enter__(self) -> "_Watch":
        if not self._added:
            sys.addaudithook(self._note)
            self._added = True
        self.on, self.seen = True, []
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or "hypothesis" in repr(arguments):  # which looks at exceptions as they pass
            return
        is_new_module = event == "import" and arguments[0] not in sys.modules
        if event.startswith(self.FORBIDDEN) or is_new_module:
            self.seen.append(f"{event}{arguments!r:.100}")


_watch = _Watch()


def play(data: bytes, *, must_fail: bool = False) -> Any:
    """Load it. Fault if anything is run, much memory taken, or the error not one line. Returns the result, or None."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "case.pkl"
        path.write_bytes(data)
        tracemalloc.start()
        try:
            with _watch:
                found = outcome(safe_pickle.load, path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if _watch.seen:
            raise Fault(f"it ran {_watch.seen[0]}")
        if peak > ROOM + 20 * len(data):
            raise Fault(f"{len(data)} bytes took {peak / 2**20:.0f} MiB")
        if must_fail and found.error is None:
            raise Fault(f"read as {found.result!r:.100}")
        if found.error is None:
            for call in (_imported, _released):
                outcome(call, path, pathlib.Path(folder) / "out")
    return found.result


def _imported(path: pathlib.Path, out: pathlib.Path) -> None:
    import_checkpoint(path, out)


def _released(path: pathlib.Path, _: pathlib.Path) -> None:
    from experiments.analysis import released

    released.load(path, "trqam", "offline")
    released.curves(path, "trqam")


# ---- kinds

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)
_opcodes = st.lists(
    st.one_of(
        st.sampled_from(
            [bytes([op]) for op in b"(0122NI]l)t\x85\x86\x87}due\x8f\x90\x91asRboi\x81\x92\x93\x94\x88\x89Qt"]
        ),
        st.binary(min_size=1, max_size=1),
        st.builds(_text, st.sampled_from(("numpy", "dtype", "f4", "ndarray", "numpy._core.multiarray", "scalar"))),
        st.builds(lambda n: b"K" + bytes([n]), st.integers(0, 255)),
        st.builds(lambda n: b"h" + bytes([n]), st.integers(0, 5)),
        st.builds(lambda n: b"q" + bytes([n]), st.integers(0, 5)),
        st.builds(lambda n: b"r" + _int4(n), st.integers(0, 2**24)),
        st.sampled_from([f"c{module}\n{name}\n".encode() for module, name in safe_pickle.GLOBALS]),
        st.builds(lambda data: b"C" + bytes([len(data)]) + data, st.binary(max_size=8)),
    ),
    max_size=25,
)


def _play_attack(case: tuple[tuple[str, str, tuple[Any, ...]], int]) -> None:
    (module, name, values), way = case
    play(list(ways(module, name, values))[way], must_fail=True)


def _play_good(case: tuple[Any, int]) -> None:
    value, protocol = case
    found = play(pickle.dumps(value, protocol))
    # Python itself writes bytes in protocols before 3 as a call of a function, which is refused.
    if found is None and (protocol >= 3 or not _has_bytes(value)) and value is not None:
        raise Fault(f"refused: {value!r:.200}")
    if found is not None and repr(found) != repr(value):
        raise Fault(f"{found!r:.200} instead of {value!r:.200}")


def _has_bytes(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_bytes, (*value, *value.values())))
    return any(map(_has_bytes, value)) if isinstance(value, (list, tuple)) else isinstance(value, bytes)


NUMBER_OF_WAYS = len(list(ways("a", "b", ())))
KINDS = {
    "pickles: attacks": Kind(st.tuples(st.sampled_from(CALLS), st.integers(0, NUMBER_OF_WAYS - 1)), _play_attack),
    "pickles: bombs": Kind(st.sampled_from(sorted(BOMBS)), lambda name: play(BOMBS[name])),
    "pickles: programs": Kind(
        st.tuples(st.sampled_from((b"", b"\x80\x02", b"\x80\x04")), _opcodes).map(
            lambda parts: parts[0] + b"".join(parts[1]) + b"."
        ),
        play,
    ),
    "pickles: good ones": Kind(st.tuples(_values, st.integers(0, 5)), _play_good),
    "pickles: damaged ones": Kind(
        st.tuples(st.sampled_from(GOOD), st.integers(3, 5), damages).map(
            lambda parts: damaged(pickle.dumps(parts[0], parts[1]), parts[2])
        ),
        play,
    ),
}
