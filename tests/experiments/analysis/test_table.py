"""The published tables rebuilt cell by cell, the convention on made data, and that nothing missing goes unsaid."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from made_runs import EVAL, TASKS, VERSIONS, read_markdown, read_tidy, runs_of_a_domain, shown, write_run

import envs
from experiments import table
from experiments.analysis import cells, grid
from experiments.analysis import statistics as aggregates
from experiments.analysis.cells import ALL, Cell, benchmarks, rounded, with_alls
from experiments.analysis.published import differing_alls, published, published_rows
from trqam_jax.errors import UserError

(BENCHMARK,) = benchmarks().values()

# The published tables


def test_every_published_cell_of_the_trqam_paper_is_rebuilt():
    rebuilt = read_markdown(shown("--published=trqam_paper"))
    rows = published_rows("trqam_paper")
    assert len(rows) == 8 * 11
    for row in rows:
        column = ALL if row["scope"] == ALL else envs.parse_env(row["scope"])[0].name
        std = f" ± {row['std_percent_ddof1']}" if row["std_percent_ddof1"] else ""
        assert rebuilt[row["method"]][column].strip("*") == row["mean_percent"] + std
    alls = [rebuilt[name][ALL].strip("*") for name in ("FQL", "CGQL-L", "DSRL", "IFQL", "QAM", "QAM-E", "TRQAM")]
    assert alls == ["28", "23", "46", "35", "35", "45", "68"]


def test_the_published_all_follows_from_the_domains_alone():
    """`published` forgets the file's own "all": what it gives is made from the ten domains, by the convention."""
    own = {row["method"]: row["mean_percent"] for row in published_rows("trqam_paper") if row["scope"] == ALL}
    for row in with_alls(published("trqam_paper", 1_000_000)):
        means = [rounded(row.cells[name].mean) for name in BENCHMARK]
        assert row.cells[ALL].mean == pytest.approx(sum(means) / 10)
        assert str(rounded(row.cells[ALL].mean)) == own[row.method]
    assert differing_alls("trqam_paper", 1_000_000, published("trqam_paper", 1_000_000)) == []


@pytest.mark.parametrize(("phase", "step"), [("offline", 1_000_000), ("online", 1_500_000)])
def test_every_published_cell_of_the_qam_paper_is_rebuilt(phase, step):
    """Its own "all" is not rounded in between; where that makes another number the caption says so."""
    text = shown("--published=qam_paper", f"--phase={phase}", "--format=csv")
    rebuilt = {(row["method"], row["scope"]): row for row in read_tidy(text)}
    rows = [row for row in published_rows("qam_paper") if int(row["step"]) == step]
    assert len(rebuilt) == len(rows) == 61 * (16 if phase == "offline" else 17)
    differing = []
    for row in rows:
        own = rebuilt[row["method"], row["scope"]]
        if row["scope"] != ALL:
            assert [float(own[key]) for key in ("mean_percent", "std_percent_ddof1")] == [
                float(row[key]) for key in ("mean_percent", "std_percent_ddof1")
            ]
        elif rounded(float(own["mean_percent"])) != rounded(float(row["mean_percent"])):
            differing.append(f"{row['method']} {row['mean_percent']}")
    assert differing == {"offline": ["DAC 36.49", "QAM-F 45.4"], "online": ["FQL 82.49"]}[phase]
    assert ", ".join(differing) in shown("--published=qam_paper", f"--phase={phase}")


def test_published_tasks_and_steps():
    per_task = read_markdown(shown("--published=qam_paper", "--per_task"))
    assert len(per_task) == 50
    assert per_task["antmaze-large-task1"]["ReBRAC"] == "**98 ± 2**"
    with pytest.raises(UserError, match="no result of a single task"):
        shown("--published=trqam_paper", "--per_task")
    with pytest.raises(UserError, match="trqam_paper has nothing at step 7, only at 1000000"):
        shown("--published=trqam_paper", "--step=7")


# Third-party reruns, and domains of one task


RERUN_METHOD = "TRQAM (third-party rerun)"


