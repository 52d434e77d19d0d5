"""Robomimic by the commands that a user types: main with its online phase, resuming, a sweep, a comparison, a table."""

import json
import os
import pathlib
import subprocess
import sys

import needs
import numpy as np
import pytest

from envs.robomimic.domains import DOMAINS
from envs.robomimic.files import read_demos
from experiments.analysis.rows import read_runs

ROOT = pathlib.Path(__file__).parents[2]
LIFT = DOMAINS["robomimic-lift"]
SMALL = [
    *("--protocol=quick", "--dataset=generate", "--dataset_dir=data", "--dataset_episodes=3", "--log_interval=20"),
    *("--eval_interval=20", "--eval_episodes=2", "--episode_limit=12", "--config.agent.hidden_dims=8,8"),
    *("--config.agent.flow_steps=2", "--config.train.batch_size=16", "--config.eval.workers=1"),
]
TRAIN = ["--agent=trqam", "--env=robomimic-lift", "--bc_steps=20"]
ONLINE = ["--start_training=20", "--config.online.save_interval=20"]

pytestmark = needs.robosuite


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("robomimic")


@pytest.fixture(scope="module")
def command(place):
    """Run one of the scripts in a folder of its own; what it prints."""

    def command(script, *arguments):
        cache = {"JAX_COMPILATION_CACHE_DIR": str(place / "compiled")}
        whole = [sys.executable, str(ROOT / "experiments" / script), *arguments]
        done = subprocess.run(whole, cwd=place, env=os.environ | cache, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return command


@pytest.fixture(scope="module")
def trained(command):
    """What a run printed, and what it printed when it went on with more online steps."""
    first = command("main.py", *TRAIN, *SMALL, *ONLINE, "--offline_steps=20", "--online_steps=20")
    return first, command("main.py", *TRAIN, *SMALL, *ONLINE, "--offline_steps=20", "--online_steps=40")


def test_trains_online_and_goes_on(trained, place):
    first, second = trained
    assert "robomimic-lift: success, %" in first
    assert "going on from" in second
    (run,) = read_runs([place / "runs" / "default"])
    assert run.finished
    rows = run.eval
    assert [*zip(rows.phase, rows.step, strict=True)] == [
        ("bc", 20),
        ("offline", 20),
        ("online", 20),
        ("online", 40),
    ]
    assert (rows.length <= 12).all()
    # A step costs 1, but for the one that solves the task.
    np.testing.assert_allclose(-rows["return"], rows.length - rows.success)


def test_the_folder_says_what_it_was_trained_on(trained, place):
    (run,) = read_runs([place / "runs" / "default"])
    config = json.loads((run.folder / "config.json").read_text())
    assert config["agent"]["kl_budget"] == 0.1
    assert config["notes"]["agent.kl_budget"] == "TRQAM paper"
    assert config["eval"]["episode_limit"] == 12
    assert {"robosuite", "mujoco", "h5py"} <= set(json.loads((run.folder / "versions.json").read_text()))
    (file,) = (place / "data").rglob("*.hdf5")
    rows = np.concatenate([demo.observations for demo in read_demos(file, LIFT)])
    scaling = json.loads((run.folder / "scaling.json").read_text())
    np.testing.assert_array_equal(np.float32(scaling["low"]), rows.min(0))
    np.testing.assert_array_equal(np.float32(scaling["high"]), rows.max(0))


def test_sweeps_compares_and_tables(command, trained, place):
    own = ["--bc_steps=0", "--offline_steps=20", "--group=several"]
    swept = command("sweep.py", "--agents=fql,ifql", "--envs=robomimic-lift", *SMALL, *own)
    assert "2 jobs, 2 done" in swept
    compared = command("compare.py", "--agents=fql,ifql", "--env=robomimic-lift", *SMALL, *own)
    assert "fql" in compared
    assert "ifql" in compared
    table = command("table.py", "runs/several")
    heading, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in heading.split("|")[1:-1]] == ["method", "robomimic-lift"]
    assert [row.split("|")[1].strip() for row in rows] == ["FQL", "IFQL"]
    assert "Episode limits in steps: robomimic-lift 12." in table
