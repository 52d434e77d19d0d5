"""OGBench's simulators: made quietly, reset by a seed, and rendered where that is possible. Imports no JAX."""

import os
import warnings
from typing import Any

import numpy as np

from envs.base import Domain, StepResult
from envs.ogbench.domains import env_id
from trqam_jax.errors import UserError


def make(name: str, **options: Any) -> Any:
    """gymnasium.make with OGBench's environments registered, without the packages' remarks about displays and spaces.

    A maze leaves a temporary file at every construction: keep the simulator and reset it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw's, about a missing display
        import gymnasium
        import ogbench  # noqa: F401  (registers the environments)

        gymnasium.logger.min_level = max(gymnasium.logger.min_level, gymnasium.logger.ERROR)
        return gymnasium.make(name, disable_env_checker=True, **options)


class OGBenchSimulator:
    """One task with its time limit; fulfils `envs.base.Simulator`. env: the gymnasium environment inside."""

    def __init__(self, domain: Domain, task: int, *, render: bool = False):
        name, limit = env_id(domain, task), domain.episode_limit
        if not render:
            self.env = make(name, max_episode_steps=limit)
            return
        if "DISPLAY" not in os.environ:
            os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
        try:
            self.env = make(name, max_episode_steps=limit, render_mode="rgb_array")
        except Exception as error:  # what a missing graphics library raises is anybody's guess
            raise _not_rendered(error) from error

    def set_task(self, task: int) -> None:
        """Let the next reset start another task of the same domain; a new simulator would take about a second."""
        self.env.unwrapped._reward_task_id = task

    def reset(self, seed: int) -> np.ndarray:
        """Mazes use numpy's global generator and random steps in reset, so both are seeded."""
        np.random.seed(seed % 2**32)  # noqa: NPY002
        self.env.unwrapped.action_space.seed(seed)
        observation, _ = self.env.reset(seed=seed)
        return observation

    def step(self, action: np.ndarray) -> StepResult:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return StepResult(observation, reward, terminated, truncated, bool(info["success"]))

    def render(self) -> np.ndarray:
        try:
            return self.env.render()
        except Exception as error:  # as above: some libraries are missed only now
            raise _not_rendered(error) from error

    def close(self) -> None:
        self.env.close()


def _not_rendered(error: Exception) -> UserError:
    return UserError(
        f"videos: nothing can be rendered here ({type(error).__name__}: {error}); install EGL or OSMesa and set "
        "MUJOCO_GL=egl or osmesa, or leave the videos out"
    )
