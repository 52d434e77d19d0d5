"""Data comes through; nothing that a pickle names is looked up, imported or called."""

import builtins
import operator
import os
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from golden_vectors import FOLDER
from jax._src.array import _reconstruct_array

from trqam_jax.errors import UserError
from trqam_jax.interop import safe_pickle


def load(tmp_path, content):
    path = tmp_path / "some.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return safe_pickle.load(path)


def refusal(tmp_path, content):
    with pytest.raises(UserError) as error:
        load(tmp_path, content)
    message = str(error.value)
    assert "\n" not in message
    assert "some.pkl" in message
    return message


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def call(module, name, *args):
    """The bytes of a pickle that calls module.name(*args), for names that need not exist."""
    arguments = pickle.dumps(args, protocol=3)[2:-1]  # without its header and STOP
    return b"\x80\x03c" + f"{module}\n{name}\n".encode() + arguments + b"R."


ARRAYS = {
    "float": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "strided": np.arange(10)[::3],
    "big endian": np.arange(5, dtype=">i4"),
    "half": np.arange(3, dtype=np.float16),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4)),
    "no axes": np.array(3.5),
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_numpy_arrays_come_through(tmp_path, name, protocol):
    array = ARRAYS[name]
    loaded = load(tmp_path, pickle.dumps({"x": array, "again": [array]}, protocol))
    for result in (loaded["x"], loaded["again"][0]):
        np.testing.assert_array_equal(result, array)
        assert type(result) is np.ndarray
        assert result.dtype == array.dtype.newbyteorder("=")
        assert result.flags.writeable


def test_other_data_comes_through(tmp_path):
    tree = {("antmaze", "qam"): [1, 2.5, None, True], "text": ("ä", b"bytes", 1 << 70), 3: {1, 2}, "n": np.float32(0.1)}
    assert load(tmp_path, tree) == tree
    result = load(tmp_path, {"device": jnp.arange(3.0), "weak": jnp.asarray(2.0)})
    np.testing.assert_array_equal(result["device"], [0, 1, 2])
    assert type(result["weak"]) is np.ndarray


def test_a_shared_part_stays_shared(tmp_path):
    """Or a small file could unfold into one that fills the memory."""
    tree = [np.zeros(3)]
    for _ in range(60):
        tree = [tree, tree]
    result = load(tmp_path, tree)
    assert result[0] is result[1]


def test_older_jax_arrays(tmp_path):
    """Arrays of JAX versions that still wrote named_shape, by numpy 1, whose modules had no underscore."""
    function, args, state = np.arange(4, dtype=np.float32).__reduce__()
    old = Calls(_reconstruct_array, function, args, state, {"weak_type": False, "named_shape": {}})
    content = pickle.dumps({"old": old}, protocol=3).replace(b"numpy._core", b"numpy.core")
    assert b"named_shape" in content
    assert b"numpy.core.multiarray" in content
    np.testing.assert_array_equal(load(tmp_path, content)["old"], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("numpy", "save"),
        ("numpy", "memmap"),
        ("numpy", "fromfile"),
        ("numpy", "matrix"),
        ("numpy", "vectorize"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "set_typeDict"),
        ("numpy._core.records", "fromfile"),
        # Attributes and modules within a module that is allowed.
        ("numpy.core.multiarray", "os.system"),
        ("numpy._core.multiarray", "sys.modules"),
        ("numpy._core.multiarray", "_reconstruct.__call__"),
        ("numpy._core.multiarray", "overrides.functools.partial"),
        ("numpy.core.multiarray.os", "system"),
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy", "ndarray.tofile"),
        ("numpy ", "ndarray"),
        ("Numpy", "ndarray"),
        ("jax._src.array", "api.jit"),
        ("jax", "jit"),
        ("jax._src.array", "np"),
        # Names of the unpickler's own module.
        ("trqam_jax.interop.safe_pickle", "load"),
        ("trqam_jax.interop.safe_pickle", "GLOBALS"),
        ("flax.core.frozen_dict", "FrozenDict"),
    ],
)
def test_any_other_name_is_refused_by_name(tmp_path, module, name):
    message = refusal(tmp_path, call(module, name, "touch " + str(tmp_path / "canary")))
    assert repr(f"{module}.{name}") in message
    # Protocol 4 names its globals from the stack.
    parts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    assert repr(f"{module}.{name}") in refusal(tmp_path, b"\x80\x04" + parts + b"\x93.")
    assert not (tmp_path / "canary").exists()


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "canary_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "canary_module" in refusal(tmp_path, call("canary_module", "function"))
    assert "canary_module" not in sys.modules


