"""What a run wrote comes back typed, each run once; damage is named with its file and line."""

import json
import math
import os
import pathlib
import re

import numpy as np
import pytest
from made_runs import EVAL, write_run

from experiments.analysis import row_files
from experiments.analysis.rows import parse_variant, read_run, read_runs
from experiments.row_format import NO_TASK
from trqam_jax.errors import UserError


def test_a_run_comes_back_typed(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "trqam-0", [{"success": 0.06}], kl_budget=1.0)])
    assert run.config["agent.kl_budget"] == 1.0
    assert run.config["run.seeds"] == [7]
    assert not any(key.startswith("notes") for key in run.config)
    assert run.finished
    (row,) = run.eval.to_dict("records")
    assert row == dict(
        variant="", env="cube-single", task=1, agent="trqam", seed=7, phase="offline", step=1_000_000, episodes=50,
        success=0.06, length=2.0, status="ok", method="TRQAM", total_step=1_000_000, **{"return": -1.5},
    )  # fmt: skip
    write_run(tmp_path / "trqam-1", [{"variant": "kl_budget=0.5"}], columns=[*EVAL, "variant"])
    (run,) = read_runs([tmp_path / "trqam-1"])
    (row,) = run.eval.to_dict("records")
    assert (row["variant"], row["method"]) == ("kl_budget=0.5", "TRQAM (kl_budget=0.5)")


def test_runs_are_found_below_a_parent_once_and_cloning_is_none(tmp_path):
    folders = [write_run(tmp_path / "g" / name) for name in ("qam-1", "trqam-0")]
    write_run(tmp_path / "g" / "cloned-2")
    assert [run.folder for run in read_runs([tmp_path, folders[0]])] == folders


def test_what_was_set_aside_is_no_run(tmp_path):
    """Neither below a parent, nor by its own name or another one; a renamed one is read."""
    kept = write_run(tmp_path / "g" / "trqam-0", seeds=(3,))
    old = write_run(tmp_path / "g" / "old-12-trqam-0", seeds=(1,))
    (tmp_path / "g" / "trqam-1").symlink_to(old)
    assert [run.folder for run in read_runs([tmp_path])] == [kept]
    for path in (old, tmp_path / "g" / "trqam-1"):
        with pytest.raises(UserError, match=r"no run there; .*set aside by --resume=never; give it another name"):
            read_runs([path])
    renamed = old.rename(tmp_path / "g" / "first")
    assert [run.folder for run in read_runs([renamed])] == [renamed]


def test_runs_behind_links_are_read_once(tmp_path):
    """A group, and the links in a circle."""
    folder = write_run(tmp_path / "scratch" / "g" / "trqam-0")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "g").symlink_to(tmp_path / "scratch" / "g")
    (runs / "again").symlink_to(folder)
    (folder / "up").symlink_to(runs)
    assert [run.folder for run in read_runs([runs])] == [runs / "again"]  # the first by name
    assert (runs / "again").resolve() == folder


def test_folders_that_go_meanwhile_are_no_error(tmp_path, monkeypatch):
    """A run that goes on renames its checkpoints; what cannot be read is still an error."""
    folder = write_run(tmp_path / "g" / "trqam-0")
    (folder / "checkpoints").mkdir()
    error, scandir = FileNotFoundError("gone"), os.scandir

    def scan(path):
        if pathlib.Path(path).name == "checkpoints":
            raise error
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    assert [run.folder for run in read_runs([tmp_path])] == [folder]
    error = PermissionError("closed")
    with pytest.raises(PermissionError, match="closed"):
        read_runs([tmp_path])


def test_train_rows_and_empty_numbers(tmp_path):
    folder = write_run(tmp_path / "bc-0")
    assert read_run(folder).train.empty
    (folder / "train.csv").write_text("task,seed,phase,step,flow_loss\n,0,bc,10,0.5\n,0,bc,20,\n")
    first, second = read_run(folder).train.to_dict("records")
    common = {"task": NO_TASK, "seed": 0, "phase": "bc", "variant": "", "method": "TRQAM", "total_step": 0}
    assert first == {**common, "step": 10, "flow_loss": 0.5}
    assert math.isnan(second["flow_loss"])


