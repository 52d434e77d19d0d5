"""A simulator's package under a MUJOCO_GL that this machine has no library for."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CODE = """
import sys
from trqam_jax.errors import UserError
from envs.graphics import import_package
try:
    import_package("mujoco", "MUJOCO_GL")
except UserError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("name", ["nonsense", ""])
def test_a_library_for_pictures_that_is_not_here_is_named(name):
    environment = {**os.environ, "MUJOCO_GL": name}
    command = [sys.executable, "-c", CODE]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if name:
        assert found.stderr.startswith("MUJOCO_GL=nonsense: mujoco cannot be imported with it (RuntimeError: ")
        assert "unset it where no videos are written" in found.stderr
    assert found.returncode == bool(name)
