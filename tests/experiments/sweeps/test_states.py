"""The states that jobs leave behind."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest
from made_sweeps import ROOT

from experiments import cli
from experiments.row_format import aside
from experiments.sweeps import logs, progress, report, states
from experiments.sweeps.states import State
from trqam_jax.errors import UserError

ROWS = """env,task,seed,phase,step,loss,variant
cube,1,7,offline,20,0.5,"inv_temp=3.0, kl_budget=0.5"
cube,1,7,offline,1040,0.4,"inv_temp=3.0, kl_budget=0.5"
"""
START = "== start: pid 1 on elsewhere, 2026-01-01 00:00:00: python main.py\n"
TIME_COLUMNS = ["phase", "step", "updates_per_second", "eval_seconds", "env_steps_per_second"]
ELSEWHERE = State("elsewhere", "", "on elsewhere, last heard of 0 s ago")


@pytest.mark.parametrize(
    ("log", "run", "expected"),
    [
        (None, [], State("waiting")),
        (None, ["config.json"], State("interrupted")),
        (START, [], ELSEWHERE),
        (START + "half\r a bar\n== end: status 75\n", ["train.csv"], State("interrupted", "offline 1,040")),
        (START + "error: bad\nmore\n\n== end: status 1\n", ["config.json"], State("failed", "", "error: bad")),
        (START + "Traceback\n  x\nKeyError: 3\n== end: status 1\n", [], State("failed", "", "KeyError: 3")),
        (START + "\n== end: status -9\n", [], State("failed", "", "ended by SIGKILL (out of memory?)")),
        (START + "x\n== end: status 139\n", [], State("failed", "", "ended by SIGSEGV; x")),
        (START + "\n== end: status 3\n", [], State("failed", "", "ended with status 3")),
        (START + "error: old\n== end: status 1\n" + START, [], ELSEWHERE),
        (START + "error: old\n== end: status 1\n", ["DONE", "train.csv"], State("done", "offline 1,040")),
    ],
)
def test_states_are_read_from_what_is_left_behind(sweep, log, run, expected):
    wanted = sweep.jobs["fql/cube"]
    if log:
        sweep.log(wanted.name).parent.mkdir()
        sweep.log(wanted.name).write_text(log)
        os.utime(sweep.log(wanted.name), (time.time() + 60,) * 2)
    for index, other in enumerate(("trqam/cube", wanted.name) if run else ()):  # it finds its own
        folder = sweep.folder.parent / "cube" / f"fql-{index}"
        folder.mkdir(parents=True)
        nested = {"agent_name": "fql", "run": {"part": other, "group": "g"}, "notes": {}}
        (folder / "config.json").write_text(json.dumps(nested))
    if "train.csv" in run:
        torn = "" if "DONE" in run else "cube,1,7,onl"
        (folder / "train.csv").write_text(ROWS + torn)
    if "DONE" in run:
        (folder / "DONE").touch()
    assert states.state(sweep, wanted, {}) == expected
    if expected.kind != "done":
        assert states.state(sweep, wanted, {wanted.name: "queued"}).kind == "queued"


def test_a_run_of_an_earlier_version_has_later_settings_at_their_defaults(sweep):
    setting = "agent.actor_hidden_dims"
    with_widths = lambda widths: sweep.jobs["fql/cube"]._replace(settings={"agent_name": "fql", setting: widths})
    folder = sweep.folder.parent / "cube" / "fql-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"agent_name": "fql"}')
    run = states.Runs(sweep).of(with_widths(None))
    assert run is not None
    assert run.folder == folder
    assert states.Runs(sweep).of(with_widths([8])) is None


def test_of_many_jobs_every_configuration_is_read_once(sweep, monkeypatch):
    read, jobs = [], {}
    monkeypatch.setattr(states, "read_json", lambda path: read.append(path) or json.loads(path.read_text()))
    for seed in range(5):
        folder = sweep.folder.parent / "cube" / f"fql-{seed}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"agent_name": "fql", "run": {"seeds": [seed]}}))
        own = {"agent_name": "fql", "run.seeds": [seed]}
        jobs[f"{seed}"] = sweep.jobs["fql/cube"]._replace(name=f"{seed}", settings=own)
    (folder / "DONE").touch()
    found = states.all_states(sweep._replace(jobs=jobs), {})
    assert [one.kind for one in found.values()] == ["interrupted"] * 4 + ["done"]
    assert len(read) == 5


def test_what_was_set_aside_is_not_the_jobs_run(sweep):
    folder = sweep.folder.parent / "cube" / "fql-1"
    aside(folder, 1).mkdir(parents=True)
    (aside(folder, 1) / "config.json").write_text('{"agent_name": "fql"}')
    wanted = sweep.jobs["fql/cube"]._replace(settings={"agent_name": "fql"})
    assert states.Runs(sweep).of(wanted) is None


def started(sweep, name, host, pid=1, silent=0.0):
    """The log of a job that has not ended, and was last written `silent` seconds ago."""
    log = sweep.log(name)
    log.parent.mkdir(exist_ok=True)
    log.write_text(START.replace("elsewhere", host).replace("pid 1", f"pid {pid}"))
    os.utime(log, (time.time() - silent,) * 2)


def run_of(sweep, name, rows, times=(), **config):
    """The folder of a run with these rows of train.csv: (phase, step), and of times.csv: (phase, updates, seconds)."""
    job = sweep.jobs[name]
    length = {"train.offline_steps": 1000, "online.steps": 0, "eval.interval": 100, "eval.episodes": 5, "bc.steps": 100}
    folder = sweep.folder.parent / job.env / f"{job.agent}-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**job.settings, **length, **config}))
    (folder / "train.csv").write_text("phase,step\n" + "".join(f"{phase},{step}\n" for phase, step in rows))
    lines = [f"{phase},0,{updates},{seconds},\n" for phase, updates, seconds in times]
    (folder / "times.csv").write_text(f"{','.join(TIME_COLUMNS)}\n" + "".join(lines))
    for table in ("train", "times"):
        os.utime(folder / f"{table}.csv", (time.time() - 7200,) * 2)
    return folder


@pytest.mark.parametrize(
    ("host", "silent", "evaluation", "kind", "words"),
    [
        ("here", 0, 1, "stale", "process 999999999 is gone"),
        ("gpu7", 60, 1, "elsewhere", "on gpu7, last heard of 1 min ago"),
        ("gpu7", 7200, 1, "stale", "on gpu7, last heard of 2 h 0 min ago"),
        ("gpu7", 7200, 3000, "elsewhere", "on gpu7, last heard of 2 h 0 min ago"),  # it evaluates for long
    ],
)
def test_a_job_that_nobody_ended_is_told_from_one_that_goes_on(sweep, host, silent, evaluation, kind, words):
    started(sweep, "fql/cube", platform.node() if host == "here" else host, 999999999, silent)
    run_of(sweep, "fql/cube", [("offline", 10)], [("offline", "", evaluation)])
    found = states.state(sweep, sweep.jobs["fql/cube"], {})
    assert (found.kind, found.place) == (kind, "offline 10")
    assert words in found.error


@pytest.mark.parametrize("host", ["here", "gpu7"])
def test_a_job_that_says_that_it_was_interrupted_was_whoever_ended_it(sweep, host):
    """A cancelled job's batch script ends with it, and writes down no status."""
    started(sweep, "fql/cube", platform.node() if host == "here" else host, 999999999)
    run_of(sweep, "fql/cube", [("offline", 10)])
    with sweep.log("fql/cube").open("a") as log:
        log.write(f"interrupted by SIGTERM{cli.GOES_ON}\nslurmstepd: error: *** JOB 5 ON {host} CANCELLED ***\n")
    assert states.state(sweep, sweep.jobs["fql/cube"], {}) == states.State("interrupted", "offline 10")