def test_floats_are_read_exactly(tmp_path):
    """Whatever float32 or float64 a run wrote, by its shortest text."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 2**64, 2_000, dtype=np.uint64).view(np.float64)
    narrow = rng.integers(0, 2**32, 2_000, dtype=np.uint32).view(np.float32)
    texts = [str(x) for x in [*wide[np.isfinite(wide)], *narrow[np.isfinite(narrow)], np.inf, -np.inf, np.nan]]
    folder = write_run(tmp_path / "a")
    lines = [f"1,0,offline,{i},{text}" for i, text in enumerate(texts)]
    (folder / "train.csv").write_text("\n".join(["task,seed,phase,step,loss", *lines, ""]))
    np.testing.assert_array_equal(read_run(folder).train.loss, [float(text) for text in texts])


def test_online_steps_count_on_from_the_runs_own_offline_ones(tmp_path):
    rows = [{"phase": "bc", "step": 300}, {"phase": "offline", "step": 9}, {"phase": "online", "step": 40}]
    folder = write_run(tmp_path / "a", rows)
    assert list(read_run(folder).eval.total_step) == [0, 9, 1_000_040]
    (folder / "train.csv").write_text("task,seed,phase,step\n1,7,offline,9\n1,7,online,40\n")
    assert list(read_run(folder).train.total_step) == [9, 1_000_040]


def test_online_steps_of_a_method_without_an_offline_phase_count_on_from_the_protocols(tmp_path):
    """So that they stand beside those of other methods; an offline phase of its own counts as it is."""
    folder = write_run(tmp_path / "a", [{"phase": "online", "step": 40}], agent="rlpd", protocol="qam")
    config = json.loads((folder / "config.json").read_text())
    for own, expected in ((0, 1_000_040), (500, 540)):
        config["train"]["offline_steps"] = own
        (folder / "config.json").write_text(json.dumps(config))
        assert list(read_run(folder).eval.total_step) == [expected]


def test_variants_are_what_runs_sweep_and_what_they_differ_in(tmp_path):
    """A swept setting is told by the rows, any other one by the configurations, of one domain."""
    rows = [{"variant": f"inv_temp={x}, kl_budget={y}"} for x in (1.0, 3.0) for y in (0.5, 1.0)]
    swept = dict(inv_temp=[1.0, 3.0], columns=[*EVAL, "variant"], agent="qam")
    write_run(tmp_path / "a", rows, **swept, rho=0.5)
    write_run(tmp_path / "b", rows[:1], **swept, rho=0.0)
    write_run(tmp_path / "c", [{}], agent="qam", env="scene", rho=0.25)
    first, second, third = read_runs([tmp_path])
    assert list(first.eval.method) == [f"QAM ({row['variant']}, rho=0.5)" for row in rows]
    assert first.variants["inv_temp=3.0, kl_budget=0.5, rho=0.5"] == {"rho": 0.5, "inv_temp": 3.0, "kl_budget": 0.5}
    assert list(second.eval.variant) == ["inv_temp=1.0, kl_budget=0.5, rho=0.0"]
    assert list(third.eval.method) == ["QAM"]
    assert list(read_run(tmp_path / "a").eval.variant) == [row["variant"] for row in rows]


def test_a_variant_is_names_and_numbers():
    assert parse_variant("inv_temp=3.0, kl_budget=1e-05") == {"inv_temp": 3.0, "kl_budget": 1e-05}
    assert parse_variant("") == {}
    with pytest.raises(ValueError, match="could not convert"):
        parse_variant("half")


@pytest.mark.parametrize("kept", [20, 50])
def test_a_half_written_last_line_of_a_run_that_goes_on_is_left_out(tmp_path, kept):
    folder = write_run(tmp_path / "a", [{}, {}], done=False)
    text = (folder / "eval.csv").read_text()
    start = text.rindex("cube-single,")
    (folder / "eval.csv").write_text(text[: start + kept])
    (run,) = read_runs([folder])
    assert len(run.eval) == 1
    assert not run.finished


SOUND = "cube-single,1,trqam,7,offline,5,50,.1,1,1,ok\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("eval.csv", ",".join(EVAL) + "\ncube-single,1,trqam,x,offline,5,50,.1,1,1,ok\n", "damaged in line 2: 'cube"),
        ("eval.csv", ",".join(EVAL) + "\ncube-single,1,trqam\n", "damaged in line 2: 'cube"),
        (
            "eval.csv",
            ",".join(EVAL) + "\n" + SOUND + SOUND + "cube-single,1,trq",
            "damaged in line 4: 'cube-single,1,t",
        ),
        ("eval.csv", ",".join(EVAL) + "\n" + SOUND.replace("offline", "off"), "damaged in line 2: 'cube"),
        ("eval.csv", ",".join(EVAL) + "\n" + SOUND.replace(",5,", ",,"), "damaged in line 2: 'cube"),
        ("eval.csv", ",".join([*EVAL, "variant"]) + "\n" + SOUND.replace("ok", "ok,x"), "damaged in line 2: 'cube"),
        ("eval.csv", "env,task\n", "damaged, it has no column agent, seed, phase, step, success, status"),
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


@pytest.mark.parametrize(("key", "column", "other"), [("agent_name", "agent", "fql"), ("env", "env", "scene")])
def test_rows_are_of_the_run_that_their_configuration_names(tmp_path, key, column, other):
    write_run(tmp_path / "a", [{}])
    folder = write_run(tmp_path / "b", [{}])
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, key: other}))
    with pytest.raises(UserError, match=f"b: eval.csv has rows of the {column} '.*', config.json says '{other}'"):
        read_runs([tmp_path])


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no run there"):
        read_runs([tmp_path])


def test_files_with_the_same_columns_are_parsed_at_once_and_damage_is_named_in_its_own(tmp_path, monkeypatch):
    parsed = []
    read = row_files.pd.read_csv
    monkeypatch.setattr(row_files.pd, "read_csv", lambda *given, **how: parsed.append(1) or read(*given, **how))
    for seed in range(4):
        write_run(tmp_path / f"a-{seed}", [{"success": seed / 4}] * seed, seeds=[seed])
    write_run(tmp_path / "b", [{"variant": "kl_budget=0.5"}], columns=[*EVAL, "variant"])
    runs = read_runs([tmp_path])
    assert [list(run.eval.success) for run in runs] == [[], [0.25], [0.5] * 2, [0.75] * 3, [0.5]]
    assert [list(run.eval.index) for run in runs] == [[], [0], [0, 1], [0, 1, 2], [0]]
    assert list(runs[-1].eval.method) == ["TRQAM (kl_budget=0.5)"]
    assert len(parsed) == 2
    damaged = tmp_path / "a-2" / "eval.csv"
    text = damaged.read_text()
    for end in ("ok,ok\n", '"ok\n'):  # a quotation mark without an end would take in the next file
        damaged.write_text(text.removesuffix("ok\n") + end)
        with pytest.raises(UserError, match=r"a-2/eval\.csv: damaged"):
            read_runs([tmp_path])
