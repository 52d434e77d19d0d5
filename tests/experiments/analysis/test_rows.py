"""What a run wrote comes back typed, each run once; damage is named with its file and line."""

import math
import re

import pytest
from made_runs import EVAL, write_run

from experiments.analysis.rows import read_runs, read_train
from trqam_jax.errors import UserError


def test_a_run_comes_back_typed(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "trqam-0", [{"success": 0.06}], kl_budget=1.0)])
    assert run.config["agent.kl_budget"] == 1.0
    assert run.config["run.seeds"] == [7]
    assert not any(key.startswith("notes") for key in run.config)
    assert run.finished
    (row,) = run.eval
    assert row == dict(
        variant="", env="cube-single", task=1, agent="trqam", seed=7, phase="offline", step=1_000_000, episodes=50,
        success=0.06, length=2.0, status="ok", **{"return": -1.5},
    )  # fmt: skip
    write_run(tmp_path / "trqam-1", [{"variant": "kl_budget=0.5"}], columns=[*EVAL, "variant"])
    (run,) = read_runs([tmp_path / "trqam-1"])
    assert run.eval[0]["variant"] == "kl_budget=0.5"


def test_runs_are_found_below_a_parent_once_and_cloning_is_none(tmp_path):
    folders = [write_run(tmp_path / "g" / name) for name in ("qam-1", "trqam-0")]
    write_run(tmp_path / "g" / "cloned-2")
    assert [run.folder for run in read_runs([tmp_path, folders[0]])] == folders


def test_train_rows_and_empty_numbers(tmp_path):
    folder = write_run(tmp_path / "bc-0")
    assert read_train(folder) == []
    (folder / "train.csv").write_text("task,seed,phase,step,flow_loss\n,0,bc,10,0.5\n,0,bc,20,\n")
    first, second = read_train(folder)
    assert first == {"task": "", "seed": 0, "phase": "bc", "step": 10, "flow_loss": 0.5}
    assert math.isnan(second["flow_loss"])


@pytest.mark.parametrize("kept", [20, 50])
def test_a_half_written_last_line_of_a_run_that_goes_on_is_left_out(tmp_path, kept):
    folder = write_run(tmp_path / "a", [{}, {}], done=False)
    text = (folder / "eval.csv").read_text()
    start = text.rindex("cube-single,")
    (folder / "eval.csv").write_text(text[: start + kept])
    (run,) = read_runs([folder])
    assert len(run.eval) == 1
    assert not run.finished


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("eval.csv", ",".join(EVAL) + "\ncube-single,1,trqam,x,offline,5,50,.1,1,1,ok\n", "damaged in line 2: 'cube"),
        ("eval.csv", ",".join(EVAL) + "\ncube-single,1,trqam\n", "damaged in line 2: 'cube"),
        ("eval.csv", b"\xff\xfe\x00", "damaged, no CSV"),
        ("config.json", "{", "missing or damaged"),
        ("versions.json", "{}", "damaged, it has no trqam_jax, jax"),
    ],
)
def test_damage_is_named(tmp_path, name, content, message):
    folder = write_run(tmp_path / "a")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(f"{folder / name}: ") + message):
        read_runs([folder])


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no run there"):
        read_runs([tmp_path])
