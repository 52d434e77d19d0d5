"""robosuite beside any MuJoCo: imported without a trace, mended where MuJoCo has changed and nowhere else."""

import enum
import os
import pathlib
import subprocess
import sys
import types

import needs
import numpy as np
import pytest

from envs.robomimic import install, robosuite_mends
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
OLD_DOC = "mj_fullM(m: MjModel, dst: numpy.ndarray[float64], M: numpy.ndarray[float64]) -> None"
NEW_DOC = "mj_fullM(m: MjModel, d: MjData, dst: numpy.ndarray[float64]) -> None"


class Unlike(enum.Enum):
    """Members that can be made integers, and do not equal them."""

    mjJNT_HINGE = 3

    def __int__(self):
        return self.value


class Alike(enum.IntEnum):
    mjJNT_HINGE = 3


def a_mujoco(joints, doc):
    """A module with what `mend` looks at."""

    def mj_fullM():
        raise AssertionError

    mj_fullM.__doc__ = doc
    module = types.ModuleType("mujoco")
    module.mjtJoint, module.mj_fullM = joints, mj_fullM
    return module


@pytest.fixture
def untouched(monkeypatch):
    """robosuite's classes and module as if nobody had mended them; their mends, to be looked at."""
    robosuite_mends.import_robosuite()
    from robosuite.controllers.parts import controller
    from robosuite.utils.binding_utils import MjData, MjModel

    monkeypatch.setattr(robosuite_mends, "MENDED", {})
    monkeypatch.setattr(MjModel, "get_joint_qpos_addr", "theirs")
    monkeypatch.setattr(MjModel, "get_joint_qvel_addr", "theirs")
    monkeypatch.setattr(MjData, "qM", "theirs", raising=False)
    monkeypatch.setattr(controller, "mujoco", "theirs")
    return lambda: {
        "joint addresses": (MjModel.get_joint_qpos_addr, MjModel.get_joint_qvel_addr) != ("theirs", "theirs"),
        "mass matrix": (MjData.qM, controller.mujoco) != ("theirs", "theirs"),
    }


@needs.robosuite
@pytest.mark.parametrize(
    ("joints", "doc", "mended"),
    [
        (Alike, OLD_DOC, set()),
        (Unlike, OLD_DOC, {"joint addresses"}),
        (Alike, NEW_DOC, {"mass matrix"}),
        (Unlike, NEW_DOC, {"joint addresses", "mass matrix"}),
    ],
    ids=["as it was", "joints", "mass", "both"],
)
def test_what_mujoco_offers_decides(untouched, monkeypatch, joints, doc, mended):
    monkeypatch.setitem(sys.modules, "mujoco", a_mujoco(joints, doc))
    robosuite_mends.mend()
    assert set(robosuite_mends.MENDED) == mended
    assert {name for name, changed in untouched().items() if changed} == mended


@needs.robosuite
def test_mending_twice_changes_nothing():
    robosuite_mends.import_robosuite()
    from robosuite.controllers.parts import controller
    from robosuite.utils.binding_utils import MjData, MjModel

    once = MjModel.get_joint_qpos_addr, MjModel.get_joint_qvel_addr, getattr(MjData, "qM", None), controller.mujoco
    robosuite_mends.mend()
    again = MjModel.get_joint_qpos_addr, MjModel.get_joint_qvel_addr, getattr(MjData, "qM", None), controller.mujoco
    assert all(a is b for a, b in zip(once, again, strict=True))


#: One joint of every kind, in this order.
JOINTS = """<mujoco><worldbody>
<body><joint name="hinge" type="hinge"/><geom size="1"/></body>
<body><freejoint name="free"/><geom size="1"/></body>
<body><joint name="ball" type="ball"/><geom size="1"/></body>
<body><joint name="slide" type="slide"/><geom size="1"/></body>
</worldbody></mujoco>"""


@needs.robosuite
def test_joint_addresses_and_mass_matrix_are_mujocos():
    robosuite_mends.import_robosuite()
    from robosuite.controllers.parts import controller
    from robosuite.utils.binding_utils import MjSim

    sim = MjSim.from_xml_string(JOINTS)
    positions = [sim.model.get_joint_qpos_addr(name) for name in ("hinge", "free", "ball", "slide")]
    velocities = [sim.model.get_joint_qvel_addr(name) for name in ("hinge", "free", "ball", "slide")]
    assert positions == [0, (1, 8), (8, 12), 12]
    assert velocities == [0, (1, 7), (7, 10), 10]

    sim.forward()
    mass = np.zeros((11, 11))
    controller.mujoco.mj_fullM(sim.model._model, mass, sim.data.qM)
    np.testing.assert_array_equal(mass, mass.T)
    assert (np.linalg.eigvalsh(mass) > 0).all()
    np.testing.assert_allclose(np.diag(mass)[1:4], mass[10, 10])  # the free body's mass, and the sliding one's


@needs.robosuite
@pytest.mark.parametrize("setting", [None, "glfw"])
def test_importing_changes_no_environment_and_says_nothing(setting):
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    environment |= {} if setting is None else {"MUJOCO_GL": setting}
    code = (
        "import logging, os\n"
        "from envs.robomimic.robosuite_mends import import_robosuite\n"
        "import_robosuite()\n"
        "print(os.environ.get('MUJOCO_GL'), logging.getLogger('robosuite_logs').filters)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{setting} []\n", "")


def test_what_is_missing_is_one_line_with_the_way_out(monkeypatch):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda module: None if module in ("cv2", "h5py") else 1)
    with pytest.raises(UserError) as error:
        install.require()
    assert str(error.value) == (
        "Robomimic needs h5py, opencv-python-headless, not installed here: `make install ROBOMIMIC=1`, or with pip: "
        "`pip install numba termcolor opencv-python-headless h5py` and `pip install --no-deps robosuite==1.5.1`"
    )
    install.require("numba")
    with pytest.raises(UserError, match="needs h5py, not"):
        install.require("h5py")


def test_tests_are_skipped_without_any_of_them():
    assert set(needs.ROBOMIMIC) == set(install.NEEDED)


def test_the_way_out_is_what_make_installs():
    """Of the same packages, and robosuite in the same version."""
    lock = (ROOT / "requirements-robomimic.txt").read_text().splitlines()
    pins = dict(line.split()[0].split("==") for line in lock if "==" in line)
    named = {word for word in install.HOW.replace("`", " ").split() if word.partition("==")[0] in pins}
    assert {name.partition("==")[0] for name in named} == set(install.NEEDED.values())
    assert f"robosuite=={pins['robosuite']}" in named
    assert set(pins) - set(install.NEEDED.values()) == {"llvmlite"}  # of numba
