"""Whether the packages are there that this suite needs beside the project's own."""

import importlib.util

from trqam_jax.errors import UserError

#: {module: distribution}. Installed with --no-deps, robosuite does not bring the others that it imports.
NEEDED = {
    "robosuite": "robosuite",
    "h5py": "h5py",
    "numba": "numba",
    "termcolor": "termcolor",
    "cv2": "opencv-python-headless",
}
HOW = (
    "`make install ROBOMIMIC=1`, or with pip: `pip install numba termcolor opencv-python-headless h5py` and "
    "`pip install --no-deps robosuite==1.5.1`"
)


def require(*modules: str) -> None:
    """UserError that says what to install if one of these is missing; of NEEDED all, where none is named.

    Nothing is imported.
    """
    missing = [NEEDED[module] for module in modules or NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"Robomimic needs {', '.join(missing)}, not installed here: {HOW}")
