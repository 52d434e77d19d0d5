"""robosuite 1.5.1 beside the project's MuJoCo: imported quietly, and mended where MuJoCo has changed since.

The v15 files were made with robosuite 1.5.1, which runs as it is up to MuJoCo 3.9. `mend` looks at what MuJoCo offers,
not at its version, and replaces only what would fail; `MENDED` says what.
"""

import logging
import os
import types
from typing import Any

import numpy as np

from envs.graphics import import_package
from envs.robomimic.install import require

MENDED: dict[str, str] = {}  # what of robosuite was replaced: why


def import_robosuite() -> Any:
    """The package, mended. UserError if it is not installed.

    Importing it sets MUJOCO_GL, which child processes would inherit, and logs what is missing of parts not used here.
    """
    require()
    import_package("mujoco", "MUJOCO_GL")
    before = os.environ.get("MUJOCO_GL")
    logger = logging.getLogger("robosuite_logs")
    logger.addFilter(_errors_only)
    try:
        import robosuite  # pyright: ignore[reportMissingImports]
    finally:
        if before is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = before
        logger.removeFilter(_errors_only)
    mend()
    return robosuite


def _errors_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def mend() -> None:
    """Replace what fails with the installed MuJoCo; a second call changes nothing."""
    import mujoco
    from robosuite.controllers.parts import controller  # pyright: ignore[reportMissingImports]
    from robosuite.utils.binding_utils import MjData, MjModel  # pyright: ignore[reportMissingImports]

    if mujoco.mjtJoint.mjJNT_HINGE != np.int32(mujoco.mjtJoint.mjJNT_HINGE) and "joint addresses" not in MENDED:
        MjModel.get_joint_qpos_addr = _joint_address("jnt_qposadr", free=7, ball=4)
        MjModel.get_joint_qvel_addr = _joint_address("jnt_dofadr", free=6, ball=3)
        MENDED["joint addresses"] = "MuJoCo's enumerations no longer equal numpy's integers"
    if "MjData" in (mujoco.mj_fullM.__doc__ or "") and "mass matrix" not in MENDED:
        controller.mujoco = _WithMassMatrix(mujoco)
        MjData.qM = property(lambda data: data._data)  # what the controllers read and hand to mj_fullM
        MENDED["mass matrix"] = "mj_fullM takes MjData instead of its sparse mass matrix, which later was removed"


def _joint_address(table: str, *, free: int, ball: int) -> Any:
    """A method of robosuite's MjModel: the address of a joint, or (begin, end) where it has several coordinates."""

    def address(self: Any, name: str) -> Any:
        import mujoco

        joint = self.joint_name2id(name)
        begin = getattr(self, table)[joint]
        sizes = {int(mujoco.mjtJoint.mjJNT_FREE): free, int(mujoco.mjtJoint.mjJNT_BALL): ball}
        size = sizes.get(int(self.jnt_type[joint]), 1)
        return begin if size == 1 else (begin, begin + size)

    return address


class _WithMassMatrix(types.ModuleType):
    """MuJoCo's module as robosuite's controllers know it: mj_fullM(model, dense, data.qM)."""

    def __init__(self, mujoco: types.ModuleType):
        super().__init__(mujoco.__name__)
        self._mujoco = mujoco

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mujoco, name)

    def mj_fullM(self, model: Any, dense: np.ndarray, data: Any) -> None:
        """dense: (nv, nv), filled; data: MuJoCo's own, which robosuite reads as its qM."""
        self._mujoco.mj_fullM(model, data, dense)
