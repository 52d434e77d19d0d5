"""What a GPU does for one update of a compiled program, from the files that XLA leaves of it: kernels by class,
launches, waits for the host, matrix products, bytes."""

import collections
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.hlo import Instruction, Product, Program, is_cublas

#: What becomes a kernel, a copy or a call of a library.
_LAUNCHED = {
    "kCustomKernel", "kKernel", "kCublasLtMatmul", "kGemm", "kCopy", "kDeviceToDeviceCopy", "kMemset32BitValue",
    "kMemzero", "kCustomCall", "kDynamicSliceFusion", "kCubSort",
}  # fmt: skip
_THUNK = re.compile(r"^( *)(\d+): (k\w+)\s+(?:\[[^\]]*\])?\s*(.*)$")
_GRID = re.compile(r"grid: \[(\d+), (\d+), (\d+)\]")
_MOVES = {
    "parameter", "constant", "bitcast", "copy", "copy-start", "transpose", "slice", "concatenate", "broadcast",
    "reshape", "tuple", "pad",
}  # fmt: skip
_RANDOM = re.compile(r"\bjit_(?:normal|uniform|randint|gumbel|truncated_normal)\b|threefry|random_bits")
#: What transformations that change no mathematics add to JAX's name of an operation, and the parentheses of all.
_WRAPPERS = re.compile(r"\bvmap\b|\b(?:closed_call|checkpoint|remat)/|[()]")
_BODY = re.compile(r"^jitrun_updates/while/body/+")


@dataclasses.dataclass
class Thunk:
    """A step of a program as its runtime has it, and what belongs to it: a loop's body, what a graph holds."""

    number: int
    kind: str
    kernel: str  # the compiled function's name
    blocks: int  # of its grid; 0 where it is no kernel of XLA's
    body: list["Thunk"] = dataclasses.field(default_factory=list)
    condition: list["Thunk"] = dataclasses.field(default_factory=list)  # a loop's


class Launch(NamedTuple):
    """A kernel, a copy or a library's call, and how often an update makes it."""

    name: str  # of the instruction
    kernel: str
    blocks: int
    times: int
    in_graph: bool


class Launches(NamedTuple):
    """What runs for one update, and beside updates once a dispatch."""

    kernels: list[Launch]  # of an update
    graphs: int  # launches of graphs, an update
    host_syncs: int  # waits of the host for a value, an update
    outside: int  # launches of graphs and loose kernels, a dispatch


class Account(NamedTuple):
    """One update of all replicas, in numbers."""

    classes: dict[str, int]  # kernels by class
    class_bytes: dict[str, int]
    products: dict[tuple[Product, str], int]  # with their precision
    one_block: int  # kernels of a single block
    graphs: int
    loose: int
    host_syncs: int
    outside: int


CLASSES = (
    "gemm", "reduction", "gradient_norm", "activation", "layer_norm", "state", "random", "gather", "copy", "other",
)  # fmt: skip


def read_thunks(listing: str) -> list[Thunk]:
    """The steps of XLA's listing. ValueError at a line that is none."""
    top: list[Thunk] = []
    parents: list[tuple[int, Thunk]] = []
    last: Thunk | None = None
    loops: list[Thunk] = []
    in_condition: set[int] = set()
    for line in listing.splitlines():
        text = line.strip()
        if not text:
            continue
        if text == "condition:":
            assert last is not None
            loops.append(last)
            in_condition.add(id(last))
            continue
        if text == "body:":
            in_condition.discard(id(loops.pop()))
            continue
        found = _THUNK.match(line)
        if found is None:
            raise ValueError(f"no step of a program: {line!r:.200}")
        indent, number, kind, rest = len(found[1]), int(found[2]), found[3], found[4]
        grid = _GRID.search(rest)
        last = Thunk(number, kind, rest.split()[0] if rest else "", math.prod(map(int, grid.groups())) if grid else 0)
        while parents and parents[-1][0] >= indent:
            parents.pop()
        if parents:
            parent = parents[-1][1]
            (parent.condition if id(parent) in in_condition else parent.body).append(last)
        else:
            top.append(last)
        parents.append((indent, last))
    return top


def read_names(metadata: str) -> dict[int, str]:
    """{a step's number: its instruction}."""
    found = re.findall(r'profile_annotation: "([^"]*)"\s+thunk_id: (\d+)', metadata)
    return {int(number): name for name, number in found}


def launches(thunks: Sequence[Thunk], names: Mapping[int, str], program: Program) -> Launches:
    """What the loop over updates, which is the outermost one, launches. ValueError where the program has not one loop
    at its outermost, where a loop in it has no known length, or at a kind of step that is not known."""
    found: list[Launch] = []
    counts = collections.Counter()

    def walk(steps: Sequence[Thunk], times: int, *, in_graph: bool, in_update: bool) -> None:
        for step in steps:
            name = names.get(step.number, step.kernel)
            if step.kind == "kCommandBuffer":
                if not in_graph:
                    counts["graphs" if in_update else "outside"] += times
                walk(step.body, times, in_graph=True, in_update=in_update)
            elif step.kind == "kSequential":
                walk(step.body, times, in_graph=in_graph, in_update=in_update)
            elif step.kind == "kWhile":
                length = program.instructions[name].trip_count
                if not in_update:
                    counts["loops"] += 1
                elif length is None:
                    raise ValueError(f"{name}: a loop inside an update whose length XLA does not know")
                if length is None:
                    counts["syncs"] += not in_graph
                    walk(step.condition, 1, in_graph=in_graph, in_update=True)
                walk(step.body, times * length if in_update and length else 1, in_graph=in_graph, in_update=True)
            elif step.kind not in _LAUNCHED:
                raise ValueError(f"{step.kind}: a kind of step whose launches are not known ({name})")
            elif in_update:
                found.append(Launch(name, step.kernel, step.blocks, times, in_graph))
            else:
                counts["outside"] += times * (not in_graph)

    walk(thunks, 1, in_graph=False, in_update=False)
    if counts["loops"] != 1:
        raise ValueError(
            f"{counts['loops']} loops at the outermost of the program, where one, over updates, was expected"
        )
    return Launches(found, counts["graphs"], counts["syncs"], counts["outside"])


