"""Robomimic's files: every transition where it belongs, and one clear line for what is wrong with a file."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import robomimic_files

from envs.base import DataError
from envs.robomimic import SUITE, files, generate, install
from envs.robomimic.domains import DOMAINS, OBSERVATION_KEYS, observation_widths
from trqam_jax.errors import UserError

LIFT, CAN = DOMAINS["robomimic-lift"], DOMAINS["robomimic-can"]
LENGTHS = (8, 6, 9, 5, 5, 7, 5, 5, 5, 5, 6, 12)


@pytest.fixture
def make(tmp_path):
    """A function that writes a file of the domain can, or spoils it by `change`."""
    return lambda lengths=(8, 6), **options: robomimic_files.write(tmp_path / "file.hdf5", CAN, lengths, **options)


def load(path, domain=CAN, **options):
    return files.load(path, domain, horizon=domain.horizon, **options)


def content(path):
    """{number: (observations of all steps, actions)}, as h5py gives them."""
    with robomimic_files.h5py.File(path) as file:
        demos = {}
        for name, demo in file["data"].items():
            rows = [np.concatenate([demo["obs"][key], demo["next_obs"][key][-1:]]) for key in OBSERVATION_KEYS]
            demos[int(name[5:])] = np.concatenate(rows, axis=1).astype(np.float32), demo["actions"][()]
        return demos


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=lambda domain: domain.name)
def test_every_transition_is_where_it_belongs(tmp_path, domain):
    """Demonstrations in the order of their numbers, whatever that of the file: demo_2 before demo_10."""
    path = robomimic_files.write(
        tmp_path / "file.hdf5", domain, LENGTHS, order=np.random.default_rng(0).permutation(12)
    )
    arrays, demos = load(path, domain), content(path)
    total, begin = sum(LENGTHS), 0
    assert files.measure(path, domain, horizon=domain.horizon) == (total + len(LENGTHS), (0, total))
    assert arrays.observations.shape == (total + len(LENGTHS), domain.observation_dim)
    assert arrays.bounds == (0, total)
    for number, length in enumerate(LENGTHS):
        own = slice(begin, begin + length)
        observations, actions = demos[number]
        np.testing.assert_array_equal(arrays.observations[arrays.rows[own]], observations[:-1])
        np.testing.assert_array_equal(arrays.observations[arrays.rows[own] + 1], observations[1:])
        np.testing.assert_allclose(arrays.actions[own], actions, atol=1e-6)
        last = np.arange(length) == length - 1
        np.testing.assert_array_equal(arrays.terminals[own], last)
        np.testing.assert_array_equal(arrays.rewards[0][own], last - 1.0)
        np.testing.assert_array_equal(arrays.masks[0][own], ~last)
        begin += length
    types = {name: np.asarray(getattr(arrays, name)).dtype.name for name in arrays._fields if name != "bounds"}
    floats = dict.fromkeys(("observations", "actions", "rewards", "masks"), "float32")
    assert types == {**floats, "rows": "int32", "terminals": "bool"}


def test_numbers_may_have_leading_zeros(make):
    def rename(file):
        for number in range(12):
            file["data"].move(f"demo_{number}", f"demo_{number:03}")

    renamed = load(make(LENGTHS, change=rename))
    np.testing.assert_array_equal(renamed.observations, load(make(LENGTHS)).observations)


def test_the_parts_of_an_observation_have_a_fixed_order(make):
    def number(file):
        for demo in file["data"].values():
            for place, key in enumerate(OBSERVATION_KEYS):
                demo[f"obs/{key}"][...] = demo[f"next_obs/{key}"][...] = place

    expected = np.repeat(np.arange(4), list(observation_widths(CAN).values()))
    assert (load(make(change=number)).observations == expected).all()


def test_a_failed_attempt_ends_without_being_done(make):
    """Its last value is bootstrapped; a done in the middle ends an episode as well."""

    def change(file):
        file["data/demo_0/dones"][...] = file["data/demo_0/rewards"][...] = 0
        file["data/demo_1/dones"][3] = file["data/demo_1/rewards"][3] = 1

    arrays = load(make(change=change))
    assert np.flatnonzero(arrays.terminals).tolist() == [7, 11, 13]
    assert np.flatnonzero(arrays.masks[0] == 0).tolist() == [11, 13]
    assert np.flatnonzero(arrays.rewards[0] == 0).tolist() == [11, 13]


def test_dense_rewards_become_sparse_where_that_is_asked_for(make):
    def change(file):
        file["data/demo_0/rewards"][...] = np.linspace(0.125, 1, 8)

    path = make(change=change)
    np.testing.assert_array_equal(load(path).rewards[0][:8], np.linspace(-0.875, 0, 8))
    np.testing.assert_array_equal(load(path, sparse=True).rewards[0][:8], [-1] * 7 + [0])


def test_actions_are_kept_off_the_bounds_and_not_rescaled(make):
    def change(file):
        file["data/demo_0/actions"][0] = [1, -1, 0.5, 0, 1, -1, 1]

    path, edge = make(change=change), np.float32(1 - 1e-5)
    np.testing.assert_array_equal(load(path).actions[0], [edge, -edge, 0.5, 0, edge, -edge, edge])
    assert next(files.read_demos(path, CAN)).actions[0].tolist() == [1, -1, 0.5, 0, 1, -1, 1]


def test_the_fingerprint_is_of_what_training_uses(tmp_path):
    def other_words(file):
        file["data"].attrs["provenance"] = json.dumps({"versions": {"mujoco": "4.0.0"}})
        file["data/demo_0"].attrs["model_file"] = "<mujoco model='another'/>"
        file["data/demo_0/states"][...] = 0
        file["mask/train"] = [b"demo_0"]

    path = robomimic_files.write(tmp_path / "a.hdf5", CAN)
    first = SUITE.fingerprint(path, 0)
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    same = robomimic_files.write(tmp_path / "elsewhere" / "b.hdf5", CAN, order=[1, 0], change=other_words)
    assert SUITE.fingerprint(same, 0) == first

    changes = [("actions", 2), ("rewards", 2), ("dones", 2), ("obs/object", 0), ("next_obs/object", -1)]
    for key, row in changes:
        other = robomimic_files.write(tmp_path / "c.hdf5", CAN, change=spoil(key, row, 1))
        assert SUITE.fingerprint(other, 0) != first
    assert SUITE.fingerprint(robomimic_files.write(tmp_path / "c.hdf5", CAN, (6, 8)), 0) != first


def spoil_args(**changes):
    """Change env_args; controllers=...: those alone."""

    def change(file):
        args = robomimic_files.env_args(CAN)
        if "controllers" in changes:
            args["env_kwargs"]["controller_configs"] = changes["controllers"]
        args |= {key: value for key, value in changes.items() if key != "controllers"}
        file["data"].attrs["env_args"] = json.dumps(args)

    return change


def spoil(key, row, value):
    def change(file):
        file["data/demo_1"][key][row] = value

    return change


def replace(key, value):
    """Another array for demo_1, or none."""

    def change(file):
        del file["data/demo_1"][key]
        if value is not None:
            file["data/demo_1"][key] = value

    return change


def narrow(file):
    """As in a file of lift, or of an older robosuite."""
    for key in ("obs/object", "next_obs/object"):
        replace(key, np.zeros((6, 10)))(file)


def drop_demos(file):
    for name in list(file["data"]):
        del file["data"][name]


OLD = "are others before robosuite 1.5: get the file of version 1.5 (low_dim_v15.hdf5)"
SPOILT = {
    "no data": (lambda file: file.move("data", "date"), ["has no /data", "/data/demo_0"]),
    "no demonstrations": (drop_demos, ["/data has no demonstrations", "demo_0"]),
    "no env_args": (lambda file: file["data"].attrs.pop("env_args"), ["no usable env_args", "env_version"]),
    "env_args": (lambda file: file["data"].attrs.update(env_args="{"), ["no usable env_args", "JSON"]),
    "task": (
        spoil_args(env_name="Lift"),
        ["holds data of Lift (--env=robomimic-lift), expected PickPlaceCan for robomimic-can"],
    ),
    "another task": (spoil_args(env_name="TwoArmTransport"), ["holds data of TwoArmTransport, expected PickPlaceCan"]),
    "robosuite": (spoil_args(env_version="1.4.1"), ["env_version is 1.4.1, expected 1.5.x", OLD]),
    "controllers": (
        spoil_args(controllers={"type": "OSC_POSE", "kp": 150}),
        ["controller_configs are of the older kind (OSC_POSE), expected type BASIC with body_parts", OLD],
    ),
    "no controllers": (spoil_args(controllers=None), ["controller_configs are of the older kind (None)"]),
    "keys": (
        lambda file: [file["data/demo_1"].pop(key) for key in ("rewards", "obs/object")],
        ["demo_1 has no rewards, obs/object"],
    ),
    "a group instead": (
        lambda file: [file["data/demo_1"].pop("rewards"), file["data/demo_1"].create_group("rewards")],
        ["demo_1 has no rewards; expected a robomimic file"],
    ),
    "text": (replace("rewards", np.full(6, b"1")), ["demo_1: rewards is of type |S1, expected numbers"]),
    "no next_obs": (lambda file: file["data/demo_1"].pop("next_obs"), ["next_obs/robot0_eef_pos, next_obs/"]),
    "width": (narrow, ["demo_1: obs/object has shape (6, 10), expected (transitions, 14)", OLD]),
    "next width": (
        replace("next_obs/object", np.zeros((6, 10))),
        ["demo_1: next_obs/object has shape (6, 10), obs/object (6, 14)"],
    ),
    "actions' width": (replace("actions", np.zeros((6, 14))), ["demo_1: actions has shape (6, 14)", "7"]),
    "flat": (replace("obs/object", np.zeros(6)), ["demo_1: obs/object has shape (6,), expected 6 rows of numbers"]),
    "rows": (replace("obs/object", np.zeros((5, 14))), ["demo_1: obs/object has shape (5, 14), expected 6 rows"]),
    "rewards' rows": (replace("rewards", np.zeros(7)), ["demo_1: rewards have shape (7,), expected (6,)"]),
    "num_samples": (
        lambda file: file["data/demo_1"].attrs.update(num_samples=7),
        ["demo_1: num_samples is 7, actions have 6 rows"],
    ),
    "no num_samples": (lambda file: file["data/demo_1"].attrs.pop("num_samples"), ["num_samples is None"]),
    "total": (
        lambda file: file["data"].attrs.update(total=15),
        ["total=15, its demonstrations have 14 transitions"],
    ),
    "nan": (spoil("obs/robot0_eef_pos", (4, 1), np.nan), ["obs/robot0_eef_pos is not finite, first in row 4 of 6"]),
    "last nan": (spoil("next_obs/object", (5, 0), np.inf), ["next_obs/object is not finite, first in row 5 of 6"]),
    "action nan": (spoil("actions", (2, 6), np.nan), ["demo_1: actions is not finite, first in row 2 of 6"]),
    "actions": (spoil("actions", (3, 2), 1.01), ["demo_1: actions leave [-1, 1], first in row 3 of 6"]),
    "dones": (spoil("dones", 3, 2), ["demo_1: dones are not one 0 or 1 per transition"]),
    "next": (spoil("next_obs/object", (2, 3), 0.5), ["demo_1: next_obs/object of row 2 is not obs/object of row 3"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_one_line_that_says_what_was_expected(make, name):
    change, words = SPOILT[name]
    path = make(change=change)
    with pytest.raises(DataError) as raised:
        load(path)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert all(word in message for word in words), message


def test_demonstrations_too_short_for_a_window(make):
    with pytest.raises(DataError, match=r"demo_1: has no transitions, expected at least 1"):
        load(make((8, 0)))
    message = r"the longest demonstration has 4 transitions, expected at least a window of 5"
    with pytest.raises(DataError, match=message):
        files.measure(make((4, 3, 4)), CAN, horizon=5)
    assert files.measure(make((4, 3, 4)), CAN, horizon=4).transitions == 11


def test_what_is_no_hdf5_is_one_line(make, tmp_path):
    path = make()
    whole = path.read_bytes()
    for begin in (b"", b"<html>", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(begin)
        for ask in (files.fingerprint, load):
            with pytest.raises(DataError, match=r"not a readable HDF5 file, truncated or damaged \(") as raised:
                ask(path)
            assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=r"nowhere\.hdf5: no such file"):
        load(tmp_path / "nowhere.hdf5")


@pytest.fixture
def all_installed(monkeypatch):
    """As far as `find` is concerned, which then goes on to the files."""
    monkeypatch.setattr(install, "require", lambda *modules: None)


def test_find_takes_a_path_or_generates(make, tmp_path, monkeypatch, all_installed):
    asked = []
    monkeypatch.setattr(generate, "generate", lambda name, **options: asked.append((name, options)))
    path = make()
    options = {"episodes": 9, "seed": 4, "download": "never"}
    find = lambda dataset, shards=0: SUITE.find(CAN, dataset, str(tmp_path), shards=shards, **options)
    assert find(str(path)) == path
    for wrong in (tmp_path / "nowhere.hdf5", tmp_path):
        with pytest.raises(
            DataError, match=rf"^--dataset={wrong}: no such file \(or one of the words auto, generate\)$"
        ):
            find(str(wrong))
    find("generate")
    target = tmp_path / "generated" / "can-scripted-9-episodes-seed-4"
    assert asked == [("robomimic-can", {"episodes": 9, "seed": 4, "out_dir": target})]
    with pytest.raises(UserError, match=r"^--config\.data\.shards=2: Robomimic's files have no shards, expected 0$"):
        find("auto", shards=2)
    (tmp_path / "can" / "mh").mkdir(parents=True)
    there = path.rename(tmp_path / "can" / "mh" / "low_dim_v15.hdf5")
    assert find("auto") == there


WITHOUT = """
import sys

for name in ({names}):
    sys.modules[name] = None
sys.path.insert(0, "experiments")
import envs
from experiments import listing
from envs.base import UserError

assert "robomimic-can" in listing.listing()
for dataset in ("auto", "generate", "anywhere.hdf5"):
    try:
        domain, _ = envs.parse_env("robomimic-can")
        envs.suite_of(domain).find(domain, dataset, "nowhere", episodes=1, seed=0, shards=0, download="auto")
    except UserError as error:
        print(error)
"""


def test_missing_packages_are_one_line_before_anything_else():
    """Names and settings are there without them."""
    code = WITHOUT.format(names="'robosuite', 'h5py', 'cv2'")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = (
        "Robomimic needs robosuite, h5py, opencv-python-headless, not installed here: `make install ROBOMIMIC=1`, or "
        "with pip: `pip install numba termcolor opencv-python-headless h5py` and "
        "`pip install --no-deps robosuite==1.5.1`"
    )
    assert done.stdout.splitlines() == [line] * 3
