"""Simulators of one process on one compiled model, which is most of what a simulator takes. Imports no simulator."""

import copy
from typing import Any

import numpy as np

#: All that OGBench's environments write to a compiled model after its construction: what locks a drawer and a window,
#: where goals are shown, and colours.
WRITTEN = ("dof_damping", "geom_pos", "geom_rgba", "mat_rgba", "site_pos")

#: Attributes that hold what draws an environment. Each one makes its own, at the first picture.
RENDERERS = ("_renderer", "custom_renderer")


class Turns:
    """Whose turn it is with a compiled model: what one simulator has written there is put away for the next one."""

    def __init__(self, model: Any):
        self._arrays = [getattr(model, name) for name in WRITTEN]
        self.present = self.values()  # whose values the model has; they are up to date only when another's are there

    def values(self) -> list[np.ndarray]:
        """A copy of what is written now."""
        return [array.copy() for array in self._arrays]

    def take(self, own: list[np.ndarray]) -> None:
        """Let the model have a simulator's own values."""
        if own is self.present:
            return
        for array, put_away, wanted in zip(self._arrays, self.present, own, strict=True):
            put_away[:] = array
            array[:] = wanted
        self.present = own


def model_of(env: Any) -> Any:
    """The compiled model of a gymnasium environment of OGBench that has been reset."""
    inner = env.unwrapped
    return inner._model if hasattr(inner, "_model") else inner.model


def forget_assets() -> None:
    """Free what MuJoCo keeps of meshes and textures for further compilations in the process, 70 MiB."""
    import mujoco

    if hasattr(mujoco, "mj_clearCache"):  # older ones keep it out of Python's reach
        mujoco.mj_clearCache(mujoco.mj_getCache())


def copied(env: Any) -> Any:
    """The environment with its wrappers on the same compiled models, with simulation data and all else of its own.

    It must be reset before it plays.
    """
    inner = env.unwrapped
    other = object.__new__(type(inner))  # copy.copy would construct a maze anew
    memo: dict[int, Any] = {id(inner): other, **_fresh_data(inner)}
    state = vars(inner).copy()
    state.update(dict.fromkeys(state.keys() & set(RENDERERS)))
    memo.update({id(value): value for value in state.values() if _is_description(value)})
    vars(other).update(copy.deepcopy(state, memo))
    return copy.deepcopy(env, memo)


def _fresh_data(inner: Any) -> dict[int, Any]:
    """{id: what takes its place}: the compiled models themselves, and new data for each of their data."""
    import mujoco

    if hasattr(inner, "_ik"):  # a manipulation environment, with another model for the arm's inverse kinematics
        pairs = [(inner._model, inner._data), (inner._ik._model, inner._ik._data)]
    else:
        pairs = [(inner.model, inner.data)]
    models = {id(model): model for model, _ in pairs}
    return models | {id(data): mujoco.MjData(model) for model, data in pairs}


def _is_description(value: Any) -> bool:
    """Whether it is a part of dm_control's description of the model, or nested lists of parts; used to compile it."""
    while isinstance(value, list) and value:
        value = value[0]
    return type(value).__module__.startswith("dm_control.")
