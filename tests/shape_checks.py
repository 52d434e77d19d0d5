"""Shapes and types of the library's functions, checked whenever a test calls them."""

from beartype import beartype

_LIBRARY = (
    *("adjoint", "agent", "agent_config", "critic", "data", "diffusion", "entropy", "flow", "guidance", "networks"),
    *("replay", "sde", "stats", "streams", "train_state", "trust_region", "types"),
)
#: The modules whose functions are checked.
MODULES = ["agents", *(f"trqam_jax.{name}" for name in _LIBRARY)]


def check(function):
    """The function with its arguments and results checked. Pytrees are made of anything that JAX maps over them, so
    what makes them is left alone."""
    return function if function.__name__ == "__init__" else beartype(function)