@pytest.mark.parametrize(
    "hidden",
    [
        lambda x: [1, {"a": (x,)}],
        lambda x: {x: 1},
        lambda x: Calls(_reconstruct_array, x, (), (), {}),
        lambda x: Calls(_reconstruct_array, np._core.multiarray._reconstruct, (x,), (), {}),
        lambda x: Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), x),
        lambda x: Calls(np.dtype, x),
    ],
)
@pytest.mark.parametrize("function", [os.system, builtins.eval, operator.attrgetter, np.load])
def test_calls_hidden_in_data_are_refused(tmp_path, hidden, function):
    argument = str(tmp_path / "canary")
    message = refusal(tmp_path, hidden(Calls(function, f"touch {argument}")))
    assert function.__name__ in message
    assert not (tmp_path / "canary").exists()


def test_allowed_names_in_the_wrong_place_are_refused(tmp_path):
    function, args, state = np.arange(4.0).__reduce__()
    assert "JAX" in refusal(tmp_path, Calls(_reconstruct_array, np.dtype, ("f4",), state, {}))
    assert "numpy" in refusal(tmp_path, call("numpy", "ndarray", (1 << 40,)))
    assert "no data" in refusal(tmp_path, b"\x80\x03cnumpy\nndarray\n.")
    assert "no data" in refusal(tmp_path, np.dtype("f4"))
    assert "bytes" in refusal(tmp_path, Calls(function, *args))  # never given its state
    for version, shape, dtype, fortran, data in (
        (1, (4,), "f8", False, state[-1]),  # no dtype
        (1, (4,), np.dtype("f8"), False, [1.0, 2.0, 3.0, 4.0]),
        (1, (400,), np.dtype("f8"), False, state[-1]),
        (1, (-1, -4), np.dtype("f8"), False, state[-1]),
        (1, "four", np.dtype("f8"), False, state[-1]),
    ):
        refusal(tmp_path, Calls(_reconstruct_array, function, args, (version, shape, dtype, fortran, data), {}))


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["text"]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, array, protocol):
    assert "only numbers" in refusal(tmp_path, pickle.dumps(array, protocol))


def test_state_cannot_be_set_on_what_stands_for_a_name(tmp_path):
    """BUILD would otherwise reach the attributes of a function, such as its defaults."""
    slots = pickle.dumps((None, {"call": 1}), protocol=3)[2:-1]
    assert "state" in refusal(tmp_path, b"\x80\x03cnumpy\ndtype\n" + slots + b"b.")
    attributes = pickle.dumps({"call": 1}, protocol=3)[2:-1]
    assert "state" in refusal(tmp_path, b"\x80\x03cnumpy._core.multiarray\n_reconstruct\n" + attributes + b"b.")
    assert safe_pickle.RECONSTRUCT.call is not None


def test_other_ways_to_make_objects_are_refused(tmp_path):
    refusal(tmp_path, b"\x80\x03cnumpy\nndarray\n)\x81.")  # NEWOBJ
    refusal(tmp_path, b"\x80\x03(S'touch x'\nios\nsystem\n.")  # INST
    refusal(tmp_path, b"\x80\x03(cos\nsystem\nS'touch x'\no.")  # OBJ
    refusal(tmp_path, b"\x80\x03\x82\x01.")  # EXT1
    refusal(tmp_path, b"\x80\x03Pid\n.")  # PERSID
    refusal(tmp_path, b"\x80\x05\x97.")  # NEXT_BUFFER


def test_cycles_are_refused(tmp_path):
    tree = []
    tree.append(tree)
    assert "itself" in refusal(tmp_path, tree)


def test_depth_is_no_crash(tmp_path):
    refusal(tmp_path, b"\x80\x03" + b"]" * 100_000 + b"a" * 99_999 + b".")


def test_a_truncated_file_gives_one_clear_error(tmp_path):
    content = (FOLDER / "peer_checkpoint.pkl").read_bytes()
    for length in (0, 1, 10, 300, 5_000, len(content) // 2, len(content) - 1):
        assert "damaged" in refusal(tmp_path, content[:length])
    assert "damaged" in refusal(tmp_path, b"not a pickle at all\n")


def test_damage_is_an_error_or_harmless(tmp_path):
    """Bytes changed at random: every outcome is data or a UserError."""
    content = (FOLDER / "peer_checkpoint.pkl").read_bytes()
    rng, path, refused = np.random.default_rng(0), tmp_path / "some.pkl", 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(2_000)] = rng.integers(256)  # the structure; later bytes are mostly numbers
        path.write_bytes(bytes(damaged))
        try:
            assert isinstance(safe_pickle.load(path), dict)
        except UserError:
            refused += 1
    assert 0 < refused < 300


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.pkl", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            safe_pickle.load(path)
