"""Loading files: what comes out of a right one, and what is said about a wrong one."""

import shutil

import jax
import numpy as np
import pytest

import trqam_jax.data
from envs.base import Arrays, DataError
from envs.ogbench import SUITE, generate
from envs.ogbench import files as ogbench
from envs.ogbench.simulators import OGBenchSimulator

CUBE, SCENE = SUITE.domains["cube-single"], SUITE.domains["scene"]
TASKS = [1, 2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real, short data set: 3 episodes of 40 rows."""
    folder = tmp_path_factory.mktemp("made")
    return generate.generate("cube-single", episodes=3, out_dir=folder, workers=1, progress=False, episode_steps=40)


@pytest.fixture
def copy(made, tmp_path):
    """A copy to spoil: the path, and a function that changes arrays of it."""
    for file in (made, ogbench.partner(made)):
        shutil.copy(file, tmp_path)
    path = tmp_path / made.name

    def change(**arrays):
        with np.load(path) as file:
            new = {**dict(file), **arrays}
        np.savez(path, **{key: value for key, value in new.items() if value is not None})

    return path, change


def load(path, tasks=TASKS, **kwargs):
    return ogbench.load(path, CUBE, tasks, CUBE.horizon, **{"sparse": False, "shards": 0, **kwargs})


def test_same_as_ogbenchs_own_loader(made):
    """Observations, actions, terminals, rewards and masks of every transition, and next observations by index."""
    import ogbench as package

    ours = load(made)
    for t, task in enumerate(TASKS):
        env, theirs, _ = package.make_env_and_datasets(CUBE.task_name(task), dataset_path=str(made))
        env.close()
        np.testing.assert_array_equal(ours.observations[ours.rows], theirs["observations"])
        np.testing.assert_array_equal(ours.observations[ours.rows + 1], theirs["next_observations"])
        np.testing.assert_array_equal(ours.actions, np.clip(theirs["actions"], -1 + 1e-5, 1 - 1e-5))
        np.testing.assert_array_equal(ours.terminals, theirs["terminals"].astype(bool))
        np.testing.assert_array_equal(ours.rewards[t], theirs["rewards"])
        np.testing.assert_array_equal(ours.masks[t], theirs["masks"])
    assert ours.actions.shape == (3 * 39, 5)


def test_device_copy_has_the_same_fields(made):
    assert set(Arrays._fields) == {*trqam_jax.data.ARRAYS, "bounds"}
    arrays = load(made)
    on_device = trqam_jax.data.to_device(arrays, cycle=7)
    assert on_device.spans == ((0, len(arrays.actions)), 7)
    for name in trqam_jax.data.ARRAYS:
        np.testing.assert_array_equal(getattr(on_device, name), getattr(arrays, name))
    size = ogbench.measure(made, CUBE, shards=0, horizon=1)
    assert size.transitions == len(arrays.actions)
    assert size.nbytes(CUBE, len(TASKS)) == sum(x.nbytes for x in jax.tree.leaves(on_device))


def test_sparse_rewards(made):
    dense, sparse = load(made), load(made, sparse=True)
    np.testing.assert_array_equal(sparse.rewards, np.where(dense.rewards == 0, 0, -1))
    np.testing.assert_array_equal(sparse.masks, dense.masks)


def test_shards_in_sorted_order(made, tmp_path):
    for name, source in (("c-001", ogbench.partner(made)), ("c-000", made)):
        shutil.copy(source, tmp_path / f"{name}.npz")
        shutil.copy(ogbench.partner(made), tmp_path / f"{name}-val.npz")
    first, both = load(made), load(tmp_path, shards=2)
    n, m = len(first.actions), len(first.observations)
    with np.load(made) as file:
        np.testing.assert_array_equal(both.actions[:n], file["actions"][first.rows])  # shards are not clipped
    np.testing.assert_array_equal(both.rows[:n], first.rows)
    assert both.rows[n] == m
    assert len(both.observations) == m + 40
    assert [len(rewards) for rewards in both.rewards] == [len(both.actions)] * 2
    assert len(load(tmp_path, shards=1).actions) == n
    assert len(load(tmp_path, shards=0).actions) == len(both.actions)
    with pytest.raises(DataError, match=r"holds 2 shards, expected 3: c-002.npz is missing"):
        load(tmp_path, shards=3)


def test_spoiled_files_name_themselves_and_what_was_expected(copy):
    path, change = copy
    with np.load(path) as file:
        good = dict(file)

    def refused(words, domain=CUBE):
        with pytest.raises(DataError) as error:
            ogbench.load(path, domain, [1], domain.horizon, sparse=False, shards=0)
        assert "\n" not in str(error.value)
        assert all(word in str(error.value) for word in [path.stem, *words]), str(error.value)

    spoiled = good["observations"].copy()
    spoiled[17, 3] = np.nan
    change(observations=spoiled)
    refused(["observations are not finite", "row 17"])
    change(observations=good["observations"].astype(np.float64))
    refused(["float64", "expected float32"])
    change(observations=good["observations"][:, :20])
    refused(["(120, 20)", "(rows, 28)"])
    change(observations=good["observations"], actions=good["actions"][:50])
    refused(["50 rows", "120"])
    change(actions=good["actions"] * 3)
    refused(["[-1, 1]"])
    terminals = good["terminals"].copy()
    terminals[-1] = False
    change(actions=good["actions"], terminals=terminals)
    refused(["does not end an episode"])
    terminals = good["terminals"].copy()
    terminals[38] = True
    change(terminals=terminals)
    refused(["without any transition"])
    change(terminals=good["terminals"], qpos=None)
    refused(["has no qpos"])
    change(qpos=good["qpos"])
    refused(["button_states"], SCENE)
    ogbench.partner(path).unlink()
    refused(["cube-single-play-v0-val.npz is not beside it"])
    path.write_bytes(path.read_bytes()[:5000])
    refused(["not a readable npz"])
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    refused(["not a readable npz"])


@pytest.mark.parametrize("foreign", ["next_observations", "timeouts"])
def test_a_row_per_transition_is_refused(foreign, copy):
    """As D4RL has it: the last transition of every episode would be lost. Before anything large is read."""
    path, change = copy
    with np.load(path) as file:
        change(**{foreign: file["observations"][:, 0]})
    words = rf"has {foreign}, so a row per transition, as in D4RL; expected OGBench's layout, a row per state"
    with pytest.raises(DataError, match=words):
        load(path)
    with pytest.raises(DataError, match=words):
        ogbench.measure(path, CUBE, shards=0, horizon=CUBE.horizon)


def test_another_domains_file(made, tmp_path):
    with pytest.raises(DataError, match=r"\(rows, 37\).*another domain"):
        ogbench.load(made, SUITE.domains["cube-double"], [1], 5, sparse=False, shards=0)


@pytest.mark.parametrize("keeps_name", [True, False])
def test_another_domains_file_of_the_same_sizes(keeps_name, tmp_path):
    """All pointmazes have the same sizes: the name and the provenance tell them apart."""
    settings = dict(episodes=1, workers=1, progress=False, episode_steps=20)
    path = generate.generate("pointmaze-medium", out_dir=tmp_path, **settings)
    if not keeps_name:
        for file in (path, ogbench.partner(path)):
            file.rename(file.with_name(file.name.replace("medium", "large")))
        path = path.with_name(path.name.replace("medium", "large"))
    with pytest.raises(DataError, match="holds data of pointmaze-medium, expected pointmaze-large"):
        ogbench.load(path, SUITE.domains["pointmaze-large"], [1], 1, sparse=False, shards=0)


def test_fingerprint_is_of_the_content(copy, tmp_path):
    path, change = copy
    first = ogbench.fingerprint(path, 0)
    moved = tmp_path / "elsewhere.npz"
    shutil.copy(path, moved)
    assert ogbench.fingerprint(moved, 0) == first
    change(provenance=np.array("{}"))
    assert ogbench.fingerprint(path, 0) == first
    with np.load(path) as file:
        actions = file["actions"].copy()
    actions[3, 2] += 1e-3
    change(actions=actions)
    assert ogbench.fingerprint(path, 0) != first


def find(name, folder, dataset="auto", shards=0):
    options = {"episodes": 1, "seed": 0, "shards": shards, "download": "never"}
    return ogbench.find(SUITE.domains[name], dataset, str(folder), **options)


def test_no_file_says_how_to_go_on(tmp_path):
    with pytest.raises(DataError, match=r"cube-single-play-v0.npz: no such file; .*--dataset=generate"):
        find("cube-single", tmp_path)
    with pytest.raises(DataError, match="cannot be generated here"):
        find("antmaze-large", tmp_path)
    with pytest.raises(DataError, match=r"puzzle-4x4-play-100m-v0/puzzle-4x4-play-v0-000\.npz: no such file; of "):
        find("puzzle-4x4", tmp_path, shards=10)
    with pytest.raises(DataError, match=r"--dataset=nowhere\.npz: no such file"):
        find("cube-single", tmp_path, "nowhere.npz")


def test_find_prefers_the_local_file(made, tmp_path):
    for file in (made, ogbench.partner(made)):
        shutil.copy(file, tmp_path)
    assert find("cube-single", tmp_path) == tmp_path / made.name


def test_a_start_follows_from_its_seed_whatever_was_before():
    """Mazes draw from global generators: a seed gives one first state, in a fresh and in a used simulator."""
    for name in ("cube-single", "pointmaze-medium", "antmaze-large"):
        domain = SUITE.domains[name]
        fresh, used = OGBenchSimulator(domain, 1), OGBenchSimulator(domain, 1)
        used.reset(5)
        for _ in range(7):
            used.step(used.env.action_space.sample())
        np.testing.assert_array_equal(fresh.reset(3), used.reset(3))
        action = np.full(domain.action_dim, 0.3, np.float32)
        for _ in range(10):
            a, b = fresh.step(action), used.step(action)
            np.testing.assert_array_equal(a.observation, b.observation)
        assert (fresh.reset(4) != fresh.reset(3)).any()
        fresh.close()
        used.close()


def test_task_switch_equals_a_simulator_of_that_task():
    one, two = OGBenchSimulator(CUBE, 1), OGBenchSimulator(CUBE, 2)
    one.set_task(2)
    np.testing.assert_array_equal(one.reset(0), two.reset(0))
    np.testing.assert_array_equal(one.env.unwrapped._data.mocap_pos, two.env.unwrapped._data.mocap_pos)
