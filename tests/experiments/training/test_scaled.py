"""Scaled observations and episode limits through whole runs, on the point suite."""

import json
import re

import numpy as np
import orbax.checkpoint as ocp
import point_suite
import pytest

import envs
from envs.robomimic import install
from envs.vector.actors import Actors
from experiments import config as configuration
from experiments.training import evaluator, scaled
from experiments.training.csv_rows import read_csv
from experiments.training.inputs import load_data, locate, survey
from experiments.training.run import run
from experiments.training.scaled import ScaledActors
from experiments.training.stages import BC, FINE_TUNING
from trqam_jax import checkpoint, evaluation
from trqam_jax.errors import UserError
from trqam_jax.scaling import Scaling

pytestmark = pytest.mark.usefixtures("default_fusions", "suite")

SETTINGS = {
    "data.dataset": "generate",
    "data.episodes": 2,  # so few that they fill a part of the room only
    "data.scale_observations": True,
    "bc.steps": 20,
    "train.offline_steps": 20,
    "train.log_interval": 10,
    "train.save_interval": 10,
    "eval.interval": 20,
    "eval.episodes": 3,
    "eval.workers": 1,
    "online.steps": 30,
    "online.start_training": 20,
    "online.save_interval": 15,
    "online.balanced_sampling": True,  # uniformly random actions until then, whatever the policy
}
SCALED_ROW = {"scaled": True, "raw": False}


class Killed(BaseException):
    """As good as kill -9 for what is on the disk: nothing catches it."""


@pytest.fixture(scope="module")
def suite():
    """The point suite among the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(envs.SUITES, "point", point_suite.SUITE)
        patch.setitem(envs.DOMAINS, point_suite.ROOM.name, point_suite.ROOM)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("scaled")


def make_config(place, group, settings=None):
    return configuration.resolve(
        agent="fql",
        env="point-room",
        protocol="quick",
        tasks="1,3",
        settings={
            **SETTINGS,
            "data.dir": str(place / "data"),
            "run.out_dir": str(place / "runs"),
            "run.group": group,
            **(settings or {}),
        },
        overrides={"agent.hidden_dims": "8,8", "agent.flow_steps": "2", "train.batch_size": "16"},
    )


def played(place, group, settings):
    """(folder, the first observations of every evaluation) of a run."""
    starts, policy = [], evaluation.policy

    def watched(agents, observations, keys, episodes, decisions):
        if (decisions == 0).all():
            starts.append(observations)
        return policy(agents, observations, keys, episodes, decisions)

    watched.lower = policy.lower  # it is compiled ahead
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "policy", watched)
        return run(make_config(place, group, settings)), starts


@pytest.fixture(scope="module")
def runs(suite, place):
    """One with scaled observations, one without."""
    return {name: played(place, name, {"data.scale_observations": on}) for name, on in SCALED_ROW.items()}


def replay(folder):
    """What the run's last checkpoint holds of it, by field."""
    (last,) = folder.glob("checkpoints/online-30")
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(last.resolve() / checkpoint.TREE)
    return tree[2]


def bc_checkpoint(folder):
    (path,) = folder.parent.glob("cloned-*/checkpoints/20")
    return path


def same(a, b):
    return a.to_json() == b.to_json()


def test_data_evaluation_and_online_phase_see_the_same_scaling(place, runs):
    config, path = locate(make_config(place, "scaled"))
    raw = envs.suite_of(point_suite.ROOM).load(path, point_suite.ROOM, [1], 2, sparse=False, shards=0).observations
    data, (folder, starts) = load_data(config, survey(config, path)), runs["scaled"]
    assert same(data.scaling, Scaling.of(raw))
    assert (data.scaling.high - data.scaling.low < 1.95).any()  # else they would be what they are
    np.testing.assert_array_equal(data.dataset.observations, data.scaling.apply(raw))
    assert np.abs(data.dataset.observations).max() <= 1
    assert same(Scaling.read(folder / "scaling.json"), data.scaling)
    # Evaluations begin where those of the run without scaling do, and so do episodes online, with the same actions.
    others = runs["raw"][1]
    assert len(starts) >= 3
    for ours, theirs in zip(starts, others, strict=False):
        np.testing.assert_array_equal(ours, data.scaling.apply(theirs))
    ours, theirs = replay(folder), replay(runs["raw"][0])
    np.testing.assert_array_equal(ours["actions"][:, :15], theirs["actions"][:, :15])
    for name in ("observations", "next_observations"):
        np.testing.assert_array_equal(ours[name][:, :15], data.scaling.apply(theirs[name][:, :15]))


