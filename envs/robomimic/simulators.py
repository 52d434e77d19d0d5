"""Robomimic's three tasks in robosuite: made as its v15 files say, reset by a seed, set to recorded states.

Imports no JAX, and robosuite only when a simulator is made.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.base import Domain, StepResult
from envs.robomimic.domains import ENV_NAMES, OBSERVATION_KEYS
from envs.robomimic.robosuite_mends import import_robosuite
from trqam_jax.errors import UserError

CAMERA = "agentview"
PICTURE_SIZE = 256  # pixels, height and width

#: robosuite's OSC_POSE as v15 files have it: an action of 1 asks for 5 cm or 0.5 rad, in the world's frame.
ARM_CONTROLLER: Mapping[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "input_type": "delta",
    "input_ref_frame": "world",
    "interpolation": None,
    "ramp_ratio": 0.2,
    "gripper": {"type": "GRIP"},
}


def env_args(domain: Domain) -> dict[str, Any]:
    """What a file's attribute env_args says of the environment, in robomimic's form."""
    kwargs = {
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "ignore_done": True,
        "use_object_obs": True,
        "use_camera_obs": False,
        "control_freq": 20,
        "controller_configs": {"type": "BASIC", "body_parts": {"right": dict(ARM_CONTROLLER)}},
        "robots": ["Panda"],
        "camera_depths": False,
        "camera_heights": 84,
        "camera_widths": 84,
        "reward_shaping": False,
        "lite_physics": False,
    }
    return {"env_name": ENV_NAMES[domain.name], "env_version": "1.5.1", "type": 1, "env_kwargs": kwargs}


def make(domain: Domain, *, render: bool = False) -> Any:
    """robosuite's environment of the domain; render: able to render without a screen."""
    made = env_args(domain)
    robosuite = import_robosuite()
    return robosuite.make(made["env_name"], **(made["env_kwargs"] | {"has_offscreen_renderer": render}))


class RobomimicSimulator:
    """One task with its time limit; fulfils `envs.base.Simulator`.

    env: robosuite's environment inside; observations: {key: array}, what the last reset or step showed. A reward is -1,
    and 0 in the step that solves the task, which ends the episode.
    """

    def __init__(self, domain: Domain, task: int, *, render: bool = False):
        self._limit = domain.episode_limit
        try:
            self.env = make(domain, render=render)
        except Exception as error:  # what a missing graphics library raises is anybody's guess
            if not render or isinstance(error, UserError):
                raise
            raise _not_rendered(error) from error

    def reset(self, seed: int) -> np.ndarray:
        """robosuite 1.5.1 draws from numpy's global generator."""
        np.random.seed(seed % 2**32)  # noqa: NPY002
        self.env.reset()
        return self._start()

    def set_state(self, model_xml: str, state: np.ndarray) -> np.ndarray:
        """Start an episode in a recorded state (S,) of a recorded model; its observation (O,)."""
        self.env.reset()
        self.env.reset_from_xml_string(self.env.edit_model_xml(model_xml))
        self.env.sim.reset()
        self.env.sim.set_state_from_flattened(state)
        self.env.sim.forward()
        controllers_at_rest(self.env)
        return self._start()

    def _start(self) -> np.ndarray:
        """Observe what there is.

        The object's place in the gripper's frame is made of values seen before, of which there are none after a reset
        and wrong ones after a state was set: hence two looks. Each moves the sensors' clocks on, by which `step` would
        then show the state some milliseconds before its end.
        """
        self._steps = 0
        self.env._get_observations(force_update=True)
        for sensor in self.env._observables.values():
            sensor.reset()
        self.observations = named(self.env._get_observations(force_update=True))
        return flat(self.observations)

    def step(self, action: np.ndarray) -> StepResult:
        self.observations = named(self.env.step(action)[0])
        self._steps += 1
        success = self.solved()
        return StepResult(flat(self.observations), float(success) - 1, success, self._steps == self._limit, success)

    def solved(self) -> bool:
        """robosuite's own check of the present state."""
        return bool(self.env._check_success())

    def render(self) -> np.ndarray:
        try:
            picture = self.env.sim.render(height=PICTURE_SIZE, width=PICTURE_SIZE, camera_name=CAMERA)
        except Exception as error:  # as above: some libraries are missed only now
            raise _not_rendered(error) from error
        return picture[::-1]

    def close(self) -> None:
        self.env.close()


def controllers_at_rest(env: Any) -> None:
    """Let the controllers take the present state, which was set, for the start.

    Else their first goal and their posture are those of the random start that robosuite's reset drew, a centimetre off.
    """
    for controller in env.robots[0].composite_controller.part_controllers.values():
        controller.update_initial_joints(env.sim.data.qpos[controller.qpos_index])


def named(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """robosuite's observations under robomimic's keys."""
    return {key: found["object-state" if key == "object" else key] for key in OBSERVATION_KEYS}


def flat(observations: Mapping[str, np.ndarray]) -> np.ndarray:
    """(O,) float32, the keys one after the other."""
    return np.concatenate([observations[key] for key in OBSERVATION_KEYS]).astype(np.float32)


def _not_rendered(error: Exception) -> UserError:
    return UserError(
        f"videos: nothing can be rendered here ({type(error).__name__}: {error}); install EGL or OSMesa and set "
        "MUJOCO_GL=egl or osmesa, or leave the videos out"
    )
