"""XLA's text of a compiled program: instructions, the memory they touch, the matrix products in them."""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32, "s64": 64, "u64": 64,
    "f8e4m3fn": 8, "f8e5m2": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128, "token": 0,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*)$")
_CALL = re.compile(r"([a-z][\w\-]*)\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


class Instruction(NamedTuple):
    """One line."""

    name: str
    shape: str  # of its result, a tuple's in parentheses
    opcode: str
    operands: tuple[str, ...]  # names
    attributes: str  # what follows the operands

    @property
    def called(self) -> str | None:
        """The computation that a fusion or a call computes."""
        found = re.search(r"\bcalls=%([\w.\-]+)", self.attributes)
        return found and found[1]

    @property
    def op_name(self) -> str:
        """JAX's name for it: the functions it was traced in, and the primitive."""
        found = _OP_NAME.search(self.attributes)
        return found[1] if found else ""

    @property
    def trip_count(self) -> int | None:
        """Of a loop, where XLA knows it."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"', self.attributes)
        return int(found[1]) if found else None


class Product(NamedTuple):
    """A product of matrices (m, k) and (k, n), `batch` times."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        """Two per multiply-add."""
        return 2 * math.prod(self)

    def __str__(self) -> str:
        return "x".join(map(str, self))


class Program:
    """All computations of a module."""

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.instructions: dict[str, Instruction] = {}
        current: list[Instruction] = []
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                current = self.computations.setdefault(head[1], [])
            elif body := _INSTRUCTION.match(line):
                instruction = _read(body[1], body[2])
                current.append(instruction)
                self.instructions[instruction.name] = instruction

    def within(self, instruction: Instruction) -> Iterator[Instruction]:
        """What a fusion computes, fusions in it included; of any other instruction itself."""
        if instruction.called is None:
            yield instruction
            return
        for inner in self.computations[instruction.called]:
            yield from self.within(inner)

    def products(self, instruction: Instruction) -> list[Product]:
        """The matrix products of a fusion or of a call of cuBLAS."""
        if is_cublas(instruction):
            return [self._cublas_product(instruction)]
        return [self._dot_product(inner) for inner in self.within(instruction) if inner.opcode == "dot"]

    @functools.cache  # noqa: B019  (a program lives as long as what is counted of it)
    def touched(self, name: str) -> int:
        """Bytes that an instruction reads and writes at most, caches aside: its result, and of each operand all, or
        where a fusion takes slices or rows of it alone, those."""
        instruction = self.instructions[name]
        total = nbytes(instruction.shape)
        if is_cublas(instruction):  # whose result has its workspace beside it
            total -= sum(nbytes(part) for part in re.findall(r"\bs8\[\d+\]", instruction.shape))
        if instruction.opcode == "dynamic-update-slice":
            return 2 * nbytes(self.instructions[instruction.operands[1]].shape)
        parameters = self._parameters(instruction)
        for i, operand in enumerate(instruction.operands):
            whole = nbytes(self.instructions[operand].shape)
            part = self._part(instruction, parameters[i]) if i in parameters else None
            total += whole if part is None else min(part, whole)
        return total

    def _parameters(self, fusion: Instruction) -> dict[int, str]:
        if fusion.opcode != "fusion" or fusion.called is None:
            return {}
        found = [inner for inner in self.computations[fusion.called] if inner.opcode == "parameter"]
        return {int(inner.operands[0]): inner.name for inner in found}

    def _part(self, fusion: Instruction, parameter: str) -> int | None:
        """Bytes of a fusion's parameter that its slices and gathers take; None where something reads it all."""
        assert fusion.called is not None
        total, names = 0, [parameter]
        while names:
            name = names.pop()
            for inner in self.computations[fusion.called]:
                if inner.opcode == "parameter" or name not in inner.operands:
                    continue
                if inner.opcode == "bitcast":
                    names.append(inner.name)
                elif inner.opcode not in ("slice", "dynamic-slice", "gather"):
                    return None
                elif inner.operands[0] == name:
                    total += nbytes(inner.shape)
                else:  # the places that it takes
                    total += nbytes(self.instructions[name].shape)
        return total

    def _dot_product(self, dot: Instruction) -> Product:
        lhs, rhs = (dims(self.instructions[name].shape) for name in dot.operands[:2])
        numbers = {key: _numbers(dot.attributes, rf"\b{key}=\{{([\d,]*)\}}") for key in _DOT}
        return _product(lhs, rhs, *numbers.values())

    def _cublas_product(self, call: Instruction) -> Product:
        lhs, rhs = (dims(self.instructions[name].shape) for name in call.operands[:2])
        numbers = [_numbers(call.attributes, rf'"{key}imensions":\[([\d,"]*)\]') for key in _CUBLAS]
        return _product(lhs, rhs, *numbers)


_DOT = ("lhs_contracting_dims", "rhs_contracting_dims", "lhs_batch_dims", "rhs_batch_dims")
_CUBLAS = ("lhs_contracting_d", "rhs_contracting_d", "lhs_batch_d", "rhs_batch_d")


def is_cublas(instruction: Instruction) -> bool:
    """Whether it is a matrix product that is left to NVIDIA's library."""
    return instruction.opcode == "custom-call" and 'custom_call_target="__cublas' in instruction.attributes


def nbytes(shape: str) -> int:
    """Of an array, or of all in a tuple. KeyError at a type that is not known."""
    return sum(_BITS[kind] * math.prod(_split(sizes)) for kind, sizes in _ARRAY.findall(shape)) // 8


def dims(shape: str) -> list[int]:
    """The dimensions of the only or first array."""
    found = _ARRAY.search(shape)
    assert found is not None, shape
    return _split(found[2])


def _split(sizes: str) -> list[int]:
    return [int(size) for size in sizes.replace('"', "").split(",") if size]


def _numbers(text: str, pattern: str) -> list[int]:
    found = re.search(pattern, text)
    return _split(found[1]) if found else []


def _product(
    lhs: list[int], rhs: list[int], left: list[int], right: list[int], batch: list[int], other: list[int]
) -> Product:
    """Of operands of these sizes; then the places of what is contracted, and of the batch."""
    m = math.prod(size for i, size in enumerate(lhs) if i not in left + batch)
    n = math.prod(size for i, size in enumerate(rhs) if i not in right + other)
    return Product(math.prod(lhs[i] for i in batch), m, n, math.prod(lhs[i] for i in left))


def _read(name: str, text: str) -> Instruction:
    """The instruction from what follows its name and `=`."""
    end = _close(text, 0) + 1 if text.startswith("(") else text.index(" ")
    call = _CALL.match(text, end + 1)
    if call is None:
        raise ValueError(f"%{name}: no instruction in {text:.80}")
    start = call.end()
    stop = _close(text, start - 1)
    inside = text[start:stop]
    operands = (inside,) if call[1] == "parameter" else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, text[:end], call[1], operands, text[stop + 1 :])


def _close(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i
    raise ValueError(f"a parenthesis that stays open: {text:.80}")


#: What a TPU computes of a product of float32 at what it is asked for: passes of bfloat16.
_TPU = {"default": "bf16", "high": "bf16x3", "highest": "bf16x6"}


def tpu_precision(text: str) -> dict[str, int]:
    """{precision: products that a TPU's program asks for it}, bodies of loops once. Integers are left out."""
    program, counts = Program(text), dict[str, int]()
    for instruction in program.instructions.values():
        if instruction.opcode not in ("dot", "convolution") or not instruction.shape.startswith(("f32", "bf16")):
            continue
        algorithm = re.search(r"\balgorithm=dot_(\w+)", instruction.attributes)
        asked = re.search(r"\boperand_precision=\{(\w+)", instruction.attributes)
        name = algorithm[1] if algorithm else _TPU[asked[1] if asked else "default"]
        counts[name] = counts.get(name, 0) + 1
    return counts
