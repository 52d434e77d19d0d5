"""The page's numbers are those of table.py, compare.py and the rows."""

import base64
import csv
import json

import numpy as np
import pytest
from made_runs import STEPS, read_markdown, runs_of_a_domain, shown, write_run, write_whole_run

from experiments.analysis import compare
from experiments.analysis.figures.style import COLOURS
from experiments.analysis.report import curves, runs
from experiments.analysis.report.collect import collect
from experiments.analysis.rows import read_run, read_runs
from trqam_jax.errors import UserError


def collected(*paths, **options):
    data = collect(read_runs(paths), **options)
    return json.loads(json.dumps(data, allow_nan=False))  # as the page has it


def printed(view):
    """{row: {column: cell}}, as `read_markdown` has it."""
    columns = [column["label"] for column in view["columns"]]
    text = lambda cell: f"**{cell['text']}**" if cell["bold"] else cell["text"]
    return {row["label"]: dict(zip(columns, map(text, row["cells"]), strict=True)) for row in view["rows"]}


@pytest.fixture
def study(tmp_path):
    """Two methods on two domains; one replica of one diverged."""
    for env in ("cube-double", "scene"):
        write_whole_run(tmp_path / env / "trqam-0", env=env, kl_budget=0.5)
        write_whole_run(tmp_path / env / "fql-0", env=env, agent="fql", diverged={(2, 3)} if env == "scene" else ())
    return tmp_path


@pytest.mark.parametrize("papers", [(), ("trqam_paper",), ("trqam_paper", "trqam_reruns")])
def test_the_cells_are_those_of_the_table(study, papers, capsys):
    (table,) = collected(study, papers=papers)["tables"]
    arguments = [study, *([f"--published={','.join(papers)}"] if papers else [])]
    assert printed(table["domains"]) == read_markdown(shown(*arguments))
    by_task = shown(*arguments, "--per_task")
    rows = [line.split(" | ") for line in by_task.splitlines() if line.startswith("| ")]
    header, *body = [[cell.strip("| ").strip() for cell in row] for row in rows]
    assert printed(table["tasks"]) == {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in body}
    assert by_task.startswith(table["caption"])


def test_only_own_cells_have_curves(study):
    (table,) = collected(study, papers=("trqam_paper",))["tables"]
    assert {row["label"]: row["method"] for row in table["domains"]["rows"]}["FQL (published)"] is None
    assert sorted(row["method"] for row in table["domains"]["rows"] if row["method"] is not None) == [0, 1]
    assert table["domains"]["columns"][-1] == {"label": "all"}


def test_protocols_are_mixed_only_if_wanted(tmp_path):
    runs_of_a_domain(tmp_path / "a")
    runs_of_a_domain(tmp_path / "b", protocol="qam")
    with pytest.raises(UserError, match=r"mixed protocols: trqam .* and qam .* add --mixed"):
        collected(tmp_path)
    data = collected(tmp_path, mixed=True)
    assert data["methods"] == ["TRQAM (protocol trqam)", "TRQAM (protocol qam)"]
    (table,) = data["tables"]
    assert "Mixed protocols" in table["caption"]
    assert table["pairs"] == []  # their numbers must not be compared


def test_versions_are_mixed_only_if_wanted(tmp_path):
    runs_of_a_domain(tmp_path / "a", tasks=(1,))
    runs_of_a_domain(tmp_path / "b", tasks=(2,), versions={"trqam_jax": "0.1.0", "jax": "0.9"})
    with pytest.raises(UserError, match="mixed versions"):
        collected(tmp_path)


def test_a_paper_without_the_step_is_named(study):
    (table,) = collected(study, papers=("trqam_paper",), step=500_000)["tables"]
    assert "trqam_paper has nothing at this step." in table["caption"].replace("Trqam", "trqam")
    assert table["steps"] == [500_000]


