"""One command, from an empty folder to rows: what the protocol asks for is fetched first, shards as well."""

import os
import pathlib
import subprocess
import sys

import file_server
import numpy as np
import pytest

from envs.ogbench import SUITE, generate, sources
from envs.ogbench.files import partner
from experiments.analysis.rows import read_runs

ROOT = pathlib.Path(__file__).parents[2]
PUZZLE, SHARDS = SUITE.domains["puzzle-4x4"], 10
SMALL = [
    *("--bc_steps=20", "--offline_steps=20", "--log_interval=20", "--eval_interval=20", "--eval_episodes=1"),
    *("--episode_limit=10", "--config.agent.hidden_dims=8,8", "--config.agent.flow_steps=2"),
    *("--config.agent.num_critics=2", "--config.train.batch_size=16", "--config.eval.workers=1"),
]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """{path on a server: content} of ten shards, an episode of 30 rows in each."""
    made = tmp_path_factory.mktemp("made")
    options = {"workers": 1, "progress": False, "episode_steps": 30}
    whole = generate.generate(PUZZLE.name, episodes=SHARDS, out_dir=made, **options)
    validation, names = partner(whole).read_bytes(), sources.file_names(PUZZLE, SHARDS)
    with np.load(whole) as file:
        arrays = {name: file[name] for name in file.files if name != "provenance"}
    ends = np.flatnonzero(arrays["terminals"]) + 1
    files = {}
    for name, begin, end in zip(names[::2], (0, *ends), ends, strict=False):
        np.savez(made / "shard.npz", **{key: array[begin:end] for key, array in arrays.items()})
        files[f"/{name}"] = (made / "shard.npz").read_bytes()
    assert len(files) == SHARDS
    return files | {f"/{name}": validation for name in names[1::2]}


def test_the_papers_run_from_an_empty_folder(release, tmp_path):
    def train(*flags):
        command = [sys.executable, "experiments/main.py", "--agent=trqam", "--env=puzzle-4x4", *SMALL, *flags]
        places = [f"--dataset_dir={tmp_path / 'data'}", f"--out_dir={tmp_path / 'runs'}"]
        own = os.environ | {"TRQAM_JAX_MIRRORS": server.url}
        return subprocess.run([*command, *places], cwd=ROOT, env=own, capture_output=True, text=True, check=False)

    with file_server.servers() as start:
        server = start(release)
        refused = train("--download=never")
        assert refused.returncode == 1
        assert "`python -m envs.download --env=puzzle-4x4 --shards=10 --dataset_dir=" in refused.stderr
        assert server.connections == 0
        done = train()
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(path for path, *_ in server.requests) == sorted(release)
        before = server.connections
        train("--offline_steps=40")
        assert server.connections == before
    assert f"downloading 20 files ({PUZZLE.title}-100m-v0/" in done.stdout
    (run,) = [run for run in read_runs([tmp_path / "runs"]) if run.agent == "trqam"]
    assert run.finished
    assert list(run.eval.step[run.eval.phase == "offline"]) == [20, 40]