def test_third_party_reruns_are_labelled_so_even_alone():
    text = shown("--published=trqam_reruns")
    assert read_markdown(text) == {
        RERUN_METHOD: {
            "robomimic-lift": "95 (? seeds)",
            "robomimic-can": "83 (? seeds)",
            "robomimic-square": "53 (? seeds)",
        }
    }
    assert "Third-party rerun: not the paper's own numbers" in text
    assert "seeds: 4 or ?" in text
    per_task = read_markdown(shown("--published=trqam_reruns", "--per_task"))
    assert list(per_task) == [
        *("humanoidmaze-medium-task1", "cube-triple-task2"),
        *("robomimic-lift", "robomimic-can", "robomimic-square"),
    ]
    assert per_task["cube-triple-task2"] == {RERUN_METHOD: "**35 ± 3**", "QAM (third-party rerun)": "13 ± 9"}
    assert per_task["humanoidmaze-medium-task1"] == {RERUN_METHOD: "**93 ± 3**", "QAM (third-party rerun)": "28 ± 26"}
    assert per_task["robomimic-square"] == {RERUN_METHOD: "53 (? seeds)", "QAM (third-party rerun)": "-"}
    tidy = {row["scope"]: row for row in read_tidy(shown("--published=trqam_reruns", "--format=csv"))}
    assert [tidy["can-mh"][key] for key in ("n_seeds", "mean_percent", "std_percent_ddof1")] == ["?", "83.4", ""]
    assert {row["source"] for row in tidy.values()} == {"third-party rerun"}


def test_reruns_beside_ours_leave_the_bold_to_what_says_its_seeds(tmp_path):
    runs_of_a_domain(tmp_path / "a", "robomimic-can", tasks=(1,), success=lambda *_: 0.5)
    rows = read_markdown(shown(tmp_path, "--published=trqam_reruns"))
    assert rows["TRQAM (ours)"]["robomimic-can"] == "**50 ± 0**"
    assert rows[RERUN_METHOD]["robomimic-can"] == "83 (? seeds)"


def test_captions_state_the_episode_limits_that_no_benchmark_fixes(tmp_path):
    runs_of_a_domain(tmp_path / "a", "robomimic-can", tasks=(1,))
    runs_of_a_domain(tmp_path / "b", "robomimic-square", tasks=(1,))
    runs_of_a_domain(tmp_path / "c", "scene")
    assert "Episode limits in steps: robomimic-can 300, robomimic-square 400." in shown(tmp_path)
    per_task = read_markdown(shown(tmp_path / "a", "--per_task"))
    assert per_task == {"robomimic-can": {"TRQAM": "**50 ± 0**"}}  # its only task needs no number
    for name, limit in (("b", 500), ("c", 100)):
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eval": {"episode_limit": limit}}))
    assert "steps: scene 100, robomimic-can 300, robomimic-square 500." in shown(tmp_path)
    # The reruns beside them had the domain's own.
    text = shown(tmp_path, "--published=trqam_reruns")
    assert "robomimic-lift 300, robomimic-can 300, robomimic-square 400 and 500." in text
    assert "Episode limits" not in shown("--published=trqam_paper")
    text = shown(tmp_path / "c", "--published=rql_paper", "--mixed")
    assert "Episode limits in steps: scene 100 and 750." in text


def test_the_rql_paper_as_transcribed():
    text = shown("--published=rql_paper")
    row = read_markdown(text)["RQL"]
    assert (row["puzzle-3x3"], row[ALL]) == ("**100**", "**56**")
    assert "it says 2M steps, its commands 1M" in text


def test_a_later_paper_stands_beside_the_one_whose_protocol_it_used():
    """No cell of the earlier one changes but for what is bold; each is labelled with its steps and seeds."""
    plain = lambda rows: {name: {k: v.replace("*", "") for k, v in row.items()} for name, row in rows.items()}
    text = shown("--published=qam_paper,rql_paper")
    both = plain(read_markdown(text))
    alone = {f"{name} (published)": row for name, row in plain(read_markdown(shown("--published=qam_paper"))).items()}
    assert {name: row for name, row in both.items() if name in alone} == alone
    assert both.keys() - alone.keys() == {"RQL (published, RQL paper)"}
    assert both["RQL (published, RQL paper)"][ALL] == "56"
    assert re.search("Published: the QAM paper.*step 1,000,000.*seeds: 12", text)
    assert re.search("Published, RQL paper: the RQL paper.*step 1,000,000.*seeds: 4", text)


# The convention, on made data