def test_the_last_step_that_all_have_can_be_chosen(tmp_path, capsys):
    write_whole_run(tmp_path / "a")
    write_whole_run(tmp_path / "b", agent="fql", steps=STEPS[:10], done=False)
    last, shared = collected(tmp_path)["tables"]
    assert (last["steps"], shared["steps"]) == ([1_000_000], [500_000])
    assert printed(last["domains"])["FQL"]["cube-double"].startswith("-")
    assert printed(shared["domains"]) == read_markdown(shown(tmp_path, "--step=500000"))
    assert "unfinished" in capsys.readouterr().err
    with pytest.raises(UserError, match="--step=7: ours evaluated at 50000, "):
        collected(tmp_path, step=7)


def test_every_phase_has_its_table(tmp_path):
    rows = [{"seed": seed, "phase": "online", "step": 500_000, "success": 1.0} for seed in (1, 2)]
    write_run(tmp_path / "a", [{"seed": 1}, {"seed": 2}, *rows], seeds=(1, 2))
    data = collected(tmp_path, papers=("trqam_paper",), mixed=True)
    assert [(table["phase"], table["steps"]) for table in data["tables"]] == [
        ("offline", [1_000_000]),
        ("online", [1_500_000]),
    ]
    assert data["curves"][0]["border"] == 1_000_000
    assert data["curves"][0]["success"] == [[50, 100], [50, 100]]


def test_the_bc_policy_alone(tmp_path):
    write_run(tmp_path / "bc-0", [{"phase": "bc", "step": 300_000}], agent="bc")
    data = collected(tmp_path)
    assert data["tables"][0]["phase"] == "offline"
    assert (data["curves"][0]["steps"], data["curves"][0]["success"]) == ([0], [[50]])


# Curves


def test_curves_are_the_rows(study):
    data = collected(study)
    assert data["points"] == 200
    with (study / "scene" / "trqam-0" / "train.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["task"], row["seed"]) == ("2", "3")]
    own = next(one for one in data["curves"] if one["env"] == "scene" and data["methods"][one["method"]] == "TRQAM")
    i = list(zip(own["tasks"], own["seeds"], strict=True)).index((2, 3))
    assert own["train_steps"] == [int(row["step"]) for row in rows]
    assert list(own["train"]) == ["path_kl", "lambda", "critic_loss", "grad_norm"]
    for name, values in own["train"].items():
        assert values[i] == [pytest.approx(float(row[name]), rel=1e-4) for row in rows]
    assert own["budgets"] == [0.5]
    assert own["steps"] == [0, *STEPS]
    assert own["success"][i][-1] == 74.0


def test_diverged_replicas_are_marked(study):
    data = collected(study)
    marked = [
        (data["methods"][one["method"]], one["env"], task, seed, step)
        for one in data["curves"]
        for task, seed, step in zip(one["tasks"], one["seeds"], one["diverged"], strict=True)
        if step is not None
    ]
    assert marked == [("FQL", "scene", 2, 3, STEPS[10])]
    own = next(one for one in data["curves"] if any(one["diverged"]))
    assert own["train"]["critic_loss"][-1][9] is not None
    assert own["train"]["critic_loss"][-1][10:] == [None] * 10


def test_thinning_keeps_ends_and_where_a_replica_diverged():
    steps = np.arange(5_000, 1_000_001, 5_000)
    kept = curves.thinned(steps, 20, [605_000])
    assert {0, 119, 120, 199} <= {*kept.tolist()}
    assert 20 <= len(kept) <= 22
    np.testing.assert_array_equal(curves.thinned(steps, 300, []), np.arange(200))
    assert curves.thinned(steps[:1], 20, [5_000]).tolist() == [0]


def test_many_replicas_share_the_room(study, monkeypatch):
    monkeypatch.setattr(curves, "MOST_NUMBERS", 15 * (12 * 4 + 12 * 2))  # replicas x metrics of both methods
    data = collected(study)
    assert data["points"] == 15
    assert sorted(len(one["train_steps"]) for one in data["curves"]) == [15, 15, 15, 16]


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.123456, 0.1235), (62.7547, 62.75), (20.0, 20), (1.23456e30, 1.235e30), (np.nan, None), (np.inf, None)],
)
def test_numbers_are_short(x, expected):
    assert curves.short(x) == expected


# Pairs


