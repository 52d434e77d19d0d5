"""Generated datasets: equal bytes whatever plays them, OGBench's format, and experts that do something."""

import pathlib
import subprocess
import sys

import numpy as np
import ogbench
import pytest

from envs.ogbench import generate as g
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
CUBE = dict(episodes=2, episode_steps=150, progress=False)  # 150 steps hold one pick and place


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files if key != "provenance"}


def partner(path):
    return path.with_name(f"{path.stem}-val.npz")


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """Two episodes of cube-single and one for validation, played in this process."""
    return g.generate("cube-single", out_dir=tmp_path_factory.mktemp("cube"), workers=1, **CUBE)


def test_workers_change_no_byte(cube, tmp_path):
    other = g.generate("cube-single", out_dir=tmp_path, workers=2, **CUBE)
    assert other.read_bytes() == cube.read_bytes()
    assert partner(other).read_bytes() == partner(cube).read_bytes()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cube-single-play-v0.npz", "cube-single-play-v0-val.npz", ".cube-single-play-v0.npz.lock"}


def test_a_longer_file_begins_with_the_shorter_one(cube, tmp_path):
    longer = load(g.generate("cube-single", out_dir=tmp_path, workers=1, **{**CUBE, "episodes": 3}))
    both = zip(load(cube).items(), load(partner(cube)).values(), strict=True)
    for (key, train), val in both:
        np.testing.assert_array_equal(longer[key], np.concatenate([train, val]), err_msg=key)


@pytest.mark.parametrize("domain", ["scene", "puzzle-3x3", "cube-double", "pointmaze-teleport"])
def test_a_used_simulator_plays_like_a_fresh_one(domain):
    used, fresh = g.make_env(domain, 130), g.make_env(domain, 130)
    for episode in (4, 0):
        g.collect(used, domain, 0, episode)
    first, second = (g.collect(env, domain, 0, 7) for env in (used, fresh))
    for key in first:
        assert first[key].tobytes() == second[key].tobytes(), key


def test_the_seed_matters_and_the_callers_generator_is_left_alone(tmp_path):
    settings = dict(episodes=1, episode_steps=30, workers=1, progress=False)
    np.random.seed(0)  # noqa: NPY002
    one, two = (g.generate("pointmaze-medium", seed=s, out_dir=tmp_path / str(s), **settings) for s in (0, 1))
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002
    assert not np.array_equal(load(one)["observations"], load(two)["observations"])


def check_format(arrays, episodes, length, dims):
    rows = episodes * length
    for key, size in dims.items():
        assert arrays[key].shape == (rows, size), key
        assert arrays[key].dtype == (np.int64 if key == "button_states" else np.float32)
        assert np.isfinite(arrays[key]).all()
    assert set(arrays) == {*dims, "terminals"}
    assert np.abs(arrays["actions"]).max() <= 1
    assert arrays["actions"].std() > 0.1
    assert arrays["terminals"].dtype == bool
    np.testing.assert_array_equal(np.flatnonzero(arrays["terminals"]), np.arange(1, episodes + 1) * length - 1)


def check_arm(arrays, rtol=1e-6):
    """The observation of a row is that of the row's state: joints, and their velocities."""
    np.testing.assert_allclose(arrays["observations"][:, :6], arrays["qpos"][:, :6], rtol)
    np.testing.assert_allclose(arrays["observations"][:, 6:12], arrays["qvel"][:, :6], rtol)


def check_buttons(arrays, first, count):
    """One-hot button states, every fourth column from `first`."""
    np.testing.assert_array_equal(arrays["observations"][:, first + 1 : first + 4 * count : 4], arrays["button_states"])


