"""Constructing simulators quietly, and how many processors there are for them. Imports no JAX."""

import os
import warnings
from typing import Any


def make(env_id: str, **kwargs: Any) -> Any:
    """gymnasium.make with OGBench's environments registered, without the packages' remarks about displays and spaces.

    A maze leaves a temporary file at every construction: keep the simulator and reset it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw's, about a missing display
        import gymnasium
        import ogbench  # noqa: F401  (registers the environments)

        gymnasium.logger.min_level = max(gymnasium.logger.min_level, gymnasium.logger.ERROR)
        return gymnasium.make(env_id, disable_env_checker=True, **kwargs)


def cpu_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
