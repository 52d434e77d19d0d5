"""Devices that programs are compiled for without having one.

An H100 needs the packages jax-cuda12-plugin and jax-cuda12-pjrt of jaxlib's version (without CUDA's own libraries), a
TPU needs libtpu, which ends the process at a flag in XLA_FLAGS that is a CPU's or a GPU's; JAX itself runs on the CPU.
"""

import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from trqam_jax import backend
from trqam_jax.errors import UserError

_DEVICES = pathlib.Path(__file__).parent / "devices"


class Target(NamedTuple):
    """A kind of device."""

    platform: str  # as `trqam_jax.backend.compiling_for` takes it
    package: str  # what brings its compiler
    module: str


TARGETS = {
    "h100": Target(
        "gpu", f"jax-cuda12-plugin=={jax.__version__} jax-cuda12-pjrt=={jax.__version__}", "jax_cuda12_plugin"
    ),
    "v5e": Target("tpu", "libtpu", "libtpu"),
    "cpu": Target("cpu", "", "jax"),
}


def is_there(name: str) -> bool:
    """Whether this environment has the target's compiler."""
    return importlib.util.find_spec(TARGETS[name].module) is not None


def check_is_there(name: str) -> None:
    """UserError where this environment lacks the target's compiler."""
    if not is_there(name):
        raise UserError(
            f"{name}: its compiler is not installed; pip install {TARGETS[name].package}, or `make kernels`, which "
            "makes an environment that has it"
        )


@contextlib.contextmanager
def compiling(name: str) -> Iterator[SingleDeviceSharding]:
    """Programs traced inside take the target's form; arguments with the sharding that is given are compiled for it."""
    check_is_there(name)
    with backend.compiling_for(TARGETS[name].platform):
        yield SingleDeviceSharding(_device(name))


def on(sharding: SingleDeviceSharding, tree: Any) -> Any:
    """The shapes and types of a tree of arrays, as arguments of a program for the target's device."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _device(name: str) -> Any:
    if name == "cpu":
        return jax.devices("cpu")[0]
    if name == "v5e":
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu asks the network which TPU it is on
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
    config = (_DEVICES / "h100_sxm.txtpb").read_text()
    return topologies.get_topology_desc(platform="cuda", target_config=config, topology="1x1x1").devices[0]