def test_cube(cube):
    dims = {"observations": 28, "actions": 5, "qpos": 21, "qvel": 20}
    check_format(load(cube), 2, 150, dims)
    check_format(load(partner(cube)), 1, 150, dims)
    arrays = load(cube)
    check_arm(arrays)
    block = (arrays["qpos"][:, 14:17] - [0.425, 0, 0]) * 10
    np.testing.assert_allclose(arrays["observations"][:, 19:22], block, atol=1e-5)
    way = arrays["qpos"][:, 14:17].reshape(2, 150, 3)
    assert (np.linalg.norm(way - way[:, :1], axis=-1).max(1) > 0.05).all(), "the oracle carried no block"


def test_scene(tmp_path):
    path = g.generate("scene", episodes=2, episode_steps=250, out_dir=tmp_path, workers=1, progress=False)
    arrays = load(path)
    check_format(arrays, 2, 250, {"observations": 40, "actions": 5, "qpos": 25, "qvel": 24, "button_states": 2})
    check_arm(arrays)
    check_buttons(arrays, 28, 2)
    things = arrays["qpos"][:, 14:].reshape(2, 250, -1)
    assert (np.ptp(things, axis=1).max(1) > 0.05).all(), "nothing moved"


def test_puzzle():
    arrays = g.collect(g.make_env("puzzle-3x3", 100), "puzzle-3x3", 0, 0)
    check_format(arrays, 1, 100, {"observations": 55, "actions": 5, "qpos": 23, "qvel": 23, "button_states": 9})
    check_arm(arrays)
    check_buttons(arrays, 19, 9)
    assert np.ptp(arrays["button_states"], axis=0).any(), "no button was pressed"


@pytest.mark.parametrize("domain", ["pointmaze-medium", "pointmaze-giant"])
def test_pointmaze(domain, tmp_path):
    path = g.generate(domain, episodes=2, out_dir=tmp_path, workers=1, progress=False)
    arrays = load(path)
    length = 2001 if domain == "pointmaze-giant" else 1001
    check_format(arrays, 2, length, {"observations": 2, "actions": 2, "qpos": 2, "qvel": 2})
    np.testing.assert_array_equal(arrays["observations"], arrays["qpos"])
    cells = {tuple(cell) for cell in np.round(arrays["qpos"] / 4).astype(int)}
    assert len(cells) >= 8, "the expert hardly leaves its start"


def test_ogbench_loads_it(cube):
    name = "cube-single-play-singletask-task1-v0"
    env, train, val = ogbench.make_env_and_datasets(name, dataset_path=str(cube), disable_env_checker=True)
    assert train["observations"].shape == train["next_observations"].shape == (2 * 149, 28)
    assert val["actions"].shape == (149, 5)
    assert env.observation_space.shape == (28,)
    assert set(np.unique(train["rewards"])) <= {-1.0, 0.0}
    np.testing.assert_array_equal(train["observations"][1], train["next_observations"][0])


def test_provenance_and_files_that_exist(cube, tmp_path):
    made = g.provenance(cube)
    assert {**made, **CUBE, "seed": 0, "domain": "cube-single", "kind": "play"} == {**made, "progress": False}
    assert made["noise"]["noise"] == 0.1
    assert set(made["versions"]) == {"mujoco", "numpy", "ogbench"}
    assert g.provenance(partner(cube)) == made
    before = cube.stat().st_mtime_ns
    assert g.generate("cube-single-play-v0", out_dir=cube.parent, **CUBE) == cube
    assert cube.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"cube-single-play-v0\.npz exists and was made with seed 0 instead of 3; rem"):
        g.generate("cube-single", out_dir=cube.parent, seed=3, **CUBE)

    foreign = tmp_path / cube.name
    np.savez(foreign, observations=np.zeros(3))
    assert g.provenance(foreign) is None
    with pytest.raises(UserError, match="not generated here"):
        g.generate("cube-single", out_dir=tmp_path, **CUBE)
    foreign.write_bytes(cube.read_bytes()[:5000])
    with pytest.raises(UserError, match="truncated or damaged"):
        g.generate("cube-single", out_dir=tmp_path, **CUBE)


