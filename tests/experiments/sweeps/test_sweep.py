"""A sweep's manifest, the states that jobs leave behind, and the engines, with a stand-in for main.py."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from experiments.sweeps import engines, manifest
from experiments.sweeps.manifest import Job, State, Sweep
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
STAND_IN = str(ROOT / "tests" / "stand_in.py")


def job(name, after=(), **own):
    agent, env, *_ = name.split("/")
    agent = "bc" if agent == "cloning" else agent
    argv = [f"--agent={agent}", f"--env={env}", f"--config.run.part={name}", *own.pop("argv", [])]
    return Job(name, agent, env, argv, list(after), 2, 100, {"agent_name": agent, "run.part": name})


@pytest.fixture
def sweep(tmp_path):
    """A cloning, three methods after it, and a domain without one."""
    folder = manifest.folder_of(str(tmp_path), "g")
    where = [f"--out_dir={tmp_path}", "--group=g"]
    jobs = [job("cloning/cube", argv=where)]
    jobs += [job(f"{agent}/cube", ["cloning/cube"], argv=where) for agent in ("trqam", "qam", "fql")]
    jobs += [job("fql/maze", argv=where)]
    result = Sweep(folder, STAND_IN, str(tmp_path), {job.name: job for job in jobs})
    manifest.write(result)
    return result


def order(sweep, **what):
    """What the stand-in does, by the job's name with __ for the slash."""
    text = json.dumps({name.replace("__", "/"): action for name, action in what.items()})
    (sweep.folder.parents[1] / "do.json").write_text(text)


def diary(sweep):
    return [line.split(" ") for line in (sweep.folder.parents[1] / "diary").read_text().splitlines()]


def kinds(sweep):
    return {name: manifest.state(sweep, job, {}).kind for name, job in sweep.jobs.items()}


def run(sweep, places=({}, {})):
    done = [name for name, kind in kinds(sweep).items() if kind == "done"]
    said = []
    engines.run_local(sweep.only(sweep.jobs.keys() - done), done, places, said.append)
    return said


def test_a_manifest_is_read_as_it_was_written_and_grows(sweep):
    assert manifest.read(sweep.folder) == sweep
    assert manifest.merged(sweep) == sweep
    more = sweep._replace(jobs={"qam/maze": job("qam/maze")})
    assert list(manifest.merged(more).jobs) == [*sweep.jobs, "qam/maze"]
    changed = sweep._replace(jobs={"fql/maze": job("fql/maze", argv=["--offline_steps=7"])})
    with pytest.raises(UserError, match=r"fql/maze with .*, not with --offline_steps=7; choose another --group"):
        manifest.merged(changed)
    (sweep.folder / "manifest.json").write_text('{"program": "", "cwd": "", "jobs": [{"name": "x"}]}')
    with pytest.raises(UserError, match="damaged"):
        manifest.read(sweep.folder)
    with pytest.raises(UserError, match="there is no sweep"):
        manifest.read(sweep.folder / "elsewhere")


START = "== start: pid 1 on elsewhere, 2026-01-01 00:00:00: python main.py\n"


@pytest.mark.parametrize(
    ("log", "run", "expected"),
    [
        (None, [], State("waiting")),
        (None, ["config.json"], State("interrupted")),
        (START, [], State("interrupted")),
        (START + "half\r a bar\n== end: status 75\n", ["train.csv"], State("interrupted", "offline 1,040")),
        (START + "error: bad\nmore\n\n== end: status 1\n", ["config.json"], State("failed", "", "error: bad")),
        (START + "Traceback\n  x\nKeyError: 3\n== end: status 1\n", [], State("failed", "", "KeyError: 3")),
        (START + "\n== end: status -9\n", [], State("failed", "", "ended by SIGKILL (out of memory?)")),
        (START + "x\n== end: status 139\n", [], State("failed", "", "ended by SIGSEGV; x")),
        (START + "\n== end: status 3\n", [], State("failed", "", "ended with status 3")),
        (START + "error: old\n== end: status 1\n" + START, [], State("interrupted")),
        (START + "error: old\n== end: status 1\n", ["DONE", "train.csv"], State("done", "offline 1,040")),
    ],
)
def test_states_are_read_from_what_is_left_behind(sweep, log, run, expected):
    wanted = sweep.jobs["fql/cube"]
    if log:
        sweep.log(wanted.name).parent.mkdir()
        sweep.log(wanted.name).write_text(log)
    for index, other in enumerate(("trqam/cube", wanted.name) if run else ()):  # it finds its own
        folder = sweep.folder.parent / "cube" / f"fql-{index}"
        folder.mkdir(parents=True)
        nested = {"agent_name": "fql", "run": {"part": other, "group": "g"}, "notes": {}}
        (folder / "config.json").write_text(json.dumps(nested))
    if "train.csv" in run:
        (folder / "train.csv").write_text("env,phase,step,loss\ncube,offline,20,0.5\ncube,offline,1040,0.4\ncube,onl")
    if "DONE" in run:
        (folder / "DONE").touch()
    assert manifest.state(sweep, wanted, {}) == expected
    if expected.kind != "done":
        assert manifest.state(sweep, wanted, {wanted.name: "queued"}).kind == "queued"