def test_without_it_nothing_is_stored(runs):
    folder, _ = runs["raw"]
    assert not list(folder.parent.glob("*/scaling.json"))
    assert checkpoint.read_meta(bc_checkpoint(folder))["scaling"] is None


def test_the_bc_policy_has_it_too(runs):
    folder, _ = runs["scaled"]
    stored = Scaling.from_json(checkpoint.read_meta(bc_checkpoint(folder))["scaling"])
    assert same(stored, Scaling.read(folder / "scaling.json"))
    assert same(stored, Scaling.read(bc_checkpoint(folder).parents[1] / "scaling.json"))


def test_actors_rows_stay_zero_behind_the_last_step():
    low, high = np.array([-0.5, 0.1], np.float32), np.array([0.4, 0.3], np.float32)
    sizes, order = (2, 2, 2), (np.zeros((2, 2, 2), np.float32), np.array([0, 1]), np.array([2, 1]))
    make = lambda: Actors([point_suite.SUITE.env_factory(point_suite.ROOM, 1)] * 2, *sizes, sparse=False, workers=1)
    entropy = np.array([[1], [2]])
    with make() as actors:
        first, turn = actors.begin(entropy), actors.play(*order)
    scaling = Scaling(low, high)
    with make() as actors:
        wrapped = ScaledActors(actors, scaling)
        np.testing.assert_array_equal(wrapped.begin(entropy), scaling.apply(first))
        ours = wrapped.play(*order)
    assert ours.length[1] == 1
    for name in ("observations", "next_observations"):
        for r, length in enumerate(ours.length):
            own = getattr(ours, name)[r]
            np.testing.assert_array_equal(own[:length], scaling.apply(getattr(turn, name)[r, :length]))
            assert not own[length:].any()
    np.testing.assert_array_equal(ours.current, scaling.apply(turn.current))