def test_a_long_log_is_read_from_its_end(tmp_path):
    log = tmp_path / "log"
    old = START.replace("pid 1", "pid 2") + "error: old\n== end: status 1\n\n"
    log.write_text(old + START + "no bar\n" * logs.TAIL + "error: new\n\n== end: status 3\n")
    assert logs.last_attempt(log) == logs.Attempt(1, "elsewhere", 3, "error: new")
    log.write_text("")
    assert logs.last_attempt(log) == logs.Attempt(None, "", None, "")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("times", "offline,500,1x,,\n", "updates_per_second is '1x'"),
        ("times", "offline,500,,inf,\n", "eval_seconds is 'inf'"),
        ("times", "ofline,500,1,,\n", "phase is 'ofline'"),
        ("train", "offline,\n", "step is ''"),
    ],
)
def test_damaged_rows_are_named(sweep, name, text, words):
    folder = run_of(sweep, "fql/cube", [("offline", 400)], [("offline", 10, "")])
    with (folder / f"{name}.csv").open("a") as file:
        file.write(text)
    runs = states.Runs(sweep)
    with pytest.raises(UserError, match=rf"{name}\.csv: damaged, {words} in one of its last rows"):
        progress.all_progress(sweep, states.all_states(sweep, {}, runs), runs)


