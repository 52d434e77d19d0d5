"""Packages that look for a library for pictures when they are imported. Imports no JAX."""

import importlib
import os

from trqam_jax.errors import UserError


def import_package(name: str, variable: str) -> None:
    """UserError if the package cannot be imported with the library that the variable of the environment names: it
    may look for that even where nothing is drawn."""
    try:
        importlib.import_module(name)
    except Exception as error:  # what a missing graphics library raises is anybody's guess
        value = os.environ.get(variable, "")
        if not value or getattr(error, "name", None) == name:  # another reason; it is not installed
            raise
        raise UserError(
            f"{variable}={value}: {name} cannot be imported with it ({type(error).__name__}: {error!s:.200}); expected "
            "egl, osmesa or glfw, with its library installed, or unset it where no videos are written"
        ) from error
