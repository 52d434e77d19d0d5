"""The states that jobs leave behind."""

import json
import subprocess
import sys

import pytest
from made_sweeps import ROOT

from experiments.row_format import aside
from experiments.sweeps import states
from experiments.sweeps.states import State

ROWS = """env,task,seed,phase,step,loss,variant
cube,1,7,offline,20,0.5,"inv_temp=3.0, kl_budget=0.5"
cube,1,7,offline,1040,0.4,"inv_temp=3.0, kl_budget=0.5"
"""
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
    assert states.Runs(sweep.folder.parent).folder(with_widths(None)) == folder
    assert states.Runs(sweep.folder.parent).folder(with_widths([8])) is None


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


def test_the_states_of_a_sweep_are_told_without_jax_and_pandas(sweep):
    arguments = ["sweep.py", "status", f"--out_dir={sweep.folder.parents[1]}", "--group=g"]
    code = f"""
import contextlib, runpy, sys
sys.argv = {arguments}
with contextlib.suppress(SystemExit):
    runpy.run_path({str(ROOT / "experiments" / "sweep.py")!r}, run_name="__main__")
print(sorted({{"jax", "pandas"}} & sys.modules.keys()))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "5 jobs, 5 waiting" in told
    assert told.endswith("\n[]\n")


def test_what_was_set_aside_is_not_the_jobs_run(sweep):
    folder = sweep.folder.parent / "cube" / "fql-1"
    aside(folder, 1).mkdir(parents=True)
    (aside(folder, 1) / "config.json").write_text('{"agent_name": "fql"}')
    wanted = sweep.jobs["fql/cube"]._replace(settings={"agent_name": "fql"})
    assert states.Runs(sweep.folder.parent).folder(wanted) is None