def test_a_pool_runs_the_cloning_first_and_the_others_after_a_failure(sweep):
    order(sweep, trqam__cube="fail", qam__cube="crash")
    said = run(sweep, [{"CUDA_VISIBLE_DEVICES": "5"}])
    assert [name for name, _ in diary(sweep)] == ["cloning/cube", "trqam/cube", "qam/cube", "fql/cube", "fql/maze"]
    assert {gpu for _, gpu in diary(sweep)} == {"5"}
    assert said[-1] == "done fql/maze"
    failed = {"trqam/cube": "failed", "qam/cube": "failed"}
    assert kinds(sweep) == {**dict.fromkeys(sweep.jobs, "done"), **failed}
    assert "asked to fail" in manifest.state(sweep, sweep.jobs["trqam/cube"], {}).error
    assert "SIGKILL" in manifest.state(sweep, sweep.jobs["qam/cube"], {}).error
    order(sweep)
    run(sweep)
    assert set(kinds(sweep).values()) == {"done"}
    assert len(diary(sweep)) == 7  # what was done is not started again


def test_nothing_is_started_after_a_cloning_that_failed(sweep):
    order(sweep, cloning__cube="fail")
    run(sweep)
    assert sorted(name for name, _ in diary(sweep)) == ["cloning/cube", "fql/maze"]
    assert kinds(sweep)["qam/cube"] == "waiting"


