"""Against the robomimic package itself, where it is installed: it reads our files, and its environment is ours."""

import contextlib
import sys
import types
import warnings

import needs
import numpy as np
import pytest

from envs.robomimic.domains import DOMAINS, ENV_NAMES, OBSERVATION_KEYS
from envs.robomimic.generate import generate
from envs.robomimic.robosuite_mends import import_robosuite
from envs.robomimic.simulators import RobomimicSimulator, controllers_at_rest, env_args, flat

pytestmark = [needs.robosuite, needs.needs("robomimic", how="pip install -e .[robomimic]")]
every_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=list(DOMAINS))


@pytest.fixture(scope="module")
def package():
    """Its utilities. It names an exception of a package that nobody has any more."""
    import_robosuite()
    gone = types.ModuleType("mujoco_py")
    gone.builder = types.SimpleNamespace(MujocoException=type("MujocoException", (Exception,), {}))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "mujoco_py", gone)
        from robomimic.utils import dataset, env_utils, file_utils, obs_utils

        obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(OBSERVATION_KEYS)}})
        yield types.SimpleNamespace(dataset=dataset, env=env_utils, file=file_utils)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{domain: its file of two demonstrations}, made when it is asked for."""
    root, found = tmp_path_factory.mktemp("robomimic"), {}

    def made(domain):
        if domain not in found:
            found[domain] = generate(domain.name, episodes=2, out_dir=root / domain.name, workers=1, progress=False)
        return found[domain]

    return made


@contextlib.contextmanager
def both(package, path, domain):
    """Its environment, made from a file of ours, and our simulator."""
    meta = package.file.get_env_metadata_from_dataset(str(path))
    theirs = package.env.create_env_from_metadata(meta, render=False, render_offscreen=False, use_image_obs=False)
    ours = RobomimicSimulator(domain, 1)
    yield theirs, ours
    ours.close()
    theirs.env.close()


@every_domain
def test_it_reads_our_files(package, files, domain):
    import h5py

    path = files(domain)
    meta = package.file.get_env_metadata_from_dataset(str(path))
    assert {key: meta[key] for key in env_args(domain)} == env_args(domain)
    shapes = package.file.get_shape_metadata_from_dataset(str(path), all_obs_keys=list(OBSERVATION_KEYS))
    assert (shapes["ac_dim"], sum(shape[0] for shape in shapes["all_shapes"].values())) == (7, domain.observation_dim)
    dataset = package.dataset.SequenceDataset(
        str(path),
        obs_keys=OBSERVATION_KEYS,
        dataset_keys=("actions", "rewards", "dones"),
        load_next_obs=True,
        frame_stack=1,
        seq_length=1,
        hdf5_cache_mode="all",
    )
    items = iter(range(len(dataset)))
    with h5py.File(path) as file:
        assert len(dataset) == file["data"].attrs["total"]
        for number in range(2):
            demo = file[f"data/demo_{number}"]
            for step in range(demo.attrs["num_samples"]):
                item = dataset[next(items)]
                for key in ("actions", "rewards", "dones"):
                    np.testing.assert_array_equal(item[key][0], demo[key][step])
                for room in ("obs", "next_obs"):
                    for key in OBSERVATION_KEYS:
                        np.testing.assert_array_equal(item[room][key][0], demo[f"{room}/{key}"][step])


@every_domain
def test_its_environments_steps_are_ours(package, files, domain):
    """A hundred, to the bit: observations, rewards and success."""
    with both(package, files(domain), domain) as (theirs, ours):
        assert theirs.name == ENV_NAMES[domain.name]
        np.random.seed(7)  # noqa: NPY002
        theirs.reset()
        ours.reset(7)
        for action in np.random.default_rng(0).uniform(-1, 1, (100, 7)):
            found, reward, _, _ = theirs.step(action)
            result = ours.step(action)
            np.testing.assert_array_equal(result.observation, flat(found))
            assert (result.reward, result.success) == (reward - 1, theirs.is_success()["task"])
        np.testing.assert_array_equal(ours.env.sim.get_state().flatten(), theirs.get_state()["states"])


@every_domain
def test_its_reset_to_replays_ours(package, files, domain):
    """From the recorded state its environment does what ours does, to the bit, once its controllers have forgotten the
    start that was drawn before: robosuite's do not notice that a state was set."""
    import h5py

    solved = []
    with both(package, files(domain), domain) as (theirs, ours), h5py.File(files(domain)) as file:
        for demo in file["data"].values():
            model, first = demo.attrs["model_file"], demo["states"][0]
            found = theirs.reset_to({"states": first, "model": model})
            for key in OBSERVATION_KEYS[:3]:
                np.testing.assert_allclose(found[key], demo[f"obs/{key}"][0], atol=1e-5)
            controllers_at_rest(theirs.env)
            ours.set_state(model, first)
            for action in demo["actions"][()]:
                theirs.step(action)
                assert ours.step(action).success == theirs.is_success()["task"]
                np.testing.assert_array_equal(ours.env.sim.get_state().flatten(), theirs.get_state()["states"])
            solved.append(ours.solved())
    assert any(solved)


def test_lift_is_replayed_by_reset_to_alone(package, files):
    import h5py

    lift = DOMAINS["robomimic-lift"]
    with both(package, files(lift), lift) as (theirs, _), h5py.File(files(lift)) as file:
        demo = file["data/demo_0"]
        theirs.reset_to({"states": demo["states"][0], "model": demo.attrs["model_file"]})
        assert any(theirs.step(action)[1] for action in demo["actions"][()])
