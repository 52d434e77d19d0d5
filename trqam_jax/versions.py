"""Which versions a result was computed with."""

import importlib.metadata
import platform
from collections.abc import Iterable

import jax

import trqam_jax

#: Packages that every result may depend on.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """{name: version} of this library, Python, the platform, the devices, PACKAGES and the given packages."""
    device = jax.devices()[0]
    return {
        "trqam_jax": trqam_jax.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        **{name: importlib.metadata.version(name) for name in (*PACKAGES, *packages)},
    }