def test_so_many_at_a_time_until_a_signal_stops_all_and_the_same_goes_on(sweep):
    order(sweep, **dict.fromkeys(("trqam__cube", "qam__cube", "fql__cube"), "slow"))
    pool = subprocess.Popen(
        [sys.executable, "-c", POOL, str(sweep.folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: len(list(sweep.folder.parent.glob("cube/*/under-way"))) == 2)
        assert list(kinds(sweep).values()) == ["done", "running", "running", "waiting", "done"]
    finally:
        pool.send_signal(signal.SIGINT)
        said, _ = pool.communicate(timeout=20)
    assert pool.returncode == os.EX_TEMPFAIL, said
    assert list(kinds(sweep).values()) == ["done", "interrupted", "interrupted", "waiting", "done"]
    assert manifest.state(sweep, sweep.jobs["qam/cube"], {}).place == "offline 7"
    order(sweep)
    run(sweep)
    assert set(kinds(sweep).values()) == {"done"}


POOL = """
import pathlib, sys
from experiments import cli
from experiments.sweeps import engines
from experiments.training import interrupt
from experiments.sweeps import manifest
sweep = manifest.read(pathlib.Path(sys.argv[1]))
try:
    engines.run_local(sweep, [], [{}, {}], print)
except interrupt.Interrupted as error:
    cli.fail(error)
"""


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("count", "gpus", "expected"),
    [
        (2, [], ["", ""]),
        (2, ["0", "1"], ["0", "1"]),
        (2, ["0", "1", "2"], ["0,2", "1"]),
        (3, ["4", "6"], ["4 0.45", "6 0.45", "4 0.45"]),
    ],
)
def test_gpus_go_round(monkeypatch, count, gpus, expected):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert [" ".join(place.values()) for place in engines.places(count, gpus)] == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert engines.visible_gpus() == ["2", "3"]


FAKES = {
    "sbatch": 'n=$(ls $FAKE/*.sh 2> /dev/null | wc -l); cp "$1" $FAKE/$n.sh; echo "Submitted batch job 1$((n + 1))"',
    "srun": "exit ${FAKE_STATUS:-0}",
    "squeue": "cat $FAKE/queue",
    "scontrol": 'echo "$*" >> $FAKE/asked',
}


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """Slurm's commands as far as a submission uses them; sbatch keeps the scripts as 0.sh, 1.sh, ..."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    return folder


def test_slurm_gets_arrays_after_their_cloning_and_nothing_twice(sweep, fake_slurm):
    lines = engines.submit_slurm(sweep, [], [], {"time": 30, "partition": "gpu", "array_parallelism": 2})
    assert lines == [
        "submitted 11_0 to 11_1: cloning/cube, fql/maze",
        "submitted 12_0 to 12_2: trqam/cube, qam/cube, fql/cube",
    ]
    first, second = ((fake_slurm / f"{i}.sh").read_text() for i in range(2))
    for line in ("--partition=gpu", "--time=30", "--requeue", "--signal=USR1@120", "--kill-on-invalid-dep=yes"):
        assert f"#SBATCH {line}\n" in first
    assert "dependency" not in first
    assert "#SBATCH --dependency=afterok:11_0\n" in second
    assert "#SBATCH --array=0-2%2\n" in second
    (fake_slurm / "queue").write_text("11_1 PENDING\n12_0 RUNNING\n99 RUNNING\n")
    assert engines.in_slurm(sweep) == {"fql/maze": "queued", "trqam/cube": "running"}
    lines = engines.submit_slurm(sweep, ["cloning/cube"], engines.in_slurm(sweep), {})
    assert lines == ["submitted 13_0 to 13_1: qam/cube, fql/cube"]
    assert "dependency" not in (fake_slurm / "2.sh").read_text()


@pytest.mark.parametrize(("status", "kind"), [(0, "waiting"), (75, "interrupted"), (1, "failed"), (137, "failed")])
def test_a_batch_script_requeues_what_checkpointed_and_writes_down_what_came(sweep, fake_slurm, status, kind):
    engines.submit_slurm(sweep, [], [], {})
    script = fake_slurm / "1.sh"
    environment = {**os.environ, "FAKE_STATUS": str(status), "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "77"}
    assert subprocess.run(["bash", script], env=environment, check=False).returncode == status
    assert kinds(sweep)["fql/cube"] == kind
    assert (fake_slurm / "asked").exists() == (status == 75)
    if status == 75:
        assert (fake_slurm / "asked").read_text() == "requeue 77\n"


def test_slurm_errors_name_what_is_missing(sweep, fake_slurm, monkeypatch):
    with pytest.raises(UserError, match=r"--slurm: Unavailable parameter.*'partitoin'"):
        engines.submit_slurm(sweep, [], [], {"partitoin": "gpu"})
    (fake_slurm / "sbatch").write_text("#!/bin/bash\necho 'invalid account' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"Slurm took no job: .*invalid account"):
        engines.submit_slurm(sweep, [], [], {})
    (fake_slurm / "squeue").write_text("#!/bin/bash\necho 'no controller' >&2\nexit 1\n")
    (sweep.folder / "submitted.json").write_text('{"fql/maze": "1"}')
    with pytest.raises(UserError, match="squeue: no controller"):
        engines.in_slurm(sweep)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="sbatch is not on this machine"):
        engines.submit_slurm(sweep, [], [], {})


def command(*arguments):
    line = [sys.executable, "experiments/sweep.py", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stats"], ["'stats'", "Did you mean 'status'"]),
        (["status"], ["manifest.json", "there is no sweep"]),
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
    assert "30 jobs with 400 replicas, cloning apart; 30 not measured: --benchmark=FILE.csv" in result.stdout
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
    assert re.search(r"fql/cube-single/seeds-2 +done +offline 20\n", command("status", *place).stdout)
    line = [sys.executable, "experiments/table.py", tmp_path / "real"]
    table = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "seeds: 2" in table
    assert "| FQL " in table
