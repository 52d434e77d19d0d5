"""How far the precision of matrix products moves the reference vectors: python -m benchmarks.precision --csv=out.csv

Emulated on a CPU: the operands of every product of an update, gradients' and batched ones included, are rounded to the
nearest number of 10 (TF32) or 7 (bfloat16) bits behind the point, and multiplied and added in float32; bf16_x3 is three
such products, of each operand's rounded part and what is left of it. A GPU's tensor cores may cut TF32's bits off
instead of rounding, which moves up to twice as far. What is printed is the largest distance of an array from the
vector's, against the vector's largest entry.
"""

import collections
import csv
import functools
import importlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from absl import app, flags
from jax._src.interpreters import mlir  # has the CPU's own rule, which JAX does not export

from trqam_jax import console
from trqam_jax.types import Array

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: Numbers by how the operands of products are rounded.
MODES = ("tf32", "bf16_x3", "bf16")
KINDS = ("losses", "gradients", "parameters_1", "parameters_4", "actions")
#: Draws of the methods whose files have actions that follow from them alone.
_ACTING = {
    **dict.fromkeys(("bam", "fawac", "fbrac", "qam", "qam_edit", "rql", "sqam", "trqam"), ("policy_noise",)),
    "fedit": ("policy_noise", "policy_edit_eps"),
}

#: Every program runs once or four times: compiling is what takes time.
_QUICKLY = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}

_MODE = flags.DEFINE_enum("mode", None, MODES, "measure this one, in this process", required=False)
_METHODS = flags.DEFINE_list("methods", [], "only these; all if empty")
_CSV = flags.DEFINE_string("csv", "", "write the rows there, in place of those that it has of the same mode and method")


class Row(NamedTuple):
    """The worst of one method's arrays of one kind."""

    mode: str
    method: str
    kind: str
    distance: float  # against the vector's largest entry
    array: str