@pytest.mark.parametrize(("percent", "whole"), [(0.5, 1), (1.5, 2), (2.5, 3), (28.4999, 28), (100 * 0.285, 29)])
def test_halves_are_rounded_up(percent, whole):
    """100 * 0.285 is 28.499999999999996."""
    assert rounded(percent) == whole


def test_tasks_are_averaged_per_seed_first(tmp_path):
    """Seed means .2, .4, .6: 40 +- 20. Over all fifteen replicas the deviation would be another."""
    success = lambda task, seed: 0.2 * seed + (0.1 if task == 1 else -0.1 if task == 2 else 0)
    runs_of_a_domain(tmp_path / "a", success=success)
    assert read_markdown(shown(tmp_path))["TRQAM"]["cube-double"] == "**40 ± 20**"
    per_task = read_markdown(shown(tmp_path, "--per_task"))
    assert per_task["cube-double-task1"]["TRQAM"] == "**50 ± 20**"
    tidy = {row["scope"]: row for row in read_tidy(shown(tmp_path, "--format=csv"))}
    assert tidy["cube-double-play"]["mean_percent"] == "40.0"
    assert tidy["cube-double-play"]["n_seeds"] == "3"


def test_all_is_the_mean_of_rounded_means(tmp_path):
    """Nine domains of 50.5 % (51 rounded) and one of 0: 45.9, that is 46; unrounded means would give 45.45."""
    for domain in [domain for domain in envs.DOMAINS.values() if domain.benchmark]:
        value = 0.0 if domain.name == "scene" else 0.505
        runs_of_a_domain(tmp_path / domain.name, domain.name, success=lambda *_, v=value: v)
    row = read_markdown(shown(tmp_path))["TRQAM"]
    assert row["scene"] == "**0 ± 0**"
    assert row["puzzle-3x3"] == "**51 ± 0**"
    assert row[ALL] == "**46**"


def test_the_best_is_bold_with_all_ties_and_incomplete_cells_do_not_compete(tmp_path):
    runs_of_a_domain(tmp_path / "a", agent="qam", success=lambda *_: 0.504)
    runs_of_a_domain(tmp_path / "b", agent="fql", success=lambda *_: 0.496)
    runs_of_a_domain(tmp_path / "c", agent="dsrl", success=lambda *_: 0.3)
    runs_of_a_domain(tmp_path / "d", agent="trqam", success=lambda *_: 0.9, seeds=(1, 2))
    column = {method: row["cube-double"] for method, row in read_markdown(shown(tmp_path)).items()}
    assert column == {
        "QAM": "**50 ± 0**",
        "FQL": "**50 ± 0**",
        "DSRL": "30 ± 0",
        "TRQAM": "90 ± 0 (2/3 seeds)",
    }


def test_each_of_several_suites_has_its_own_all(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "benchmarks", lambda: {"mazes": ["scene-play"], "cubes": ["cube-double-play"]})
    runs_of_a_domain(tmp_path / "a", "scene", success=lambda *_: 0.25)
    assert read_markdown(shown(tmp_path))["TRQAM"][ALL] == "**25**"
    runs_of_a_domain(tmp_path / "b", "cube-double")
    row = read_markdown(shown(tmp_path))["TRQAM"]
    assert (row["all mazes"], row["all cubes"]) == ("**25**", "**50**")
    assert ALL not in row


# Which value counts


def curve(root, values, **others):
    """A run of one task whose seeds all have the same values at steps 10, 20, ..."""
    rows = [{"seed": s, "step": 10 * (i + 1), "success": v} for s in (1, 2) for i, v in enumerate(values)]
    return write_run(root, rows, env="cube-single", seeds=(1, 2), **others)


@pytest.mark.parametrize(
    ("flags", "percent", "said"),
    [
        ((), 20, "the evaluation at step 30"),
        (("--step=20",), 80, "the evaluation at step 20"),
        (("--value=best",), 80, "each replica's best evaluation up to step 30"),
        (("--value=best", "--step=10"), 10, "best evaluation up to step 10"),
        (("--value=last_k", "--last=2"), 50, "last 2 evaluations up to step 30"),
    ],
)
def test_final_best_and_mean_of_the_last(tmp_path, flags, percent, said):
    curve(tmp_path / "a", [0.1, 0.8, 0.2])
    text = shown(tmp_path, *flags)
    assert read_markdown(text)["TRQAM"]["cube-single"] == f"{percent} ± 0 (1/5 tasks)"
    assert said in text
    assert "protocol quick" in text


