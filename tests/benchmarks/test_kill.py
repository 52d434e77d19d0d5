"""The campaign of disturbances: a handful of its events, and that it notices what it is there to notice."""

import csv
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import pytest

from benchmarks.kill import conditions, events, faults, record, scenes
from benchmarks.kill.events import KINDS
from benchmarks.kill.places import Where, of_file, where

ROOT = pathlib.Path(__file__).parents[2]
needs_faults = pytest.mark.skipif(
    bool(conditions.allowed()) or not shutil.which("cc"), reason=conditions.allowed() or "no cc"
)
QUICK = ("SIGKILL", "SIGINT", "ENOSPC", "EIO, writing", "EROFS", "short writes", "SIGSTOP, SIGCONT")


@needs_faults
def test_downloads_disturbed_in_seven_ways_are_whole_in_the_end(tmp_path):
    table = tmp_path / "kill.csv"
    options = ["--events=7", "--lanes=1", "--seed=1", "--scenes=download", f"--kinds={';'.join(QUICK)}"]
    command = [sys.executable, "-m", "benchmarks.kill", *options, f"--folder={tmp_path}", f"--table={table}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 7
    assert {(row["outcome"], row["left"]) for row in rows} == {(record.RIGHT, record.EQUAL)}
    assert len({row["kind"] for row in rows}) >= 2  # a download may be over before what was to disturb it


HOLD = """
import pathlib, sys
from experiments.training import lock
with lock.hold(folder := pathlib.Path(sys.argv[1]), wait=False):
    lock.check(folder)
    print((folder / lock.NAME).read_text(), end="")
"""


@needs_faults
def test_a_lock_has_its_holders_whole_name_where_the_system_writes_in_parts(tmp_path):
    harm = faults.Faults(tmp_path / "control")
    harm.arm(faults.Action.SHORT, faults.Call.WRITE, tmp_path)
    environment = os.environ | {"LD_PRELOAD": str(faults.build(tmp_path)), faults.VARIABLE: str(harm.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert harm.struck().endswith("/lock")
    assert re.fullmatch(r"pid \d+ on host .+\n", result.stdout), result.stdout + result.stderr
    assert (tmp_path / "lock").read_text() == ""


def ended(status, text, kind=None, scene="run", happened=True):
    """What is said of a process that ended so after an event of that kind."""
    event = events.Event(kind or "none", "offline", "", "") if happened else None
    process = types.SimpleNamespace(status=status, text=lambda: text)
    return events.ended_well(kind and KINDS[kind], types.SimpleNamespace(kind=scene), process, event)


def test_ends_that_are_right_and_wrong():
    line = "interrupted by SIGTERM; the same command goes on from there\n"
    assert ended(0, "") == ""
    assert ended(-9, "", "SIGKILL") == ""
    assert ended(75, line, "SIGTERM") == ""
    assert ended(1, "error: eval.csv: cannot be written (No space left on device)", "ENOSPC") == ""
    assert ended(1, "error: worker 0 died with exit code -9; start the run again", "a worker killed") == ""
    assert "for no reason" in ended(1, "error: x")
    assert "for no reason" in ended(1, "error: x", "ENOSPC", happened=False)
    assert "a traceback" in ended(75, f"Traceback (most recent call last):\n{line}", "SIGTERM")
    assert "status 75 after SIGKILL" in ended(75, line, "SIGKILL")
    assert "status 75 after SIGTERM" in ended(75, line, "SIGTERM", scene="files")
    assert "status 1" in ended(1, "KeyError: 'x'", "ENOSPC")
    assert "status 1" in ended(1, "error: something else", "a worker hangs")


def test_where_a_run_is(tmp_path):
    run, cloned = tmp_path / "default" / "room" / "fql-1", tmp_path / "default" / "room" / "cloned-1"
    for folder in (run, cloned):
        (folder / "checkpoints").mkdir(parents=True)
    columns = "env,task,agent,seed,phase,step\n"
    assert where(tmp_path, "") == Where("set-up")
    (cloned / "train.csv").write_text(f"{columns}room,,bc,0,bc,40\n")
    said = "bc: memory 0\n"
    assert where(tmp_path, said) == Where("cloning", "bc", 40)
    said += "BC policy: x\n"
    assert where(tmp_path, said) == Where("evaluation", "bc")
    said += "offline: memory 0\n"
    (run / "eval.csv").write_text(f"{columns}room,1,fql,1,bc,160\n")
    (run / "train.csv").write_text(f"{columns}room,1,fql,1,offline,40\nroom,1,fql,1,offl")
    assert where(tmp_path, said) == Where("offline", "offline", 40)
    (run / "train.csv").write_text(f"{columns}room,1,fql,1,offline,80\n")
    assert where(tmp_path, said) == Where("evaluation", "offline", 80)
    (run / "checkpoints" / ".offline-80.new").mkdir()
    assert where(tmp_path, said) == Where("checkpoint", "offline", 80)
    now = Where("offline", "offline", 80)
    assert of_file(f"{run}/checkpoints/.offline-80.new/tree/d/x", now).place == "checkpoint"
    assert of_file(f"{run}/eval.csv.tmp", now).place == "rows"
    assert of_file(f"{run}/config.json.tmp", now).place == "set-up"


def test_what_a_run_may_not_leave_is_found(tmp_path):
    (tmp_path / "checkpoints" / ".bc-3.new").mkdir(parents=True)
    (tmp_path / "data.npz.part").touch()
    (tmp_path / "eval.csv").touch()
    assert scenes.leftovers(tmp_path) == ["checkpoints/.bc-3.new", "data.npz.part"]