def test_how_far_how_fast_and_how_long(sweep):
    """A job at half its steps, one of the same method that waits, one without anything alike, and a BC job."""
    started(sweep, "fql/cube", "gpu7")
    rates = [("offline", 1, ""), ("offline", 10, ""), ("offline", 10, ""), ("offline", "", 20)]  # first: compilation
    run_of(sweep, "fql/cube", [("offline", 400), ("offline", 500)], rates)
    (run_of(sweep, "trqam/cube", [("offline", 1000)]) / "DONE").touch()
    run_of(sweep, "cloning/cube", [], **{"agent_name": "bc"})
    cloning = sweep.folder.parent / "cube" / "cloned-1"
    (sweep.folder.parent / "cube" / "bc-1").rename(cloning)
    run_of(sweep, "cloning/cube", [], **{"agent_name": "bc"})
    (cloning / "train.csv").write_text("phase,step\nbc,25\n")
    (cloning / "times.csv").write_text(f"{','.join(TIME_COLUMNS)}\nbc,25,5.0,,\n")
    runs = states.Runs(sweep)
    found = states.all_states(sweep, {}, runs)
    assert {name: state.kind for name, state in found.items()} == {
        "cloning/cube": "interrupted",
        "trqam/cube": "done",
        "qam/cube": "waiting",
        "fql/cube": "elsewhere",
        "fql/maze": "waiting",
    }
    details = progress.all_progress(sweep, found, runs)
    assert details["fql/cube"] == (0.5, pytest.approx(10), (pytest.approx(500 / 10 + 5 * 20), ()), False)
    assert details["fql/maze"] == (0, None, (pytest.approx(1000 / 10 + 10 * 20), ()), True)
    assert details["qam/cube"] == (0, None, (None, ()), False)
    assert details["cloning/cube"] == (0.25, None, (pytest.approx(75 / 5), ()), False)
    whole = progress.whole(sweep, found, details)
    assert whole == (pytest.approx(1.75 / 5), pytest.approx(150 + 300 + 15), 1, pytest.approx(465), 1)
    text = report.progress(sweep, found, details)
    assert "35% of all steps done; left: 8 min at 1 job(s) at a time" in text
    assert "not counting what is unknown of 1 job(s)" in text
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "/" in line.split()[0]}
    assert lines["fql/cube"][:7] == ["elsewhere", "50%", "offline", "500", "10", "2", "min"]
    assert lines["fql/maze"] == ["waiting", "0%", "~5", "min"]
    assert lines["qam/cube"] == ["waiting", "0%"]


def test_the_status_waits_for_neither_jax_nor_pandas(sweep):
    place = [f"--out_dir={sweep.folder.parents[1]}", f"--group={sweep.folder.parent.name}"]
    command = [sys.executable, "-X", "importtime", str(ROOT / "experiments" / "sweep.py"), "status", *place]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "5 jobs, 5 waiting" in result.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "experiments" in imported
    assert not {"jax", "flax", "pandas"} & imported
