"""A sweep on a real Slurm: python -m pytest -m slurm. Some minutes; no part of the usual tests."""

import pathlib
import subprocess
import sys
import time

import cluster
import pytest

from experiments.sweeps import manifest, states
from experiments.sweeps import slurm as slurm_engine
from experiments.training.csv_rows import read_csv

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(cluster.missing()), reason=cluster.missing()),
]

TINY = [
    *("--agents=trqam,fql", "--envs=cube-single-task1", "--seeds=1,2", "--protocol=quick", "--dataset=generate"),
    *("--dataset_episodes=2", "--bc_steps=40", "--offline_steps=1200", "--log_interval=40", "--save_interval=1000"),
    *("--eval_interval=600", "--eval_episodes=2", "--config.agent.hidden_dims=16,16", "--config.agent.flow_steps=2"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    pytest.importorskip("submitit", reason="submitit is not installed")
    with cluster.running(tmp_path_factory.mktemp("cluster")) as environment, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        yield


def sweep(*arguments):
    command = [sys.executable, "experiments/sweep.py", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout


def ask(*command):
    return subprocess.run(command, text=True, capture_output=True, check=False).stdout


def wait_for(condition, seconds, *, hurry=True):
    """hurry: Slurm holds back for two minutes what it has queued again; not here."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, ask("squeue", "--format=%i %j %T %r") or "it never came to that"
        held = ask("squeue", "--noheader", "--array", "--format=%i %r").splitlines() if hurry else []
        for line in held:
            if line.endswith(" BeginTime"):
                ask("scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now")
        time.sleep(0.5)


def kinds(one):
    queue = slurm_engine.under_way(one)
    return {name: states.state(one, job, queue).kind for name, job in one.jobs.items()}


def test_a_preempted_job_is_requeued_and_leaves_the_rows_of_one_that_was_not(slurm, tmp_path):
    places = [f"--out_dir={tmp_path}", f"--dataset_dir={tmp_path / 'data'}"]
    print(sweep(*TINY, *places, "--group=slurm", "--engine=slurm", "--slurm=time=30"))
    one = manifest.read(manifest.folder_of(str(tmp_path), "slurm"))
    wait_for(lambda: list((tmp_path / "slurm").glob("cube-single/trqam-*/train.csv")), 1200)
    preempting = ask("sbatch", "--parsable", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: not ask("squeue", "--noheader", f"--jobs={preempting.strip()}"), 300)
    wait_for(lambda: set(kinds(one).values()) == {"done"}, 1500)
    log = one.log("trqam/cube-single").read_text()
    assert log.count("== start: ") == 2
    assert "interrupted by SIGTERM" in log
    assert "going on from" in log
    print(sweep(*TINY, *places, "--group=local"))
    assert "3 jobs, 3 done" in sweep("status", *places, "--group=local")
    for agent in ("trqam", "fql"):
        (ours,), (theirs,) = ((tmp_path / group).glob(f"cube-single/{agent}-*") for group in ("slurm", "local"))
        assert len(read_csv(ours / "train.csv")) == 1200 // 40 * 2  # seeds
        for table in ("train.csv", "eval.csv"):
            assert (ours / table).read_bytes() == (theirs / table).read_bytes()


@pytest.fixture
def stand_ins(tmp_path):
    """A job that goes on until a signal, and one that comes after it; their main.py is the stand-in."""
    jobs = [("fql/maze", []), ("fql/cube", ["fql/maze"])]
    argv = [f"--out_dir={tmp_path}", "--group=g"]
    made = {
        name: manifest.Job(name, "fql", name[4:], [*argv, f"--env={name[4:]}"], after, 1, 9, {"run.part": name})
        for name, after in jobs
    }
    program = str(ROOT / "tests" / "stand_in.py")
    one = manifest.Sweep(manifest.folder_of(str(tmp_path), "g"), program, str(tmp_path), made)
    manifest.write(one)
    (tmp_path / "do.json").write_text('{"fql/maze": "slow"}')
    return one


def test_a_job_whose_time_is_over_is_requeued_and_what_comes_after_it_waits(slurm, stand_ins):
    slurm_engine.submit(stand_ins, [], [], {"time": 2, "signal_delay_s": 100})
    wait_for(lambda: list(stand_ins.folder.parent.glob("maze/*/under-way")), 60)
    assert kinds(stand_ins) == {"fql/maze": "running", "fql/cube": "queued"}
    wait_for(lambda: set(kinds(stand_ins).values()) == {"done"}, 240)
    log = stand_ins.log("fql/maze").read_text()
    assert log.count("== start: ") == 2
    assert "== end: status 75" in log
    assert "DUE TO TIME LIMIT" not in log


def test_a_job_whose_device_fails_is_requeued_twice_and_has_then_failed(slurm, stand_ins):
    (stand_ins.folder.parents[1] / "do.json").write_text('{"fql/maze": "broken "}')
    slurm_engine.submit(stand_ins, [], [], {"time": 30})
    wait_for(lambda: kinds(stand_ins) == {"fql/maze": "failed", "fql/cube": "waiting"}, 600)
    log = stand_ins.log("fql/maze").read_text()
    assert log.count("== start: ") == log.count("== end: status 69") == 3


def test_a_cancelled_job_is_not_requeued(slurm, stand_ins):
    slurm_engine.submit(stand_ins, [], [], {"time": 30})
    wait_for(lambda: list(stand_ins.folder.parent.glob("maze/*/under-way")), 60)
    ask("scancel", manifest.read_json(stand_ins.folder / "submitted.json")["fql/maze"])
    wait_for(lambda: kinds(stand_ins) == {"fql/maze": "interrupted", "fql/cube": "waiting"}, 120)
    assert ask("squeue", "--noheader") == ""
