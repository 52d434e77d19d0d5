"""The command."""

import re
import subprocess
import sys

import pytest
from made_sweeps import ROOT


def command(*arguments):
    line = [sys.executable, "experiments/sweep.py", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stats"], ["'stats'", "Did you mean 'status'"]),
        (["status"], ["manifest.json", "there is no sweep"]),
        (["status", "--offline_steps=7"], ["--offline_steps", "`status` takes", "as they were planned"]),
        (["status", "--config.agent.tau=1"], ["--config.agent.tau=1", "as they were planned"]),
        (["--agents=fql"], ["--envs", "--suite"]),
        (["--env=scene"], ["--env=scene", "--envs"]),
        (["--envs=scene", "--engine=slurm", "--slurm=gpu"], ["--slurm=gpu", "KEY=VALUE"]),
    ],
)
def test_errors_of_the_command_line_are_one_line(tmp_path, arguments, words):
    result = command(*arguments, f"--out_dir={tmp_path}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line


def test_a_dry_run_starts_nothing(tmp_path):
    result = command("--suite=ogbench50", "--num_seeds=8", "--dry_run", f"--out_dir={tmp_path}", "--max_replicas=20")
    assert "trqam/scene/seeds-10001-40004" in result.stdout
    assert (
        "30 jobs with 400 replicas, not counting behaviour cloning; 30 not measured: --benchmark=FILE.csv"
        in result.stdout
    )
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_real_runs_to_the_table(tmp_path):
    place = [f"--out_dir={tmp_path}", "--group=real"]
    size = ["--bc_steps=20", "--offline_steps=20", "--eval_interval=20", "--eval_episodes=1", "--dataset_episodes=2"]
    data = ["--protocol=quick", "--dataset=generate", f"--dataset_dir={tmp_path / 'data'}"]
    tiny = ["--config.agent.hidden_dims=8,8", "--config.agent.flow_steps=2", "--config.train.batch_size=16"]
    what = ["--agents=fql", "--envs=cube-single-task1", "--seeds=1,2", "--max_replicas=1", "--config.agent.alpha=3"]
    everything = [*what, *place, *size, *data, *tiny]
    first = command(*everything, "--jobs=2")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 jobs, 3 done" in first.stdout
    assert len(list(tmp_path.glob("real/cube-single/cloned-*"))) == 1
    again = command("retry", *place)
    assert again.returncode == 0
    assert "started" not in again.stdout
    other = command(*everything, "--config.agent.alpha=4")
    assert "with --config.agent.alpha=3, not with --config.agent.alpha=4; choose another --group" in other.stderr
    assert re.search(r"fql/cube-single/seeds-2 +done +100% +offline 20\n", command("status", *place).stdout)
    line = [sys.executable, "experiments/table.py", tmp_path / "real"]
    table = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "seeds: 2" in table
    assert "| FQL " in table
