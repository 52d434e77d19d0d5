"""Marks of tests that take packages which not everybody has. Nothing is imported: that alone would change a process."""

import importlib.util

import pytest


def needs(*modules: str, how: str = "make install ROBOMIMIC=1") -> pytest.MarkDecorator:
    """Skip, with the reason, where one of these is missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: {how}")


#: The whole of what Robomimic's simulators and files take.
ROBOMIMIC = ("robosuite", "h5py", "numba", "termcolor", "cv2")
robosuite = needs(*ROBOMIMIC)