def test_a_run_that_is_behind_is_missing_at_the_last_step(tmp_path, capsys):
    curve(tmp_path / "a", [0.1, 0.8, 0.2])
    curve(tmp_path / "b", [0.1, 0.8], agent="qam", done=False)
    for flags in ((), ("--value=best",), ("--value=last_k", "--last=2")):
        assert read_markdown(shown(tmp_path, *flags))["QAM"]["cube-single"] == "- (0/5 tasks, 0/2 seeds)"
    assert read_markdown(shown(tmp_path, "--step=20"))["QAM"]["cube-single"] == "80 ± 0 (1/5 tasks)"
    said = capsys.readouterr().err
    assert f"unfinished: {tmp_path / 'b'}, last evaluation: offline 20" in said
    assert "QAM on cube-single has 2 curve(s) without an evaluation at step 30, the first of them ends at 20" in said


def test_phases_and_the_bc_policy(tmp_path):
    """The online phase counts on from the offline one; the agent bc holds at every step, and other agents' rows of the
    BC policy count for none."""
    rows = [
        {"phase": "bc", "step": 300_000, "success": 0.1},
        {"phase": "offline", "step": 1_000_000, "success": 0.4},
        {"phase": "online", "step": 500_000, "success": 0.7},
    ]
    write_run(tmp_path / "a", rows)
    write_run(tmp_path / "b", rows[:1], agent="bc")
    tidy = lambda *flags: {r["method"]: (r["mean_percent"], r["step"]) for r in read_tidy(shown(*flags))}
    assert tidy(tmp_path, "--format=csv") == {"TRQAM": ("40.0", "1000000"), "BC": ("10.0", "1000000")}
    online = tidy(tmp_path, "--format=csv", "--phase=online")
    assert online == {"TRQAM": ("70.0", "1500000"), "BC": ("10.0", "1500000")}
    assert tidy(tmp_path / "b", "--format=csv") == {"BC": ("10.0", "300000")}