@pytest.mark.parametrize(("owner", "method", "count"), [(evaluator, "evaluate", 2), (scaled.ScaledActors, "play", 12)])
def test_a_killed_run_goes_on_to_the_same_bytes(owner, method, count, place, runs, monkeypatch):
    original, calls = getattr(owner, method), iter(range(1, 1000))

    def kill(*arguments):
        if next(calls) == count:
            raise Killed
        return original(*arguments)

    config = make_config(place, f"killed-{method}")
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, kill)
        with pytest.raises(Killed):
            run(config)
    assert not (FINE_TUNING.folder(locate(config)[0]) / "DONE").exists()
    folder, whole = run(config), runs["scaled"][0]
    for name in ("train.csv", "eval.csv", "scaling.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    for name, values in replay(whole).items():
        np.testing.assert_array_equal(replay(folder)[name], values)


def test_it_goes_on_with_no_other_scaling(place):
    config = make_config(place, "other", {"online.steps": 0})
    path = run(config) / "scaling.json"
    content = json.loads(path.read_text())
    content["high"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"^{path}: is not the scaling of these data.*--group"):
        run(make_config(place, "other", {"online.steps": 25}))


def test_a_given_policy_brings_its_own(place, runs, capsys):
    """Of fewer episodes than the run's data."""
    folder, _ = runs["scaled"]
    policy = bc_checkpoint(folder)
    settings = {"bc.checkpoint": str(policy), "bc.steps": 0, "data.episodes": 5, "online.steps": 0}
    config = make_config(place, "given", settings)
    given = run(config)
    assert f"observations: scaled as the BC policy {policy} saw them" in capsys.readouterr().out
    own = Scaling.read(folder / "scaling.json")
    assert same(Scaling.read(given / "scaling.json"), own)
    data = load_data(config, survey(*locate(config)))
    assert same(data.scaling, own)
    assert np.abs(data.dataset.observations).max() > 1
    with pytest.raises(UserError, match=rf"^{policy}: .*saw scaled.*scale_observations=true$"):
        run(make_config(place, "given", {**settings, "data.scale_observations": False}))


def test_a_given_policy_that_saw_unscaled_observations_is_refused(place, runs):
    policy = bc_checkpoint(runs["raw"][0])
    settings = {"bc.checkpoint": str(policy), "bc.steps": 0}
    with pytest.raises(UserError, match=rf"^{policy}: .*saw unscaled.*scale_observations=false$"):
        run(make_config(place, "unscaled", settings))
    locate(make_config(place, "unscaled", {**settings, "data.scale_observations": False}))


def test_an_imported_policy_gets_the_datas(place, runs, tmp_path):
    """It does not say how its observations were scaled."""
    meta = {"env": None, "steps": 1, "seeds": [0]}
    checkpoint.save_params(tmp_path / "policy", {"x": np.zeros(1, np.float32)}, meta)
    config = make_config(place, "released", {"bc.checkpoint": str(tmp_path / "policy"), "bc.steps": 0})
    assert same(load_data(config, survey(*locate(config))).scaling, Scaling.read(runs["scaled"][0] / "scaling.json"))


def test_a_given_policy_of_other_observations_is_an_error(place, tmp_path):
    scaling = Scaling(np.zeros(3, np.float32), np.ones(3, np.float32))
    meta = {"env": None, "steps": 1, "seeds": [0], "scaling": scaling.to_json()}
    checkpoint.save_params(tmp_path / "policy", {"x": np.zeros(1, np.float32)}, meta)
    config = make_config(place, "misfit", {"bc.checkpoint": str(tmp_path / "policy"), "bc.steps": 0})
    with pytest.raises(UserError, match=r"saw observations of 3 numbers, point-room has 2$"):
        load_data(config, survey(*locate(config)))


@pytest.mark.parametrize("sharded", [{"data.shards": 2}, {"data.dataset": "."}])
def test_shards_cannot_be_scaled(place, sharded):
    with pytest.raises(UserError, match=r"^data.scale_observations: shards .*--config.data.scale_observations=false$"):
        locate(make_config(place, "shards", sharded))


def test_a_folder_named_generate_is_not_taken_for_shards(place, tmp_path, monkeypatch):
    (tmp_path / "generate").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate(make_config(place, "folder"))[1].is_file()


def test_a_suite_without_shards_says_that_a_folder_is_no_file(monkeypatch):
    """Though its observations are scaled unless the user says otherwise."""
    monkeypatch.setattr(install, "require", lambda *modules: None)
    with pytest.raises(UserError, match=r"^--dataset=\.: no such file"):
        locate(configuration.resolve(agent="trqam", env="robomimic-can", settings={"data.dataset": "."}))


def test_an_episode_limit_holds_for_evaluation_and_online_phase(place, runs):
    """It gives another run, which starts from the same BC policy."""
    whole, limited = make_config(place, "limit"), make_config(place, "limit", {"eval.episode_limit": 3})
    assert FINE_TUNING.digest(whole) != FINE_TUNING.digest(limited)
    assert BC.digest(BC.config(whole)) == BC.digest(BC.config(limited))
    folder = run(limited)
    lengths = lambda folder: [float(row["length"]) for row in read_csv(folder / "eval.csv")]
    assert max(lengths(folder)) <= 3 < max(lengths(runs["scaled"][0]))
    for terminals in replay(folder)["terminals"]:
        ends = np.flatnonzero(terminals)
        assert np.diff(ends, prepend=-1).max() <= 3
    whole_ends = [np.flatnonzero(terminals) for terminals in replay(runs["scaled"][0])["terminals"]]
    assert max(np.diff(ends, prepend=-1).max() for ends in whole_ends) > 3
    assert re.search(r'"episode_limit": 3', (folder / "config.json").read_text())