def test_pairs_are_those_of_compare(study):
    data = collected(study)
    (table,) = data["tables"]
    first, second = data["methods"]
    folders = {name: study / "cube-double" / f"{name.lower()}-0" for name in (first, second)}
    success = compare.paired({name: compare.final_success(read_run(folder)) for name, folder in folders.items()})
    ours, theirs = compare.comparison(success)
    row = next(row for row in table["pairs"] if (row["env"], row["task"]) == ("cube-double", None))
    assert row["means"] == [ours["mean"], theirs["mean"]]
    assert [row["difference"], *row["interval"]] == [theirs[key] for key in ("difference", "low", "high")]
    assert row["better"] == theirs["p_improvement"]
    scopes = [(row["env"], row["task"]) for row in table["pairs"]]
    assert scopes == [(None, None), *((env, task) for env in ("cube-double", "scene") for task in (None, 1, 2))]


def test_a_seed_with_a_diverged_replica_is_left_out_and_named(study):
    (table,) = collected(study)["tables"]
    rows = {(row["env"], row["task"]): row for row in table["pairs"]}
    for scope, seeds in {
        (None, None): [1, 2],
        ("scene", None): [1, 2],
        ("scene", 1): [1, 2, 3],
        ("scene", 2): [1, 2],
    }.items():
        assert rows[scope]["seeds"] == seeds
        assert rows[scope]["left_out"] == sorted({1, 2, 3} - set(seeds))


def test_without_a_shared_seed_there_is_no_pair(tmp_path):
    runs_of_a_domain(tmp_path / "a", seeds=(1, 2))
    runs_of_a_domain(tmp_path / "b", agent="fql", seeds=(3, 4))
    assert collected(tmp_path)["tables"][0]["pairs"] == []


# Runs


def test_settings_are_told_apart(study):
    settings = collected(study)["settings"]
    assert settings["shared"]["train.batch_size"] == "256"
    assert settings["shared"]["version of jax"] == "0.10.2"
    assert settings["own"][1] == {"agent_name": "trqam", "env": "cube-double", "agent.kl_budget": "0.5"}
    assert [run["folder"] for run in collected(study)["runs"]][:2] == ["cube-double/fql-0", "cube-double/trqam-0"]
    assert [run["folder"] for run in collected(study / "scene" / "trqam-0")["runs"]] == ["trqam-0"]


def test_cost_is_that_of_times(study):
    cost = collected(study)["runs"][0]["cost"]
    assert cost == {
        "steps": 1_000_000,
        "train_seconds": 10_000,
        "eval_seconds": 20.5,
        "updates_per_second": 100,
        "env_steps_per_second": 300,
    }


def test_times_that_are_missing_torn_or_damaged(tmp_path):
    path = tmp_path / "times.csv"
    assert runs.cost(runs.read_times(path)) == {"steps": 0, "train_seconds": 0, "eval_seconds": 0}
    header = "phase,step,updates_per_second,eval_seconds,env_steps_per_second\n"
    path.write_text(header + "offline,500,50.0,,\nofflin")
    assert runs.cost(runs.read_times(path))["train_seconds"] == 10
    path.write_text(header + "offline,x,50.0,,\n")
    with pytest.raises(UserError, match=r"times.csv: damaged"):
        runs.read_times(path)


def test_videos_are_embedded_as_far_as_they_fit(tmp_path):
    folder = write_run(tmp_path / "a:b" / "trqam-0", [{}])
    (folder / "videos").mkdir()
    for step in (50, 100):
        (folder / "videos" / f"offline-{step}-task1-seed7-0.gif").write_bytes(b"GIF89a" + b"x" * 300)
    page = tmp_path / "pages" / "report.html"
    latest, earlier = runs.videos(read_runs([folder]), 700, page)
    assert latest["name"] == "offline-100-task1-seed7-0"
    assert base64.b64decode(latest["data"].removeprefix("data:image/gif;base64,")).startswith(b"GIF89a")
    assert earlier["link"] == "../a%3Ab/trqam-0/videos/offline-50-task1-seed7-0.gif"
    assert runs.videos(read_runs([folder]), -1, folder / "x.html")[0]["link"] == "videos/offline-100-task1-seed7-0.gif"


def test_the_colours_are_those_of_the_figures(study):
    assert collected(study)["colours"] == list(COLOURS)