def test_a_lost_partner_comes_back(tmp_path):
    settings = dict(episodes=1, episode_steps=20, out_dir=tmp_path, workers=1, progress=False)
    path = g.generate("pointmaze-medium", **settings)
    content = partner(path).read_bytes()
    partner(path).unlink()
    g.generate("pointmaze-medium", **settings)
    assert partner(path).read_bytes() == content


@pytest.mark.parametrize(
    ("domain", "options", "message"),
    [
        ("antmaze-large", {}, "'antmaze-large' cannot be generated: its data need a trained expert. Choices: cube-"),
        ("humanoidmaze-medium-navigate-v0", {}, "need a trained expert"),
        ("cube-singel", {}, "Unknown domain 'cube-singel'. Did you mean 'cube-single'?"),
        ("cube-single-navigate-v0", {}, "cube-single has 'play' data, not 'navigate'"),
        ("", {}, "Unknown domain ''"),
        ("scene", {"episodes": 0}, "episodes must be at least 1, not 0"),
        ("scene", {"seed": -1}, "seed must be at least 0, not -1"),
        ("scene", {"workers": 0}, "workers must be at least 1, not 0"),
        ("scene", {"episode_steps": 1}, "episode_steps must be at least 2, not 1"),
    ],
)
def test_bad_input(domain, options, message, tmp_path):
    with pytest.raises(UserError) as error:
        g.generate(domain, **{"episodes": 1, "out_dir": tmp_path / "new", **options})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_episode_is_one_error_and_leaves_no_file(workers, tmp_path, monkeypatch):
    monkeypatch.setitem(g.GENERATABLE, "cube-quintuple", "play")
    with pytest.raises(g.GenerationError, match=r"Generating cube-quintuple-play-v0 failed: .*quintuple"):
        g.generate("cube-quintuple", episodes=2, out_dir=tmp_path, workers=workers, progress=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_failing_write_leaves_no_file(tmp_path, monkeypatch):
    save, calls = np.savez, []

    def second_fails(file, **arrays):
        calls.append(file)
        if len(calls) == 2:
            raise OSError("disk full")
        save(file, **arrays)

    monkeypatch.setattr(np, "savez", second_fails)
    with pytest.raises(OSError, match="disk full"):
        g.generate("pointmaze-medium", episodes=1, episode_steps=20, out_dir=tmp_path, workers=1, progress=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_broken_off_episode_is_played_again(monkeypatch):
    """Scene loses its block: another attempt, with other random numbers, and at last an error."""
    play, starts = g._play, []

    def broken_off(env, domain, rng, env_seed):
        starts.append(env_seed)
        for row in play(env, domain, rng, env_seed):
            yield row
            if len(starts) <= 2:
                return

    monkeypatch.setattr(g, "_play", broken_off)
    env = g.make_env("scene", 10)
    assert len(g.collect(env, "scene", 0, 0)["terminals"]) == 10
    assert len(set(starts)) == 3
    monkeypatch.setattr(g, "MAX_ATTEMPTS", 2)
    starts.clear()
    with pytest.raises(g.GenerationError, match="thrown away 2 times"):
        g.collect(env, "scene", 0, 0)


def test_command_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "envs.generate", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    good = ("--env=pointmaze-medium-navigate-singletask-task1-v0", "--episodes=1", f"--out_dir={tmp_path}")
    first = run(*good, "--workers=2")
    assert first.returncode == 0, first.stderr
    assert f"{tmp_path / 'pointmaze-medium-navigate-v0.npz'}: 1000 transitions, 1000 more" in first.stdout
    assert "steps/s" in first.stdout
    assert "was there already" in run(*good).stdout
    for arguments in (("--env=antmaze-large", *good[1:]), ("--env=scene", "--nonsense"), ("--env=scene",)):
        bad = run(*arguments)
        assert bad.returncode in (1, 2)
        assert bad.stderr.startswith("error: ")
        assert bad.stderr.count("\n") == 1, bad.stderr