def test_a_method_trained_online_alone_stands_beside_the_others_online_phases(tmp_path, capsys):
    """And beside its own published row."""
    rows = [{"phase": "offline"}, {"phase": "online", "step": 500_000, "success": 0.7}]
    write_run(tmp_path / "a", rows, agent="qam", protocol="qam", env="scene")
    folder = write_run(tmp_path / "b", rows[1:], agent="rlpd", protocol="qam", env="scene")
    config = json.loads((folder / "config.json").read_text())
    config["train"]["offline_steps"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    found = read_tidy(shown(tmp_path, "--phase=online", "--published=qam_paper", "--format=csv"))
    of_task = [row for row in found if row["scope"].startswith("scene") and row["source"] == "ours"]
    assert {(row["method"], row["step"], row["mean_percent"]) for row in of_task} == {
        ("QAM", "1500000", "70.0"),
        ("RLPD", "1500000", "70.0"),
    }
    assert {row["step"] for row in found if row["method"] == "RLPD"} == {"1500000"}
    assert "without an evaluation" not in capsys.readouterr().err


# What is missing


def test_missing_seeds_tasks_and_domains_are_marked(tmp_path):
    runs_of_a_domain(tmp_path / "a", "scene", seeds=(1, 2, 3, 4))
    runs_of_a_domain(tmp_path / "b", "puzzle-3x3", tasks=(1, 2), seeds=(1, 2, 3, 4))
    runs_of_a_domain(tmp_path / "c", "cube-double", seeds=(2, 3))
    write_run(tmp_path / "d", env="cube-triple", protocol="trqam", done=False)  # has not evaluated yet
    row = read_markdown(shown(tmp_path))["TRQAM"]
    # The run that has not evaluated was to have seed 7: that makes five.
    assert row["scene"] == "50 ± 0 (4/5 seeds)"
    assert row["puzzle-3x3"] == "50 ± 0 (2/5 tasks, 4/5 seeds)"
    assert row["cube-double"] == "50 ± 0 (2/5 seeds)"
    assert row[ALL] == "- (0/10 domains, 2/5 seeds)"


def test_a_seed_counts_only_with_all_of_a_domains_tasks(tmp_path):
    rows = [{"task": t, "seed": s, "success": s / 10} for t in TASKS for s in (1, 2, 3) if (t, s) != (4, 3)]
    write_run(tmp_path / "a", rows, seeds=(1, 2, 3), env="scene")
    assert read_markdown(shown(tmp_path))["TRQAM"]["scene"] == "15 ± 7 (2/3 seeds)"


def test_all_over_domains_that_lack_seeds_is_marked(tmp_path):
    for domain in [domain for domain in envs.DOMAINS.values() if domain.benchmark]:
        runs_of_a_domain(tmp_path / domain.name, domain.name, seeds=(1, 2) if domain.name == "scene" else (1, 2, 3))
    assert read_markdown(shown(tmp_path))["TRQAM"][ALL] == "50 (9/10 domains, 2/3 seeds)"


@pytest.mark.parametrize("value", ["final", "best"])
def test_diverged_replicas_are_left_out_and_marked(tmp_path, value):
    def write(name, frozen):
        rows = [
            {"task": t, "seed": s, "step": step, "success": 0.5}
            | ({"status": "frozen", "success": "nan"} if (t, s) in frozen and step == 20 else {})
            for t in TASKS for s in (1, 2) for step in (10, 20)
        ]  # fmt: skip
        return write_run(tmp_path / name, rows, seeds=(1, 2), env="scene", agent=name)

    write("qam", {(4, 2)})
    write("fql", {(4, 1), (4, 2)})
    write("trqam", {(t, s) for t in TASKS for s in (1, 2)})
    column = {method: row["scene"] for method, row in read_markdown(shown(tmp_path, f"--value={value}")).items()}
    assert column == {
        "QAM": "50 (1/2 seeds, 1 diverged)",
        "FQL": "50 ± 0 (4/5 tasks, 2 diverged)",
        "TRQAM": "- (0/5 tasks, 0/2 seeds, 10 diverged)",
    }


# What must not be mixed


def test_mixed_protocols_and_versions_are_refused(tmp_path):
    runs_of_a_domain(tmp_path / "a", agent="qam")
    runs_of_a_domain(tmp_path / "b", agent="fql", protocol="quick", success=lambda *_: 0.25)
    message = rf"mixed protocols: trqam \({tmp_path}/a\) and quick \({tmp_path}/b\)"
    with pytest.raises(UserError, match=message):
        shown(tmp_path)
    text = shown(tmp_path, "--mixed")
    assert re.search(f"M{message[1:]}", text)
    rows = read_markdown(text)
    assert rows["QAM (protocol trqam)"]["cube-double"] == "**50 ± 0**"
    assert rows["FQL (protocol quick)"]["cube-double"] == "**25 ± 0**"  # the best of its own protocol
    with pytest.raises(UserError, match=r"quick .* and trqam \(--published=trqam_paper\)"):
        shown(tmp_path / "b", "--published=trqam_paper")
    runs_of_a_domain(tmp_path / "c", agent="dsrl", versions=VERSIONS | {"jax": "0.11.0"})
    message = r"trqam_jax 0.1.0 with jax 0.10.2 \(.*/a\) and trqam_jax 0.1.0 with jax 0.11.0 \(.*/c\)"
    with pytest.raises(UserError, match=message):
        shown(tmp_path / "a", tmp_path / "c")
    assert "Mixed versions" in shown(tmp_path / "a", tmp_path / "c", "--mixed")


def test_published_rows_stand_beside_ours_and_compete_with_them(tmp_path):
    runs_of_a_domain(tmp_path / "a", success=lambda *_: 0.81)
    text = shown(tmp_path, "--published=trqam_paper")
    rows = read_markdown(text)
    assert rows["TRQAM (ours)"]["cube-double"] == "**81 ± 0**"
    assert rows["TRQAM (published)"]["cube-double"] == "**81 ± 3**"
    assert rows["TRQAM (ours)"]["scene"] == "-"
    assert "Published: the TRQAM paper" in text


def test_the_same_row_twice_with_different_values_is_an_error(tmp_path):
    runs_of_a_domain(tmp_path / "a")
    runs_of_a_domain(tmp_path / "b")
    assert read_markdown(shown(tmp_path))["TRQAM"]["cube-double"] == "**50 ± 0**"  # equal rows count once
    runs_of_a_domain(tmp_path / "c", success=lambda task, seed: 0.4 if (task, seed) == (3, 2) else 0.5)
    with pytest.raises(UserError, match=r"a/eval.csv and .*c/eval.csv differ in TRQAM, cube-double, 3, 2, offline"):
        shown(tmp_path)


def test_variants_are_told_apart_by_the_settings_that_differ(tmp_path):
    runs_of_a_domain(tmp_path / "a", kl_budget=0.5, rho=0.5)
    runs_of_a_domain(tmp_path / "b", kl_budget=1.0, rho=0.5, success=lambda *_: 0.25)
    runs_of_a_domain(tmp_path / "c", "scene", kl_budget=0.5, rho=0.0)  # another domain's settings are its own
    rows = read_markdown(shown(tmp_path))
    assert {method: row["cube-double"] for method, row in rows.items()} == {
        "TRQAM (kl_budget=0.5)": "**50 ± 0**",
        "TRQAM (kl_budget=1.0)": "25 ± 0",
        "TRQAM": "-",
    }
    swept = [{"seed": 1, "variant": f"kl_budget={b}", "success": b} for b in (0.5, 1.0)]
    write_run(tmp_path / "swept" / "d", swept, env="scene", columns=[*EVAL, "variant"])
    assert list(read_markdown(shown(tmp_path / "swept"))) == ["TRQAM (kl_budget=0.5)", "TRQAM (kl_budget=1.0)"]


@pytest.mark.parametrize("success", [1.5, -0.1, "nan", ""])
def test_a_success_that_is_no_fraction_is_an_error(tmp_path, success):
    write_run(tmp_path / "a", [{"success": success}])
    with pytest.raises(UserError, match=r"eval.csv: success .* expected a fraction"):
        shown(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "nothing to show"),
        (("runs", "--value=last_k"), "belong together"),
        (("runs", "--last=3"), "belong together"),
        (("x.pkl",), "--release=qam or trqam or sqam"),
        (("--published=trqam_paper", "--statistics"), "every seed's results"),
        (("--published=trqam",), "unknown table 'trqam'"),
        (("--nonsense", "--published=trqam_paper"), "unrecognized arguments: --nonsense"),
        (("nowhere",), "nowhere: no such folder"),
    ],
)
def test_bad_commands_get_one_line(flags, message):
    with pytest.raises(SystemExit) as stop:
        table.main(list(flags))
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)


