"""In which precision a compiled program computes its matrix products, read off its text.

    python -m benchmarks.products --devices=h100,v5e,cpu --agents=trqam --csv=products.csv

compiles one update of two replicas in every mode of the setting `precision`, for devices that need not be here
(benchmarks.targets says which packages that takes), and says in XLA's words how it multiplies: see `precisions`.
"""

import collections
import csv
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags

import agents
from benchmarks import targets
from experiments.settings import PRECISIONS
from trqam_jax import console
from trqam_jax.agent_config import AgentConfig
from trqam_jax.backend import matmul_precision
from trqam_jax.types import Batch, Spec

REPLICAS, BATCH = 2, 64
SPEC = Spec(observation_dim=40, action_dim=5, horizon=5)

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(?P<name>\S+) = (?P<type>\(.*?\)|\S+) (?P<op>[a-z][\w-]*)\((?P<rest>.*)$")
_ELEMENT = re.compile(r"\b(f64|f32|f16|bf16|u32|s32|f8\w*)\[")
_OPERANDS = re.compile(r"%([\w.-]+)")
_ALGORITHM = re.compile(r"\balgorithm=dot_(\w+)|\"algorithm\":\"ALG_DOT_(\w+)\"")
_PRECISION = re.compile(r"operand_precision(?:=\{|\":\[)\"?(\w+)")
_LIBRARIES = re.compile(r'custom_call_target="[^"]*(?:cublas|gemm|matmul|cudnn\$conv)', re.IGNORECASE)
_PRODUCT = re.compile(r'op_name="[^"]*(?:dot_general|conv_general_dilated)"')
#: What carries numbers on and does not compute; `and` masks the bits that TF32 does not have.
_CARRIERS = {"broadcast", "bitcast", "bitcast-convert", "convert", "transpose", "reshape", "copy", "and", "parameter"}
_HALVES = {"bf16": "bf16_bf16_f32", "f16": "f16_f16_f32"}


class _Instruction(NamedTuple):
    elements: tuple[str, ...]  # types of the elements of its results
    op: str
    operands: tuple[str, ...]
    line: str


def precisions(text: str) -> dict[str, int]:
    """{precision: how many products}, of a compiled program's text; bodies of loops count once.

    A product that has an instruction of its own, XLA's or a library's call, goes by its dot algorithm
    ("tf32_tf32_f32", "bf16_bf16_f32", "bf16_bf16_f32_x3", ...), else by the precision asked for ("default", "high",
    "highest"), unless its operands are rounded before it: "bf16_bf16_f32". One with a vector becomes products of
    numbers and a sum, which may be part of any kernel: "elementwise_f32", "elementwise_tf32" or "elementwise_bf16",
    by its operands.
    """
    program = _parse(text)
    found = collections.Counter(filter(None, (_precision(one, program) for one in program.values())))
    return dict(sorted(found.items()))


def _parse(text: str) -> dict[str, _Instruction]:
    """{name: instruction}, of all computations."""
    program = {}
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match is not None:
            operands = match["rest"].split(")")[0]
            elements = tuple(_ELEMENT.findall(match["type"]))
            program[match["name"]] = _Instruction(elements, match["op"], tuple(_OPERANDS.findall(operands)), line)
    return program


def _precision(one: _Instruction, program: dict[str, _Instruction]) -> str | None:
    """None of what is no product."""
    if one.op in ("dot", "convolution") or (one.op == "custom-call" and _LIBRARIES.search(one.line)):
        return _of_product(one, program)
    if one.op == "reduce" and _PRODUCT.search(one.line):
        return _of_terms(one.operands[0], program)
    return None


def _of_product(one: _Instruction, program: dict[str, _Instruction]) -> str:
    algorithm = _ALGORITHM.search(one.line)
    if algorithm is not None:
        return (algorithm[1] or algorithm[2]).lower()
    operands = [element for name in one.operands[:2] if name in program for element in program[name].elements[:1]]
    if operands and operands[0] in _HALVES and "f32" in one.elements:
        return _HALVES[operands[0]]
    asked = _PRECISION.search(one.line)
    return asked[1].lower() if asked is not None else "default"


def _of_terms(name: str, program: dict[str, _Instruction]) -> str | None:
    """Of a sum, by the name of what is summed; None if that are no products of numbers but parts of a product."""
    product = next((one for one in _carried(name, program) if one.op == "multiply"), None)
    if product is None:
        return None
    operands = [one for operand in product.operands for one in _carried(operand, program)]
    if "bf16" in product.elements or any("bf16" in one.elements for one in operands):
        return "elementwise_bf16"
    masked = any(one.op == "and" or "u32" in one.elements for one in operands)
    return "elementwise_tf32" if masked else "elementwise_f32"


def _carried(name: str, program: dict[str, _Instruction]) -> Iterator[_Instruction]:
    """The instruction of this name, and before it those whose numbers it carries on."""
    if name in program:
        one = program[name]
        yield one
        if one.op in _CARRIERS:
            for operand in one.operands:
                yield from _carried(operand, program)


def update_of(agent: str) -> tuple[Any, Any]:
    """One update of two replicas with small networks, and the shapes of its arguments."""
    sizes = {"hidden_dims": (256, 256), "num_critics": 4}
    declared = agents.settings(agent)
    config = AgentConfig.create(declared, {name: size for name, size in sizes.items() if name in declared})
    agent_class: Any = agents.AGENTS[agent]

    def arguments() -> Any:
        keys, rows = jax.random.split(jax.random.key(0), REPLICAS), jnp.zeros((REPLICAS, BATCH))
        states = jnp.zeros((REPLICAS, BATCH, SPEC.observation_dim))
        in_episode = jnp.ones((REPLICAS, BATCH, SPEC.horizon))
        actions = jnp.zeros((REPLICAS, BATCH, SPEC.horizon, SPEC.action_dim))
        replicas = jax.vmap(lambda key: agent_class.create(key, SPEC, config))(keys)
        return replicas, Batch(states, actions, rows, rows, in_episode, states), keys

    return jax.vmap(lambda agent, batch, key: agent.update(batch, key)), jax.eval_shape(arguments)


def compiled(device: str, agent: str, mode: str) -> dict[str, int]:
    """The precisions of an agent's update on a device in a mode."""
    function, arguments = update_of(agent)
    with targets.compiling(device) as sharding, matmul_precision(mode):
        program = jax.jit(function).lower(*targets.on(sharding, arguments)).compile()
    return precisions(program.as_text() or "")


def main(_: list[str]) -> None:
    rows = []
    for device in FLAGS.devices:
        for agent in FLAGS.agents:
            for mode in PRECISIONS:
                found = compiled(device, agent, mode)
                rows += [(device, agent, mode, precision, count) for precision, count in found.items()]
                words = ", ".join(f"{count} {precision}" for precision, count in found.items())
                print(f"{device} {agent} {mode}: {words}", flush=True)
    if FLAGS.csv:
        with pathlib.Path(FLAGS.csv).open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("device", "agent", "precision", "products", "count"))
            writer.writerows(rows)


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_list("devices", ["h100", "v5e", "cpu"], "Devices to compile for.")
    flags.DEFINE_list("agents", ["trqam"], "Methods.")
    flags.DEFINE_string("csv", "", "Where the rows are written.")
    app.run(main)
