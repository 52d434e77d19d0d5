"""A sweep on this machine, with a stand-in for main.py."""

import os
import signal
import subprocess
import sys

import pytest
from made_sweeps import ROOT, diary, kinds, order, run, wait_for

from experiments.sweeps import attempt, local, states


def test_a_pool_runs_the_cloning_first_and_the_others_after_a_failure(sweep):
    order(sweep, trqam__cube="fail", qam__cube="crash")
    said = run(sweep, [{"CUDA_VISIBLE_DEVICES": "5"}])
    assert [name for name, _ in diary(sweep)] == ["cloning/cube", "trqam/cube", "qam/cube", "fql/cube", "fql/maze"]
    assert {gpu for _, gpu in diary(sweep)} == {"5"}
    assert said[-1] == "done fql/maze"
    failed = {"trqam/cube": "failed", "qam/cube": "failed"}
    assert kinds(sweep) == {**dict.fromkeys(sweep.jobs, "done"), **failed}
    assert "asked to fail" in states.state(sweep, sweep.jobs["trqam/cube"], {}).error
    assert "SIGKILL" in states.state(sweep, sweep.jobs["qam/cube"], {}).error
    order(sweep)
    run(sweep)
    assert set(kinds(sweep).values()) == {"done"}
    assert len(diary(sweep)) == 7  # what was done is not started again


def test_nothing_is_started_after_a_cloning_that_failed(sweep):
    order(sweep, cloning__cube="fail")
    run(sweep)
    assert sorted(name for name, _ in diary(sweep)) == ["cloning/cube", "fql/maze"]
    assert kinds(sweep)["qam/cube"] == "waiting"


def test_a_device_that_fails_gets_no_further_jobs_and_the_others_do_them(sweep):
    order(sweep, **dict.fromkeys(("trqam__cube", "qam__cube", "fql__cube", "fql__maze"), "broken 5"))
    said = run(sweep, [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "6"}])
    assert set(kinds(sweep).values()) == {"done"}
    assert [gpu for name, gpu in diary(sweep) if name != "cloning/cube"].count("5") == 2
    assert any("no further job gets CUDA_VISIBLE_DEVICES=5" in line for line in said)


def test_where_no_device_is_left_the_rest_waits(sweep):
    order(sweep, **dict.fromkeys(sweep.jobs, "broken 5"))
    said = run(sweep, [{"CUDA_VISIBLE_DEVICES": "5"}])
    assert [name for name, _ in diary(sweep)] == ["cloning/cube", "fql/maze"]
    assert kinds(sweep)["cloning/cube"] == "failed"
    assert states.state(sweep, sweep.jobs["fql/maze"], {}).error == "error: the device failed"
    assert said[-1] == "2 job(s) wait for a device; `retry` starts them: cloning/cube, fql/maze"


def test_a_job_on_which_devices_fail_is_started_three_times(sweep):
    order(sweep, trqam__cube="broken ")
    run(sweep, [{}, {}])
    assert [name for name, _ in diary(sweep)].count("trqam/cube") == 3
    assert kinds(sweep) == {**dict.fromkeys(sweep.jobs, "done"), "trqam/cube": "failed"}


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
    assert states.state(sweep, sweep.jobs["qam/cube"], {}).place == "offline 7"
    order(sweep)
    run(sweep)
    assert set(kinds(sweep).values()) == {"done"}


POOL = """
import pathlib, sys
from experiments import cli
from experiments.sweeps import local, manifest
from experiments.training import interrupt
sweep = manifest.read(pathlib.Path(sys.argv[1]))
try:
    local.run(sweep, [], [{}, {}], print)
except interrupt.Interrupted as error:
    cli.fail(error)
"""


@pytest.mark.parametrize(("count", "expected"), [(1, [""]), (2, ["0,3", "1"]), (3, ["0", "1", "3"]), (4, [""] * 4)])
def test_without_gpus_the_processors_are_shared_out_while_there_are_enough(monkeypatch, count, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 3})
    assert [" ".join(place.values()) for place in local.environments(count, [])] == expected


def test_a_job_has_its_processors_alone(sweep):
    run(sweep, [{attempt.PROCESSORS: "0"}])
    assert {place for _, place in diary(sweep)} == {"processors:0"}


@pytest.mark.parametrize(
    ("count", "gpus", "expected"),
    [
        (2, ["0", "1"], ["0", "1"]),
        (2, ["0", "1", "2"], ["0,2", "1"]),
        (3, ["4", "6"], ["4 0.45", "6 0.45", "4 0.45"]),
    ],
)
def test_gpus_go_round(monkeypatch, count, gpus, expected):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert [" ".join(place.values()) for place in local.environments(count, gpus)] == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local.visible_gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,-1,3")  # CUDA stops at -1
    assert local.visible_gpus() == ["2"]
