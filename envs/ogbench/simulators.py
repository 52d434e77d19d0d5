"""OGBench's simulators: made quietly, reset by a seed, and rendered where that is possible. Imports no JAX."""

import copy
import os
import warnings
from typing import Any, NamedTuple

import numpy as np

from envs.base import Domain, StepResult
from envs.graphics import import_package
from envs.ogbench import twins
from envs.ogbench.domains import env_id
from trqam_jax.errors import UserError


def make(name: str, **options: Any) -> Any:
    """gymnasium.make with OGBench's environments registered, without the packages' remarks about displays and spaces.

    A maze leaves a temporary file at every construction: keep the simulator and reset it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw's, about a missing display
        import_package("mujoco", "MUJOCO_GL")
        import gymnasium
        import ogbench  # noqa: F401  (registers the environments)

        gymnasium.logger.min_level = max(gymnasium.logger.min_level, gymnasium.logger.ERROR)
        return gymnasium.make(name, disable_env_checker=True, **options)


class OGBenchSimulator:
    """One task with its time limit; fulfils `envs.base.Simulator`.

    env: the gymnasium environment inside. Only this class's methods may play it while there are twins.
    """

    def __init__(self, domain: Domain, task: int, *, render: bool = False):
        self.env = _make_able_to_render(domain, task) if render else _make(domain, task)
        _keep_action_space(self.env)
        self.env.reset(seed=0)  # compiles the model of a manipulation task
        twins.forget_assets()
        model = twins.model_of(self.env)
        if render:
            # Without a GPU shadows and smooth edges take eight ninths of a picture's time; a film is clear without.
            model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        self._turns = twins.Turns(model)
        self._written = self._turns.present

    def twin(self, task: int) -> "OGBenchSimulator":
        """A simulator of any task of the same domain, on the same compiled model; see `envs.base.TwinFactory`."""
        self._turns.take(self._written)
        other = copy.copy(self)
        other.env = twins.copied(self.env)
        other._written = self._turns.values()
        other.set_task(task)
        return other

    def set_task(self, task: int) -> None:
        """Let the next reset start another task of the same domain; a new simulator would take about a second."""
        self.env.unwrapped._reward_task_id = task

    def reset(self, seed: int) -> np.ndarray:
        """Mazes use numpy's global generator and random steps in reset, so both are seeded."""
        self._turns.take(self._written)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        self.env.unwrapped.action_space.seed(seed)
        observation, _ = self.env.reset(seed=seed)
        return observation

    def step(self, action: np.ndarray) -> StepResult:
        self._turns.take(self._written)
        observation, reward, terminated, truncated, info = self.env.step(action)
        return StepResult(observation, reward, terminated, truncated, bool(info["success"]))

    def render(self) -> np.ndarray:
        self._turns.take(self._written)
        try:
            return self.env.render()
        except Exception as error:  # as above: some libraries are missed only now
            raise _not_rendered(error) from error

    def close(self) -> None:
        self.env.close()


class OGBenchFactory(NamedTuple):
    """Fulfils `envs.base.TwinFactory`."""

    domain: Domain
    task: int
    render: bool

    @property
    def kind(self) -> tuple[str, bool]:
        return self.domain.name, self.render

    def __call__(self) -> OGBenchSimulator:
        return OGBenchSimulator(self.domain, self.task, render=self.render)

    def twin(self, first: OGBenchSimulator) -> OGBenchSimulator:
        return first.twin(self.task)


def _make(domain: Domain, task: int, **options: Any) -> Any:
    return make(env_id(domain, task), max_episode_steps=domain.episode_limit, **options)


def _make_able_to_render(domain: Domain, task: int) -> Any:
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
    try:
        return _make(domain, task, render_mode="rgb_array")
    except Exception as error:  # what a missing graphics library raises is anybody's guess
        raise _not_rendered(error) from error


def _keep_action_space(env: Any) -> None:
    """Let a manipulation environment keep one action space, which `reset` can seed.

    The environments make a new one, with an unseeded generator, at every look. Their reset takes random steps to see
    the goal; what these leave behind, where the solver starts, shows in the last digits of the first steps.
    """
    inner = env.unwrapped
    if "action_space" not in vars(inner):
        kept = {"action_space": inner.action_space}
        inner.__class__ = type(type(inner).__name__, (type(inner),), kept)


def _not_rendered(error: Exception) -> UserError:
    return UserError(
        f"videos: nothing can be rendered here ({type(error).__name__}: {error}); install EGL or OSMesa and set "
        "MUJOCO_GL=egl or osmesa, or leave the videos out"
    )
