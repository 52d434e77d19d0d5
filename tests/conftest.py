"""Compile quickly, for tests compile much and compute little; check shapes; leave the user's folders alone."""

import atexit
import os
import shutil
import tempfile

import pytest
from jaxtyping import install_import_hook
from shape_checks import MODULES

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Before any of these is imported: shapes and types are checked in the tests, and only there.
install_import_hook(MODULES, "shape_checks.check")


def own_cache_folders() -> None:
    """Caches of this test run, shared by its processes and removed with it."""
    folder = tempfile.mkdtemp(prefix="trqam_jax-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = folder
    os.environ["MPLCONFIGDIR"] = os.path.join(folder, "matplotlib")


if "PYTEST_XDIST_WORKER" not in os.environ:  # those have their parent's
    own_cache_folders()


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """A process may map so many pieces of memory, and every compiled program takes some: a file keeps only its own."""
    yield
    import jax

    jax.clear_caches()
