"""A new suite is one package and one line: tests/point_suite trains, resumes, sweeps, tables and plots in a copy."""

import ast
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.analysis.rows import read_runs

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("trqam_jax", "agents", "envs", "experiments")
LINE = '    "point",\n'

#: What the copy does, in one process but for the sweep's two jobs and the simulators. Each line prints on its own.
DRIVER = """
import contextlib, io, pathlib, sys

sys.path.insert(0, "experiments")


def flags_of(module, *arguments):
    from experiments import cli
    return cli.parse([module.__file__, *arguments])


def said(function, *arguments):
    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        function(*arguments)
    return file.getvalue()


if __name__ == "__main__":
    import main
    from experiments import figures, listing, sweep, table

    train = ["--agent=trqam", "--env=point-room", "--tasks=1,3", *sys.argv[1:], "--bc_steps=20"]
    for steps in (40, 60):
        pathlib.Path(f"train-{steps}").write_text(said(main.main, flags_of(main, *train, f"--offline_steps={steps}")))
    for name in ("agent", "env", "tasks", "bc_steps"):
        main.flags.FLAGS[name].unparse()
    jobs = ["--agents=fql,ifql", "--envs=point-room-task2", "--bc_steps=0", "--group=sweep"]
    pathlib.Path("swept").write_text(said(sweep.main, flags_of(sweep, *jobs), "run"))
    pathlib.Path("table").write_text(said(table.main, ["runs"]))
    pathlib.Path("per_task").write_text(said(table.main, ["runs", "--per_task"]))
    pathlib.Path("list").write_text(listing.listing())
    figures.main(["runs", "--out=figures", "--only=curves"])
"""
SMALL = [
    *("--protocol=quick", "--dataset=generate", "--dataset_dir=data", "--dataset_episodes=20", "--log_interval=20"),
    *("--eval_interval=20", "--eval_episodes=3", "--config.agent.hidden_dims=8,8", "--config.agent.flow_steps=2"),
    *("--config.train.batch_size=16", "--config.eval.workers=1"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The four packages, the point suite among them, and a line."""
    root = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "point_suite", root / "envs" / "point")
    init = root / "envs" / "__init__.py"
    before = init.read_text()
    init.write_text(before.replace('    "ogbench",\n', '    "ogbench",\n' + LINE))
    assert init.read_text() != before
    return root


@pytest.fixture(scope="module")
def done(copy):
    """After all that the driver does."""
    driver = copy / "driver.py"
    driver.write_text(DRIVER)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(copy / "compiled"), "PYTHONPATH": str(copy)}
    command = [sys.executable, str(driver), *SMALL]
    result = subprocess.run(command, cwd=copy, env=os.environ | cache, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return copy


@pytest.fixture(scope="module")
def runs(done):
    """By agent."""
    return {run.agent: run for run in read_runs([done / "runs"])}


def test_knows_the_rest_by_the_seam_alone():
    tree = ast.parse((ROOT / "tests" / "point_suite" / "__init__.py").read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    # The seam, and the parser of every command.
    assert {name for name in names if name.split(".")[0] in PACKAGES} == {"envs.base", "trqam_jax.console"}


def test_is_listed(done):
    assert "point-room " in (done / "list").read_text()


def test_trains_and_evaluates(done, runs):
    run = runs["trqam"]
    assert run.finished
    assert "solved in" in (done / "train-40").read_text()
    rows = run.eval
    assert set(zip(rows.task, rows.seed, strict=True)) == {(1, 10001), (3, 10001)}
    assert set(zip(rows.env, rows.status, rows.episodes, strict=True)) == {("point-room", "ok", 3)}
    assert rows.length.between(1, 12).all()
    assert rows.success.between(0, 1).all()
    # A step costs 1, but for the one that solves the task.
    np.testing.assert_allclose(-rows["return"], rows.length - rows.success)
    assert set(run.train.step[run.train.phase == "offline"]) == {20, 40, 60}


def test_resumes_with_more_steps(done, runs):
    assert "going on from" in (done / "train-60").read_text()
    rows = runs["trqam"].eval
    assert list(rows.step[(rows.phase == "offline") & (rows.task == 3)]) == [20, 40, 60]


def test_settings_and_versions_are_the_suites(runs):
    config = json.loads((runs["fql"].folder / "config.json").read_text())
    assert config["agent"]["discount"] == 0.9
    assert config["notes"]["agent.discount"] == "episodes have twelve steps"
    stamps = json.loads((runs["fql"].folder / "versions.json").read_text())
    assert "numpy" in stamps
    assert "mujoco" not in stamps


def test_sweeps(done, runs):
    assert set(runs) == {"trqam", "fql", "ifql"}
    assert "2 jobs, 2 done" in (done / "swept").read_text()
    for agent in ("fql", "ifql"):
        assert runs[agent].finished
        assert set(runs[agent].eval.task) == {2}


def cells(path):
    """The cells of a printed table, line by line, without the rule below the heading."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])]


def test_table_has_its_column_and_rows(done):
    heading, *rows = cells(done / "table")
    assert heading == ["method", "point-room"]
    assert [row[0] for row in rows] == ["TRQAM", "FQL", "IFQL"]
    assert ["2/3 tasks" in row[1] for row in rows] == [True, False, False]
    heading, *rows = cells(done / "per_task")
    assert heading == ["task", "TRQAM", "FQL", "IFQL"]
    assert [row[0] for row in rows] == [f"point-room-task{task}" for task in (1, 2, 3)]
    assert [[cell != "-" for cell in row[1:]] for row in rows] == [
        [True, False, False],
        [False, True, True],
        [True, False, False],
    ]


def test_figures(done):
    assert (done / "figures" / "curves.pdf").stat().st_size > 1000
    assert (done / "figures" / "curves.png").stat().st_size > 1000


def test_its_own_command(copy):
    """python -m envs.generate finds the suite by --env; one that the suite lacks is one line."""

    def run(command, *arguments):
        whole = [sys.executable, "-m", f"envs.{command}", "--env=point-room-task3", *arguments]
        return subprocess.run(whole, cwd=copy, capture_output=True, text=True, check=False)

    made = run("generate", "--episodes=2", "--out_dir=made")
    assert (copy / "made" / "walks.npz").exists(), made.stderr
    assert "24 transitions" in made.stdout
    lacking = run("download")
    assert lacking.returncode == 1
    assert lacking.stderr == (
        "error: --env=point-room-task3: suite point has no download command; suites with one: ogbench, robomimic\n"
    )