def test_bad_steps_and_phases_are_named(tmp_path):
    curve(tmp_path / "a", [0.1, 0.2])
    with pytest.raises(UserError, match=r"--step=5: ours evaluated at 10, 20"):
        shown(tmp_path, "--step=5")
    with pytest.raises(UserError, match=r"only 2 evaluations up to step 20"):
        shown(tmp_path, "--value=last_k", "--last=3")
    with pytest.raises(UserError, match=r"no evaluation of phase 'online' .*phases: offline"):
        shown(tmp_path, "--phase=online")
    write_run(tmp_path / "b")
    with pytest.raises(UserError, match=r"no evaluation of phase 'offline' .*phases: none yet"):
        shown(tmp_path / "b")


def test_the_command():
    command = [sys.executable, "experiments/table.py", "--published=trqam_paper", "--format=csv"]
    root = pathlib.Path(__file__).parents[3]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "TRQAM,all,1000000,8,67.8," in output


# Formats


def test_latex_is_well_formed(tmp_path):
    """Every special character is escaped, braces and environments match, rows have as many cells as columns."""
    runs_of_a_domain(tmp_path / "a_b%", kl_budget=0.5)
    runs_of_a_domain(tmp_path / "c#d", kl_budget=1.0)
    runs_of_a_domain(tmp_path / "e", "scene", agent="qam", protocol="quick", seeds=(1,))
    text = shown(tmp_path, "--mixed", "--statistics", "--format=latex")
    assert r"kl\_budget=0.5" in text
    assert r"\textbf{50 $\pm$ 0}" in text
    code = re.sub(r"^% needs.*$|\\[&%$#_{}]", "", text, flags=re.MULTILINE)
    assert not re.search(r"[%#_~^<>|±]", re.sub(r"\$[^$]*\$", "", code))
    assert text.isascii()
    assert code.count("{") == code.count("}")
    assert re.findall(r"\\begin{(\w+)}", code) == ["table", "adjustbox", "tabular"] * 4
    assert re.findall(r"\\end{(\w+)}", code) == ["tabular", "adjustbox", "table"] * 4
    for tabular in re.findall(r"\\begin{tabular}(.*?)\\end{tabular}", code, flags=re.DOTALL):
        columns = len(re.match(r"{(l+r*)}", tabular)[1])
        rows = [line for line in tabular.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1
        assert all(row.count("&") == columns - 1 for row in rows)


def test_special_characters_are_escaped():
    assert grid.escape("a_b & 5 % \\ {x} ~^ ±") == (
        r"a\_b \& 5 \% \textbackslash{} \{x\} \textasciitilde{}\textasciicircum{} $\pm$"
    )
    assert grid.escape('the "all" of "a_b"') == r"the ``all'' of ``a\_b''"
    assert "| a\\|b |" in grid.markdown(grid.Grid("", ["a|b"], []))


# Statistics


def noisy(root, agent, level, seeds=(1, 2, 3)):
    rng = np.random.default_rng(len(agent))
    return runs_of_a_domain(
        root / agent,
        agent=agent,
        success=lambda *_: round(float(rng.uniform(level - 0.2, level + 0.2)), 3),
        seeds=seeds,
    )


def test_statistics_of_methods_and_pairs(tmp_path):
    noisy(tmp_path, "qam", 0.3)
    noisy(tmp_path, "trqam", 0.7)
    read = lambda seed=0: read_tidy(shown(tmp_path, "--statistics", "--format=csv", f"--bootstrap_seed={seed}"))
    rows = {(row["statistic"], row["method"], row["above"]): row for row in read()}
    assert rows["improvement", "QAM", ""]["against"] == "TRQAM"
    assert float(rows["improvement", "QAM", ""]["percent"]) < 5
    table_row = {r["method"]: r for r in read_tidy(shown(tmp_path, "--format=csv")) if r["scope"] == "cube-double-play"}
    for method in ("QAM", "TRQAM"):
        own = {name: rows[name, method, ""] for name in aggregates.STATISTICS}
        assert float(own["mean"]["percent"]) == pytest.approx(float(table_row[method]["mean_percent"]), abs=0.01)
        assert float(own["mean"]["percent"]) + float(own["optimality gap"]["percent"]) == pytest.approx(100, abs=0.02)
        for row in own.values():
            assert float(row["low"]) < float(row["percent"]) < float(row["high"])
            assert (row["tasks"], row["runs"], row["expected_runs"]) == ("5", "15", "15")
        shares = [float(rows["profile", method, str(above)]["percent"]) for above in aggregates.THRESHOLDS]
        assert shares == sorted(shares, reverse=True)
    assert read() == read(0)
    assert read() != read(1)
    text = shown(tmp_path, "--statistics")
    assert "| QAM over TRQAM |" in text
    assert "Performance profile" in text


def test_statistics_say_what_is_missing_and_give_one_run_no_interval(tmp_path):
    runs_of_a_domain(tmp_path / "a", seeds=(1,))
    runs_of_a_domain(tmp_path / "b", agent="qam", seeds=(1, 2), tasks=(2, 3))
    rows = {(r["statistic"], r["method"]): r for r in read_tidy(shown(tmp_path, "--statistics", "--format=csv"))}
    assert (rows["IQM", "TRQAM"]["low"], rows["IQM", "TRQAM"]["runs"]) == ("", "5")
    assert rows["IQM", "TRQAM"]["expected_runs"] == "10"
    assert rows["improvement", "TRQAM"]["tasks"] == "2"
    assert rows["improvement", "TRQAM"]["percent"] == "50.0"
    assert "5 of 10" in shown(tmp_path, "--statistics")


def test_marks_are_part_of_a_cells_completeness():
    assert Cell(50.0, 1.0, {"seeds": (3, 3)}).complete
    assert not Cell(50.0, 1.0, {"seeds": (2, 3)}).complete
    assert not Cell(50.0, 1.0, {"seeds": (3, 3)}, diverged=1).complete
    assert not Cell(None, None, {"seeds": (3, 3)}).complete