def round_to(x: Array, mode: str) -> Array:
    """The nearest number that a float32 x is in this mode, ties to even."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits={"tf32": 10, "bf16": 7}[mode])


def emulate(mode: str) -> None:
    """All products that this process compiles for its CPU from now on are computed in this mode."""
    rules = mlir._platform_specific_lowerings["cpu"]
    exact = rules[jax.lax.dot_general_p]

    def lower(ctx: Any, lhs: Any, rhs: Any, **parameters: Any) -> Any:
        product = functools.partial(_bind, **parameters)
        with mock.patch.dict(rules, {jax.lax.dot_general_p: exact}):
            return mlir.lower_fun(_products(mode, product), multiple_results=False)(ctx, lhs, rhs)

    mlir.register_lowering(jax.lax.dot_general_p, lower, platform="cpu", cacheable=False)


def _bind(lhs: Array, rhs: Array, **parameters: Any) -> Array:
    return jax.lax.dot_general_p.bind(lhs, rhs, **parameters)


def _products(mode: str, product: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """The product, by products of rounded operands."""
    if mode != "bf16_x3":
        return lambda lhs, rhs: product(round_to(lhs, mode), round_to(rhs, mode))

    def three(lhs: Array, rhs: Array) -> Array:
        high, high_too = round_to(lhs, "bf16"), round_to(rhs, "bf16")
        low, low_too = round_to(lhs - high, "bf16"), round_to(rhs - high_too, "bf16")
        return product(high, low_too) + product(low, high_too) + product(high, high_too)

    return three


def reference_cases() -> dict[str, Any]:
    """{method: its case}, of all test modules that have one: how its reference vectors are read."""
    for folder in (ROOT / "tests" / "agents", ROOT / "tests"):
        sys.path.insert(0, str(folder))
    golden = importlib.import_module("golden_vectors")
    found = {}
    for path in sorted((ROOT / "tests" / "agents").glob("test_*.py")):
        for value in vars(importlib.import_module(path.stem)).values():
            for case in value.values() if isinstance(value, dict) else [value]:
                if isinstance(case, golden.Case):
                    found[case.agent] = case
    return found


def distances(case: Any) -> Iterator[tuple[str, str, float]]:
    """(kind, array, distance) of everything that the vectors of one method have."""
    golden, found = importlib.import_module("golden_vectors"), []

    def keep(actual: Any, expected: Any, name: str, tolerance: float = 0.0) -> None:
        del tolerance
        actual, expected = np.asarray(actual), np.asarray(expected)
        found.append((name, float(np.abs(actual - expected).max() / np.abs(expected).max())))

    name, steps = case.agent, f"{case.agent}_steps"
    with mock.patch.object(golden, "assert_close", keep):
        checks: list[tuple[str, Any, tuple[Any, ...]]] = [
            ("1", golden.check_one_update, (case, name)),
            ("1", golden.check_gradients, (case, name)),
        ]
        if (golden.FOLDER / f"{steps}.npz").exists():
            checks.append(("4", golden.check_four_updates, (case, steps)))
        if name in _ACTING:
            checks.append(("1", golden.check_acting, (case, name, _ACTING[name])))
        for updates, check, arguments in checks:
            found.clear()
            check(*arguments)
            for array, distance in found:
                yield _kind(array, updates), array, distance


def _kind(array: str, updates: str) -> str:
    first = array.split("/")[0]
    return {"new": f"parameters_{updates}", "grad": "gradients", "actions": "actions"}.get(first, "losses")


def measure(mode: str) -> list[Row]:
    """The rows of one mode; the process computes in it from now on."""
    emulate(mode)
    rows = []
    cases = reference_cases()
    if unknown := set(_METHODS.value) - cases.keys():
        sys.exit(f"error: --methods: {', '.join(sorted(unknown))}: expected some of {', '.join(sorted(cases))}")
    for method in dict.fromkeys(_METHODS.value) or cases:
        case = cases[method]
        worst = {}
        for kind, array, distance in distances(case):
            if distance >= worst.get(kind, (0.0, ""))[0]:
                worst[kind] = (distance, array)
        found = [Row(mode, method, kind, *worst[kind]) for kind in KINDS if kind in worst]
        print(*found, sep="\n", file=sys.stderr, flush=True)
        rows += found
    return rows


def table(rows: list[Row]) -> str:
    """The worst method of each kind and mode, as a table in Markdown."""
    lines = ["| operands | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    by_place = collections.defaultdict(list)
    for row in rows:
        by_place[row.mode, row.kind].append(row)
    for mode in MODES:
        worst = [max(by_place[mode, kind], key=lambda row: row.distance, default=None) for kind in KINDS]
        cells = ["" if row is None else f"{row.distance:.1e} ({row.method})" for row in worst]
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(path: pathlib.Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(row._replace(distance=f"{row.distance:.3g}") for row in rows)


def merged(old: list[Row], new: list[Row]) -> list[Row]:
    """The new rows and those old ones whose mode and method have no new one."""
    made = {(row.mode, row.method) for row in new}
    rows = [row for row in old if (row.mode, row.method) not in made] + new
    return sorted(rows, key=lambda row: (MODES.index(row.mode), row.method, KINDS.index(row.kind)))


def read(path: pathlib.Path) -> list[Row]:
    with path.open(newline="") as file:
        return [Row(**{**row, "distance": float(row["distance"])}) for row in csv.DictReader(file)]


def _in_a_process(mode: str) -> list[Row]:
    """What is compiled in one mode stays in a process's caches."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.csv")
        given = [f"--mode={mode}", f"--methods={','.join(_METHODS.value)}", f"--csv={path}"]
        command = [sys.executable, "-m", "benchmarks.precision", *given]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL, env={**os.environ, **_QUICKLY})
        if done.returncode:  # it has said why
            sys.exit(done.returncode)
        return read(path)


def main(argv: list[str]) -> None:
    del argv
    rows = measure(_MODE.value) if _MODE.value else []
    for mode in () if _MODE.value else MODES:
        rows += _in_a_process(mode)
    if _CSV.value:
        path = pathlib.Path(_CSV.value)
        rows = merged(read(path) if path.exists() else [], rows)
        write(path, rows)
    print(table(rows))


if __name__ == "__main__":
    console.prepare()
    app.run(main)
