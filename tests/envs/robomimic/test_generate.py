"""Scripted demonstrations: equal bytes whatever plays them, robomimic's layout, failures kept or dropped."""

import functools
import json
import types

import needs
import numpy as np
import pytest

from envs.robomimic import generate as g
from envs.robomimic.demonstrators import STYLES
from envs.robomimic.domains import DOMAINS, OBSERVATION_KEYS, observation_widths
from envs.robomimic.simulators import RobomimicSimulator, env_args
from trqam_jax.errors import UserError

LIFT = DOMAINS["robomimic-lift"]
lift = functools.partial(g.generate, LIFT.name, progress=False)


def read(path):
    """(attributes of the file, attributes of its episodes, their arrays)."""
    import h5py

    with h5py.File(path, "r") as file:
        data = file["data"]
        names = [f"demo_{number}" for number in range(len(data))]
        arrays = []
        for name in names:
            found = {}
            data[name].visititems(
                lambda key, item, found=found: found.update({key: item[()]} if hasattr(item, "shape") else {})
            )
            arrays.append(found)
        return dict(data.attrs), [dict(data[name].attrs) for name in names], arrays


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, two[key], err_msg=key)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three demonstrations of lift, played in this process."""
    return lift(episodes=3, out_dir=tmp_path_factory.mktemp("lift"), workers=1)


# ---- the same numbers


@needs.robosuite
def test_workers_change_no_byte(made, tmp_path):
    other = lift(episodes=3, out_dir=tmp_path, workers=2)
    assert other.read_bytes() == made.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"scripted_v15.hdf5", ".scripted_v15.hdf5.lock"}


@needs.robosuite
def test_a_longer_file_begins_with_the_shorter_one(made, tmp_path):
    _, attributes, arrays = read(made)
    _, shorter, fewer = read(lift(episodes=1, out_dir=tmp_path, workers=1))
    assert shorter == attributes[:1]
    assert_equal(fewer[0], arrays[0])


@needs.robosuite
def test_seeds_differ_and_the_callers_generator_is_left_alone(made, tmp_path):
    np.random.seed(0)  # noqa: NPY002
    other = lift(episodes=1, seed=1, out_dir=tmp_path, workers=1)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002
    first = read(made)[2]
    assert np.abs(read(other)[2][0]["states"][0] - first[0]["states"][0]).max() > 1e-3
    assert np.abs(first[1]["states"][0] - first[0]["states"][0]).max() > 1e-3


# ---- the layout


@needs.robosuite
def test_layout(made):
    file, attributes, arrays = read(made)
    assert set(file) == {"total", "env_args", "provenance"}
    assert json.loads(file["env_args"]) == env_args(LIFT)
    assert file["total"] == sum(one["num_samples"] for one in attributes) == sum(len(one["actions"]) for one in arrays)
    for own, one in zip(attributes, arrays, strict=True):
        count = own["num_samples"]
        assert set(own) == {"num_samples", "model_file", "style"}
        assert own["model_file"].startswith("<mujoco")
        assert own["style"] in [style.name for style in STYLES]
        assert one["actions"].shape == (count, 7)
        assert one["actions"].dtype == np.float64
        np.testing.assert_array_equal(one["actions"], one["actions"].astype(np.float32))  # as the simulator got them
        assert np.abs(one["actions"]).max() <= 1
        assert one["states"].shape == (count, 32)
        for key, width in observation_widths(LIFT).items():
            assert one[f"obs/{key}"].shape == one[f"next_obs/{key}"].shape == (count, width)
            np.testing.assert_array_equal(one[f"obs/{key}"][1:], one[f"next_obs/{key}"][:-1])
            assert np.isfinite(one[f"obs/{key}"]).all()
        solved = np.eye(count)[-1]
        np.testing.assert_array_equal(one["rewards"], solved)
        np.testing.assert_array_equal(one["dones"], solved)
        assert set(one) == {
            *("actions", "states", "rewards", "dones"),
            *(f"{room}/{key}" for room in ("obs", "next_obs") for key in OBSERVATION_KEYS),
        }


@needs.robosuite
def test_an_episode_is_what_its_actions_do(made):
    """Played again from its seed, to the bit."""
    simulator = RobomimicSimulator(LIFT, 1)
    again = g.collect(simulator, domain=LIFT.name, seed=0, failures="drop", episode=1)
    simulator.close()
    one = read(made)[2][1]
    for key in ("states", "actions"):
        np.testing.assert_array_equal(again[key], one[key])
    for key in OBSERVATION_KEYS:
        np.testing.assert_array_equal(again["observations"][key][:-1], one[f"obs/{key}"])


@needs.robosuite
def test_provenance_and_files_that_exist(made, tmp_path):
    found = g.provenance(made)
    assert "scripted" in found["generator"]
    expected = {
        "domain": LIFT.name,
        "episodes": 3,
        "seed": 0,
        "failures": "drop",
        "episode_limit": 300,
        "version": g.VERSION,
    }
    assert {key: found[key] for key in expected} == expected
    assert set(found["versions"]) == {"mujoco", "numpy", "robosuite"}
    assert [style["name"] for style in found["styles"]] == [style.name for style in STYLES]

    before = made.stat().st_mtime_ns
    assert lift(episodes=3, out_dir=made.parent) == made
    assert made.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"scripted_v15\.hdf5 exists and was made with episodes 3 instead of 4; rem"):
        lift(episodes=4, out_dir=made.parent)
    with pytest.raises(UserError, match=r"made with failures 'drop' instead of 'keep'"):
        lift(episodes=3, failures="keep", out_dir=made.parent)
    damaged = tmp_path / made.name
    damaged.write_bytes(made.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a readable HDF5 file, truncated or damaged"):
        lift(episodes=3, out_dir=tmp_path)


def test_a_file_with_a_damaged_index_is_one_line(tmp_path):
    import robomimic_files

    path = robomimic_files.write(tmp_path / "scripted_v15.hdf5", LIFT)
    path.write_bytes(path.read_bytes().replace(b"TREE", b"EERT"))
    with pytest.raises(UserError, match=r"^.*hdf5: not a readable HDF5 file, truncated or damaged \(.*\); remove it$"):
        g.provenance(path)


@needs.robosuite
def test_a_file_of_somebody_else_is_left_alone(tmp_path):
    import h5py

    with h5py.File(tmp_path / "scripted_v15.hdf5", "w") as file:
        file.create_group("data")
    assert g.provenance(tmp_path / "scripted_v15.hdf5") is None
    with pytest.raises(UserError, match="was not generated here; remove it"):
        lift(episodes=1, out_dir=tmp_path)


# ---- failed attempts


def helpless(domain, simulator, style, rng):
    """Gives up after three steps."""
    for _ in range(3):
        yield np.zeros(7, np.float32)


@pytest.fixture
def failing_at_first(monkeypatch):
    """A demonstrator whose every other attempt fails: the first of each episode."""
    able, attempts = g.demonstrate, []

    def demonstrate(*arguments):
        attempts.append(arguments)
        return (helpless if len(attempts) % 2 else able)(*arguments)

    monkeypatch.setattr(g, "demonstrate", demonstrate)
    return attempts


@needs.robosuite
def test_failures_are_dropped(failing_at_first, tmp_path):
    _, attributes, arrays = read(lift(episodes=2, out_dir=tmp_path, workers=1))
    assert len(failing_at_first) == 4
    assert all(one["dones"][-1] == 1 and own["num_samples"] > 3 for own, one in zip(attributes, arrays, strict=True))


@needs.robosuite
def test_failures_are_kept(failing_at_first, tmp_path):
    """The first attempt at every episode, and nothing says that it solved anything."""
    file, attributes, arrays = read(lift(episodes=2, failures="keep", out_dir=tmp_path, workers=1))
    assert len(failing_at_first) == 2
    assert (attributes[0]["num_samples"], arrays[0]["rewards"].sum(), arrays[0]["dones"].sum()) == (3, 0, 0)
    assert arrays[1]["dones"].sum() == 1
    assert all(own["style"] in [style.name for style in STYLES] for own in attributes)
    assert file["total"] == sum(own["num_samples"] for own in attributes)
    assert json.loads(file["provenance"])["failures"] == "keep"
    assert "2 demonstrations (1 failed)" in g._summary(tmp_path / "scripted_v15.hdf5")


@needs.robosuite
def test_an_episode_that_always_fails_is_one_error_and_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(g, "demonstrate", helpless)
    monkeypatch.setattr(g, "MAX_ATTEMPTS", 2)
    with pytest.raises(g.GenerationError, match=r"lift \(scripted\) failed: .* 0 of seed 0 failed 2 times$"):
        lift(episodes=1, out_dir=tmp_path, workers=1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@needs.robosuite
def test_a_failing_write_leaves_no_file(monkeypatch, tmp_path):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(g, "demonstrate", helpless)
    monkeypatch.setattr(g, "_write_demo", full)
    with pytest.raises(OSError, match="disk full"):
        lift(episodes=1, failures="keep", out_dir=tmp_path, workers=1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


# ---- styles


class Nothing:
    """A simulator of nothing."""

    observations = {key: np.zeros(1) for key in OBSERVATION_KEYS}

    def __init__(self):
        model = types.SimpleNamespace(get_xml=lambda: "<mujoco/>")
        self.env = types.SimpleNamespace(sim=types.SimpleNamespace(model=model))
        self.seeds = []

    def reset(self, seed):
        self.seeds.append(seed)


def test_every_style_appears_and_every_episode_has_a_start_of_its_own(monkeypatch):
    monkeypatch.setattr(g, "demonstrate", lambda *_: iter(()))
    simulator = Nothing()
    play = functools.partial(g.collect, simulator, domain=LIFT.name, failures="keep")
    styles = [play(seed=0, episode=episode)["style"] for episode in range(120)]
    counts = [styles.count(style.name) for style in STYLES]
    assert sum(counts) == 120
    assert min(counts) > 8
    assert len(set(simulator.seeds)) == 120
    assert styles != [play(seed=1, episode=episode)["style"] for episode in range(120)]


@needs.robosuite
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, not 0."),
        ({"seed": -1}, "seed must be at least 0, not -1."),
        ({"workers": 0}, "workers must be at least 1, not 0."),
        ({"failures": "hide"}, "failures='hide': expected drop or keep"),
        ({"env": "robomimic-lfit"}, "Unknown environment 'robomimic-lfit'. Did you mean 'robomimic-lift'?"),
    ],
)
def test_bad_input(options, message, tmp_path):
    with pytest.raises(UserError) as error:
        g.generate(**{"env": "robomimic-lift", "episodes": 1, "out_dir": tmp_path / "new", **options})
    assert str(error.value).startswith(message)
    assert not (tmp_path / "new").exists()


@needs.robosuite
def test_command_line(made, capsys):
    arguments = ["--env=lift-mh", "--episodes=3", f"--out_dir={made.parent}"]
    g.main(arguments)
    assert capsys.readouterr().out.startswith(f"{made}: 3 demonstrations (0 failed), ")
    for bad, message in (
        (["--env=lift-mh", "--episodes=2", *arguments[2:]], r"^error: .* was made with episodes 3 instead of 2; "),
        (
            ["--env=robomimic-lfit", *arguments[1:]],
            r"^error: Unknown environment 'robomimic-lfit'\. Did you mean 'robomimic-l",
        ),
        (arguments[:1], r"^error: the following arguments are required: --episodes, --out_dir; see --help$"),
    ):
        with pytest.raises(SystemExit, match=message):
            g.main(bad)