def classify(instruction: Instruction, program: Program) -> str:
    """One of `CLASSES`; the first that fits, in this order:

    gemm: a matrix product. copy: arrays copied, cut, joined, transposed or filled. random: random bits, and what
    becomes of them in the same kernel. state: the choice between old and new state, with Adam and averages before it.
    activation: bias and GELU, or their gradient, by the tanh, with the sums of a product that is split. gradient_norm:
    sums of no function that is differentiated, as the squares for the gradients' norm. reduction: any other sum or
    maximum. layer_norm: what is left of layer norms. gather: rows of the data or of a loop's inputs. other: all else.
    """
    if program.products(instruction):
        return "gemm"
    inner = list(program.within(instruction))
    codes, paths = {one.opcode for one in inner}, {_path(one) for one in inner}
    if codes <= _MOVES:
        return "copy"
    if any(_RANDOM.search(path) for path in paths):
        return "random"
    if "jit_where/select_n" in paths:
        return "state"
    if "tanh" in codes:
        return "activation"
    if "reduce" in codes:
        sums = {_path(one) for one in inner if one.opcode == "reduce"}
        return "gradient_norm" if "reduce_sum" in sums or "square" in paths else "reduction"
    if any("LayerNorm_" in path for path in paths):
        return "layer_norm"
    if codes & {"gather", "dynamic-slice"}:
        return "gather"
    return "other"


def _path(instruction: Instruction) -> str:
    """JAX's name for it within the loop over updates, the same for one replica and for several: "jit_where/select_n"
    for what is called "jit(run_updates)/while/body/vmap(jit(_where))/select_n"."""
    return _BODY.sub("", _WRAPPERS.sub("", instruction.op_name))


def precision(instruction: Instruction, program: Program, code: str | None) -> str:
    """Of a matrix product, from the code of its kernel (PTX): what the tensor cores are given, or f32 without them. Of
    cuBLAS, which has no code here, from what it is asked for."""
    if is_cublas(instruction):
        return _cublas_precision(instruction.attributes)
    if code is None:
        raise ValueError(f"{instruction.name}: XLA left no code of this product's kernel")
    kinds = {
        kind for line in re.findall(r"\bw?g?mma\S*", code) for kind in re.findall(r"\.(tf32|bf16|f16|e4m3)\b", line)
    }
    if len(kinds) > 1:
        return "+".join(sorted(kinds))
    passes = {
        found[1] for one in program.within(instruction) if (found := re.search(r"algorithm=\w+_(x\d)", one.attributes))
    }
    return "".join([*(kinds or {"f32"}), *sorted(passes)])


def _cublas_precision(config: str) -> str:
    algorithm = re.search(r'"algorithm":"(\w+)"', config)
    if algorithm and algorithm[1] != "ALG_UNSET":
        return algorithm[1].removeprefix("ALG_DOT_").lower()
    asked = re.search(r'"operand_precision":\["(\w+)"', config)
    names = {"DEFAULT": "tf32", "HIGH": "f32", "HIGHEST": "f32"}
    return names[asked[1]] if asked else "tf32"


def read_kernels(codes: Iterator[str] | Sequence[str]) -> dict[str, str]:
    """{a kernel: its code} of files of PTX."""
    return {name: code for code in codes for name in re.findall(r"\.entry (\w+)\(", code)}


def account(thunks: Sequence[Thunk], names: Mapping[int, str], program: Program, codes: Mapping[str, str]) -> Account:
    """One update of all replicas."""
    made = launches(thunks, names, program)
    classes, class_bytes, products = collections.Counter(), collections.Counter(), collections.Counter()
    one_block = loose = 0
    for launch in made.kernels:
        instruction = program.instructions.get(launch.name)
        kind = classify(instruction, program) if instruction else "copy"
        classes[kind] += launch.times
        one_block += launch.times * (launch.blocks == 1)
        loose += launch.times * (not launch.in_graph)
        if instruction is None:
            continue
        class_bytes[kind] += launch.times * program.touched(launch.name)
        for product in program.products(instruction):
            products[product, precision(instruction, program, codes.get(launch.kernel))] += launch.times
    return Account(
        {name: classes[name] for name in CLASSES},
        {name: class_bytes[name] for name in CLASSES},
        dict(products),
        one_block,
        made.graphs,
        loose,
        made.host_syncs,
        made.outside,
    )


def read_folder(folder: pathlib.Path) -> tuple[list[Thunk], dict[int, str], Program, dict[str, str]]:
    """What XLA dumped of one program: what `account` takes."""

    def text(pattern: str) -> str:
        paths = list(folder.glob(pattern))
        if len(paths) != 1:
            raise ValueError(f"XLA left {len(paths)} files {pattern} in {folder}, where one was expected")
        return paths[0].read_text()

    listing = text("*.thunk_sequence_after_thunk_passes.txt")
    codes = [path.read_text() for path in folder.glob("*.ptx")]
    program = Program(text("*gpu_after_optimizations.txt"))
    return read_thunks(listing), read_names(text("*.thunk_metadata.txt")), program, read_kernels(codes)
