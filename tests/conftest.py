"""Compile quickly, for tests compile much and compute little; check shapes; leave the user's folders alone."""

import atexit
import os
import pathlib
import shutil
import tempfile

import pytest
from jaxtyping import install_import_hook
from shape_checks import MODULES

ROOT = pathlib.Path(__file__).parent

# No optimisation, and the older fusions, which compile in two thirds of the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

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


#: Files that take many seconds: `make check` leaves them out, and `make test` begins with them, so that no process is
#: left with one when the others are done.
SLOW = (
    "experiments/analysis/test_compare.py",
    "trqam_jax/test_update_loop.py",
    "trqam_jax/test_replicas.py",
    "trqam_jax/test_streaming.py",
    "trqam_jax/test_replay.py",
    "trqam_jax/test_backend.py",
    "experiments/training/test_run.py",
    "experiments/training/test_resume.py",
    "experiments/training/test_scaled.py",
    "experiments/training/test_earlier_version.py",
    "experiments/sweeps/test_sweep.py",
    "test_third_suite.py",
    "experiments/test_robomimic.py",
    "experiments/test_one_command.py",
    "experiments/test_exact.py",
    "agents/test_invariants.py",
    "agents/test_cgql.py",
    "agents/test_trqam_external.py",
    "agents/test_sqam.py",
    "agents/test_qam_edit.py",
    "agents/test_qam.py",
    "agents/test_qam_fql.py",
    "agents/test_dsrl.py",
    "agents/test_ifql.py",
    "agents/test_fql.py",
    "agents/test_qsm.py",
    "agents/test_dac.py",
    "agents/test_rebrac.py",
    "envs/vector/test_slots.py",
    "envs/robomimic/test_simulators.py",
    "envs/robomimic/test_robomimic_package.py",
    "envs/robomimic/test_demonstrators.py",
    "envs/robomimic/test_generate.py",
    "envs/ogbench/test_generate.py",
    "envs/ogbench/test_simulators_all.py",
    "experiments/analysis/test_released.py",
    "fuzz/test_fuzz.py",
    "test_docs.py",
    "test_readme.py",
    "envs/vector/test_actors.py",
    "envs/ogbench/test_convert.py",
    "trqam_jax/test_agent_config.py",
    "trqam_jax/test_sde.py",
    "trqam_jax/test_data.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files, and put them first."""
    order = {name: number for number, name in enumerate(SLOW)}
    place = {item: order.get(str(item.path.relative_to(ROOT)), len(SLOW)) for item in items}
    for item in items:
        if place[item] < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=place.__getitem__)


@pytest.fixture(scope="module")
def default_fusions():
    """Replicas' programs are compiled as a run's are: by the older fusions a minibatch that lies elsewhere is rounded
    otherwise."""
    from trqam_jax import backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compiler_options", lambda *_: {"xla_cpu_use_fusion_emitters": True})
        yield
