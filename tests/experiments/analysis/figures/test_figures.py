"""What is drawn is what the rows say, and can be printed."""

import csv
import itertools
import json
import re
import statistics

import numpy as np
import pytest

from experiments.analysis import figures
from experiments.analysis.figures import Study, draw
from experiments.analysis.figures.kl import AVERAGE, BUDGET
from experiments.analysis.figures.style import BC_POLICY, look_of
from experiments.analysis.rows import read_runs
from experiments.figures import main
from experiments.training.csv_rows import CsvWriter
from experiments.training.records import EVAL_COLUMNS, REPLICA_COLUMNS
from trqam_jax.errors import UserError

OFFLINE = 1_000_000
STEPS = [("offline", 500_000), ("offline", OFFLINE), ("online", 250_000), ("online", 500_000)]
QAM = ["adjoint_loss", "path_kl"]


def make_run(
    root, agent, env="scene", *, tasks=(1, 2), seeds=(1, 2, 3), budget=1.0, variants=("",), steps=STEPS, frozen=(),
    protocol="trqam",
):  # fmt: skip
    """A run's folder with random but plausible rows: success rises under trqam*, and under others falls to nothing
    while the adjoint loss explodes. frozen: (task, seed) that stop half-way."""
    folder = root / env / f"{agent}-{budget:g}-{len(list(root.rglob('config.json')))}"
    folder.mkdir(parents=True)
    has_budget = agent.startswith("trqam")
    config = dict(agent_name=agent, env=env, protocol=protocol, tasks=tasks, run={"seeds": seeds})
    config |= dict(agent={"kl_budget": budget} if has_budget else {}, train={"offline_steps": OFFLINE})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "versions.json").write_text(json.dumps({"trqam_jax": "0", "jax": "0"}))
    rng, rows = np.random.default_rng(sum(f"{agent}{env}{budget}".encode())), []
    for task, seed, variant in itertools.product(tasks, seeds, variants):
        eps = float(variant.rpartition("=")[2]) if variant else budget
        best, fall = rng.uniform(0.5, 0.9) / (1 + abs(eps - 1)), rng.uniform(0.2, 0.6)
        common = dict(env=env, task=task, agent=agent, seed=seed, variant=variant, kl_budget=eps, episodes=50)
        rows.append({**common, "phase": "bc", "step": 300_000, "success": 0.1 * task, "status": "ok"})
        for phase, step in steps:
            x = step / OFFLINE + (phase == "online")
            collapsed = 0 if has_budget else 1 / (1 + np.exp(12 * (fall - x)))
            success = best * (1 - np.exp(-3 * x)) * (1 - collapsed) + 0.1 * task * np.exp(-3 * x)
            kl = eps * (1 + 1.5 * x * (agent == "trqam_external") + 0.05 * rng.normal())
            row = {**common, "phase": phase, "step": step, "path_kl": kl, "kl_average": (kl + eps) / 2}
            row["status"] = "frozen" if (task, seed) in frozen and x > 0.6 else "ok"
            row["success"] = round(50 * np.clip(success + 0.04 * rng.normal(), 0, 1)) / 50
            row["adjoint_loss"] = 10 ** (1 + 22 * collapsed + 0.1 * rng.normal())
            row["lambda"] = 0.3 * np.exp(0.2 * rng.normal())
            rows.append(row)
    more = ["variant"] if any(variants) else []
    metrics = [*QAM, "kl_average", "kl_budget", "lambda"] if has_budget else QAM
    write(folder / "eval.csv", [*EVAL_COLUMNS, *more], rows)
    write(folder / "train.csv", [*REPLICA_COLUMNS, *more, *metrics], [row for row in rows if row["phase"] != "bc"])
    (folder / "DONE").write_text("{}")
    return folder


def write(path, columns, rows):
    """The rows' values in these columns, over what was there."""
    path.unlink(missing_ok=True)
    CsvWriter(path, columns).write([{key: row[key] for key in columns if key in row} for row in rows])


def rows_of(folder, name):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def at(folder, column, phase, step, name="eval.csv", **wanted):
    """The column's values over replicas, as text says."""
    wanted = {key: str(value) for key, value in {"phase": phase, "step": step, **wanted}.items()}
    return [float(row[column]) for row in rows_of(folder, name) if wanted.items() <= row.items()]


def panel(drawing, title):
    (axis,) = (axis for axis in drawing.figure.axes if axis.get_title() == title)
    return axis


def below(drawing, title):
    """The axes under the one with this title, when there is one column."""
    return drawing.figure.axes[drawing.figure.axes.index(panel(drawing, title)) + 1]


def line(axis, label):
    (found,) = (one for one in axis.get_lines() if one.get_label() == label)
    return found


def band(axis, i=0):
    """{x: (low, high)} of the i-th band."""
    points = axis.collections[i].get_paths()[0].vertices
    return {
        x: (points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max()) for x in np.unique(points[:, 0])
    }


def study(*paths):
    return Study(read_runs(paths))


def test_curves_show_the_rows(tmp_path):
    domains = {"scene": (1, 2), "cube-triple": (1, 2, 3)}
    folders = {env: make_run(tmp_path, "trqam", env, tasks=tasks) for env, tasks in domains.items()}
    make_run(tmp_path, "qam", "scene")
    drawing = figures.curves(study(tmp_path))
    means = {}
    for env, folder in folders.items():
        expected = [at(folder, "success", "bc", 300_000)] + [at(folder, "success", *step) for step in STEPS]
        means[env] = [100 * statistics.mean(values) for values in expected]
        drawn = line(panel(drawing, env), "TRQAM")
        np.testing.assert_array_equal(drawn.get_xdata(), [0, 500_000, 1_000_000, 1_250_000, 1_500_000])
        np.testing.assert_allclose(drawn.get_ydata(), means[env])
        for x, y, values in zip(drawn.get_xdata(), drawn.get_ydata(), expected, strict=True):
            low, high = band(panel(drawing, env), 0)[x]
            assert 100 * min(values) <= low <= y + 1e-9
            assert y - 1e-9 <= high <= 100 * max(values)
        np.testing.assert_allclose(line(panel(drawing, env), BC_POLICY).get_ydata(), means[env][0])
    overall = panel(drawing, "mean of 2 domains")
    np.testing.assert_allclose(line(overall, "TRQAM").get_ydata(), np.mean([*means.values()], 0))
    assert "QAM" not in [one.get_label() for one in overall.get_lines()]
    assert "QAM has not run on all domains" in drawing.caption
    assert "6 to 9 replicas" in drawing.caption


def test_the_band_is_stratified_by_task(tmp_path):
    """Tasks that differ, each with equal seeds: only drawing over tasks could make the mean uncertain."""
    folder = make_run(tmp_path, "trqam")
    rows = rows_of(folder, "eval.csv")
    write(folder / "eval.csv", EVAL_COLUMNS, [row | {"success": int(row["task"]) / 4} for row in rows])
    for low, high in band(panel(figures.curves(study(folder)), "scene")).values():
        assert (low, high) == (37.5, 37.5)


def test_one_seed_has_no_band(tmp_path):
    axis = panel(figures.curves(study(make_run(tmp_path, "trqam", seeds=(1,)))), "scene")
    assert not axis.collections[0].get_paths()
    assert len(line(axis, "TRQAM").get_ydata()) == 5


def test_kl_shows_the_rows(tmp_path):
    agents = {"TRQAM": "trqam", "TRQAM, external KL": "trqam_external"}
    folders = {name: make_run(tmp_path, agent, budget=0.5) for name, agent in agents.items()}
    make_run(tmp_path, "qam")
    drawing = figures.kl(study(tmp_path))
    upper, lower = panel(drawing, "scene"), below(drawing, "scene")
    for i, (name, folder) in enumerate(folders.items()):
        for axis, column, label in (
            (upper, "path_kl", name),
            (upper, "kl_average", f"{name}, {AVERAGE}"),
            (lower, "lambda", name),
        ):
            values = [at(folder, column, *step, name="train.csv") for step in STEPS]
            np.testing.assert_allclose(line(axis, label).get_ydata(), np.mean(values, 1))
            if label == name:
                ranges = [band(axis, i)[x] for x in line(axis, label).get_xdata()]
                np.testing.assert_allclose(ranges, [(min(v), max(v)) for v in values])
    np.testing.assert_array_equal(line(upper, BUDGET).get_ydata(), 0.5)
    assert lower.get_yscale() == "log"
    assert not [one for one in upper.get_lines() if one.get_label() == "QAM"]


def test_collapse_shows_the_rows_while_they_are_finite(tmp_path):
    folder = make_run(tmp_path, "qam")
    rows = rows_of(folder, "train.csv")
    rows[3]["adjoint_loss"] = "inf"  # at the last step
    write(folder / "train.csv", [*REPLICA_COLUMNS, *QAM], rows)
    drawing = figures.collapse(study(tmp_path))
    upper, lower = panel(drawing, "scene"), below(drawing, "scene")
    values = [at(folder, "adjoint_loss", *step, name="train.csv") for step in STEPS]
    np.testing.assert_allclose(line(upper, "QAM").get_ydata(), [statistics.median(v) for v in values])
    assert max(band(upper)) == 1_250_000
    assert "no longer finite" in drawing.caption
    assert upper.get_yscale() == "log"
    means = [100 * np.mean(at(folder, "success", *step)) for step in STEPS]
    np.testing.assert_allclose(line(lower, "QAM").get_ydata(), [15, *means])


def test_budgets_of_configurations_and_of_variants_are_drawn_alike(tmp_path):
    budgets = (0.5, 1.0, 2.0)
    variants = [f"kl_budget={budget:g}" for budget in budgets]
    swept = make_run(tmp_path / "variants", "trqam", variants=variants)
    runs = [make_run(tmp_path / "runs", "trqam", budget=budget) for budget in budgets]
    for root, places in (
        ("variants", [(swept, {"variant": variant}) for variant in variants]),
        ("runs", [(folder, {}) for folder in runs]),
    ):
        found = study(tmp_path / root)
        drawing = figures.budget(found)
        for title, of in (("scene\nmean of 2 tasks", {}), ("scene\ntask 2", {"task": 2})):
            (container,) = panel(drawing, title).containers
            np.testing.assert_array_equal(container[0].get_xdata(), budgets)
            means = [100 * np.mean(at(folder, "success", *STEPS[-1], **which, **of)) for folder, which in places]
            np.testing.assert_allclose(container[0].get_ydata(), means)
        assert "Success after 1.5M updates" in drawing.caption
        labels = [one.get_label() for one in panel(figures.curves(found), "scene").get_lines()]
        assert labels[:3] == ["TRQAM (kl_budget=0.5)", "TRQAM (kl_budget=1.0)", "TRQAM (kl_budget=2.0)"]


def test_diverged_replicas_are_left_out_and_counted(tmp_path):
    folder = make_run(tmp_path, "trqam", tasks=(1,), frozen=[(1, 2)])
    runs = study(folder)
    drawing = figures.curves(runs)
    kept = [100 * np.mean([at(folder, "success", *step, seed=seed) for seed in (1, 3)]) for step in STEPS]
    np.testing.assert_allclose(line(panel(drawing, "scene"), "TRQAM").get_ydata()[1:], kept)
    logged = [np.mean([at(folder, "path_kl", *step, name="train.csv", seed=s) for s in (1, 3)]) for step in STEPS]
    np.testing.assert_allclose(line(panel(figures.kl(runs), "scene"), "TRQAM").get_ydata(), logged)
    assert "TRQAM: 1 of 3 replicas diverged and are left out." in drawing.caption


ENDS = {1: None, 2: 400_000, 3: 300_000}  # seeds, and the row by which each diverged
LOGS = range(100_000, 600_000, 100_000)


def diverging_run(root, agent="qam", *, ends=None, **others):
    """As a run writes it: a row says `diverged` with the mean of the updates before that, later ones nan; a diverged
    replica goes on being evaluated, unless all have diverged. The loss is 10 ** (seed + 10 * step / 1e5)."""
    ends = ENDS if ends is None else ends
    folder = make_run(root, agent, tasks=(1,), seeds=tuple(ends), **others)
    has_budget = agent.startswith("trqam")
    train, evals = [], []
    last = max(LOGS) if None in ends.values() else max(ends.values())
    for step, (seed, end) in itertools.product((0, *LOGS), ends.items()):
        common = dict(
            env="scene", task=1, agent=agent, seed=seed, phase="offline", step=step, kl_budget=0.1, episodes=50
        )
        status = "diverged" if end and step >= end else "ok"
        if step == 0:
            evals.append({**common, "phase": "bc", "success": 0.8, "status": status})
            continue
        if step > last:
            continue
        x = step / 100_000
        values = {"adjoint_loss": 10 ** (seed + 10 * x if end else 1), "path_kl": 0.1 * seed * x, "lambda": x}
        values["kl_average"] = 0.1
        if end and step > end:
            values = dict.fromkeys(values, "nan")
        train.append({**common, "status": status, **values})
        if step < last or None in ends.values():
            evals.append({**common, "status": status, "success": 0.8 if not end else 0.1 * seed if step < end else 0.0})
    metrics = [*QAM, "kl_average", "kl_budget", "lambda"] if has_budget else QAM
    write(folder / "eval.csv", EVAL_COLUMNS, evals)
    write(folder / "train.csv", [*REPLICA_COLUMNS, "status", *metrics], train)
    return folder


def diverged_line(axis, name, i=0):
    return [one for one in axis.get_lines() if one.get_label() == f"{name}, replica diverged"][i]


def crosses(axis):
    """[(x, y)] of the crosses."""
    return sorted(tuple(one.get_xydata()[0]) for one in axis.get_lines() if one.get_marker() == "x")


def legend_of(drawing):
    (legend,) = drawing.figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_collapse_shows_the_replicas_that_diverged(tmp_path):
    drawing = figures.collapse(study(diverging_run(tmp_path)))
    upper, lower = panel(drawing, "scene"), below(drawing, "scene")
    # Seeds 2 and 3 count as infinite once they have diverged; the median of three ends where two have.
    median = line(upper, "QAM")
    np.testing.assert_allclose(median.get_ydata(), [1e12, 1e22, 1e32, 1e42, np.nan])
    assert max(band(upper)) == 300_000
    np.testing.assert_allclose(crosses(upper), [(300_000, 1e33), (400_000, 1e42)])
    np.testing.assert_allclose(diverged_line(upper, "QAM").get_ydata(), [1e12, 1e22, 1e32, 1e42])
    # What was evaluated is drawn to the end: a diverged replica keeps its last finite parameters.
    np.testing.assert_allclose(line(lower, "QAM").get_xdata(), [0, *LOGS])
    success = {1: [80] * 6, 2: [80, 20, 20, 20, 0, 0], 3: [80, 30, 30, 0, 0, 0]}
    np.testing.assert_allclose(line(lower, "QAM").get_ydata(), np.mean([*success.values()], 0))
    assert crosses(lower) == [(300_000, 0), (400_000, 0)]
    assert "QAM on scene: 2 of 3 replicas diverged, by update 300K to 400K." in drawing.caption
    assert "left out" not in drawing.caption
    assert "is drawn to" not in drawing.caption
    assert "replica diverged" in legend_of(drawing)


def test_a_run_whose_replicas_have_all_diverged_is_drawn_as_far_as_it_went(tmp_path):
    """It ends with rows of training, before the evaluation: only they say that it diverged."""
    drawing = figures.collapse(study(diverging_run(tmp_path, ends={2: 400_000})))
    upper, lower = panel(drawing, "scene"), below(drawing, "scene")
    np.testing.assert_allclose(line(upper, "QAM").get_ydata(), [1e12, 1e22, 1e32, 1e42])
    np.testing.assert_allclose(crosses(upper), [(400_000, 1e42)])
    assert line(lower, "QAM").get_xdata()[-1] == 300_000
    assert crosses(lower) == [(300_000, 20)]
    assert "QAM on scene: 1 of 1 replicas diverged, by update 400K." in drawing.caption
    with pytest.raises(figures.Missing, match="QAM: 1 of 1 replicas diverged and are left out"):
        figures.curves(study(tmp_path))


def test_a_method_that_diverged_before_its_first_evaluation_is_shown(tmp_path):
    """With the BC policy's success, beside one that went on."""
    diverging_run(tmp_path, ends={2: 100_000, 3: 100_000})
    diverging_run(tmp_path, "trqam", ends={1: None})
    drawing = figures.collapse(study(tmp_path))
    upper, lower = panel(drawing, "scene"), below(drawing, "scene")
    np.testing.assert_allclose(crosses(upper), [(100_000, 1e12), (100_000, 1e13)])
    np.testing.assert_allclose(line(lower, "QAM").get_xydata(), [(0, 80)])
    assert {"QAM", "TRQAM"} <= set(legend_of(drawing))
    assert "QAM on scene: 2 of 2 replicas diverged, by update 100K." in drawing.caption


def test_a_run_that_ended_by_divergence_does_not_cut_the_others(tmp_path):
    diverging_run(tmp_path, ends={1: None})
    diverging_run(tmp_path, ends={2: 400_000})
    drawing = figures.collapse(study(tmp_path))
    assert line(panel(drawing, "scene"), "QAM").get_xdata()[-1] == 500_000
    success = line(below(drawing, "scene"), "QAM")
    np.testing.assert_allclose(success.get_ydata(), [80, 50, 50, 50, 50, 50])  # its last evaluation, 20 %, counts on
    assert "is drawn to" not in drawing.caption


@pytest.mark.parametrize("last", ["inf", "nan"])
def test_a_divergence_without_a_finite_mean_is_marked_at_the_value_before(tmp_path, last):
    """The sum of float32 overflowed, or the interval's first update diverged."""
    folder = diverging_run(tmp_path)
    rows = rows_of(folder, "train.csv")
    for row in rows:
        if (row["seed"], row["step"]) == ("3", "300000"):
            row["adjoint_loss"] = last
    write(folder / "train.csv", [*REPLICA_COLUMNS, "status", *QAM], rows)
    upper = panel(figures.collapse(study(folder)), "scene")
    np.testing.assert_allclose(crosses(upper), [(200_000, 1e23), (400_000, 1e42)])
    np.testing.assert_allclose(line(upper, "QAM").get_ydata(), [1e12, 1e22, 1e32, 1e42, np.nan])


def test_a_log_axis_over_forty_decades_has_a_few_round_ticks(tmp_path):
    drawing = figures.collapse(study(diverging_run(tmp_path)))
    drawing.figure.canvas.draw()
    upper = panel(drawing, "scene")
    low, high = upper.get_ylim()
    np.testing.assert_allclose(
        [tick for tick in upper.get_yticks() if low <= tick <= high], [1e0, 1e10, 1e20, 1e30, 1e40]
    )


def test_kl_shows_the_replicas_that_diverged_by_themselves(tmp_path):
    drawing = figures.kl(study(diverging_run(tmp_path, "trqam_external")))
    upper, lower = panel(drawing, "scene"), below(drawing, "scene")
    name = "TRQAM, external KL"
    np.testing.assert_allclose(line(upper, name).get_ydata(), [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(diverged_line(upper, name).get_ydata(), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(crosses(upper), [(300_000, 0.9), (400_000, 0.8)])
    np.testing.assert_allclose(crosses(lower), [(300_000, 3), (400_000, 4)])
    assert (
        f"{name} on scene: 2 of 3 replicas diverged, by update 300K to 400K. Those are drawn one by one"
        in drawing.caption
    )
    assert upper.get_yscale() == "linear"


def test_kl_of_replicas_that_all_diverged_is_drawn(tmp_path):
    folder = diverging_run(tmp_path, "trqam_external", ends={1: 200_000, 2: 400_000})
    rows = rows_of(folder, "train.csv")
    for row in rows:
        row["path_kl"] = 1e6 * float(row["path_kl"])
    write(folder / "train.csv", [*rows[0]], rows)
    upper = panel(figures.kl(study(folder)), "scene")
    np.testing.assert_allclose(crosses(upper), [(200_000, 2e5), (400_000, 8e5)])
    np.testing.assert_array_equal(line(upper, BUDGET).get_ydata(), 0.1)
    assert upper.get_yscale() == "log"


def test_path_kl_is_drawn_with_a_budget_or_without(tmp_path):
    diverging_run(tmp_path / "a", "qam", ends={1: None, 2: None, 3: None})
    diverging_run(tmp_path / "b", "trqam_external")
    drawing = figures.path_kl(study(tmp_path))
    axis = panel(drawing, "scene")
    np.testing.assert_allclose(line(axis, "QAM").get_ydata(), [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(line(axis, "TRQAM, external KL").get_ydata(), [0.2, 0.4, 0.6, 0.8, np.nan])
    assert len(crosses(axis)) == 2


def test_temperatures_are_lines_of_their_own(tmp_path):
    """Also where one has diverged; the caption says which."""
    temperatures = [1.0, 3.0, 10.0, 30.0]
    folder = make_run(tmp_path, "qam", tasks=(1,), variants=[f"inv_temp={value}" for value in temperatures])
    rows = rows_of(folder, "eval.csv")
    for row in rows:
        if row["variant"] == "inv_temp=30.0" and (row["phase"], row["step"]) == ("online", "500000"):
            row["status"] = "diverged"
    write(folder / "eval.csv", [*rows[0]], rows)
    found, names = study(folder), [f"QAM (inv_temp={value})" for value in temperatures]
    collapse = figures.collapse(found)
    for axis in (panel(collapse, "scene"), below(collapse, "scene")):
        assert [one.get_label() for one in axis.get_lines() if one.get_label() in names] == names
    assert legend_of(collapse) == [*names, "replica diverged", "online phase"]
    assert "QAM (inv_temp=30.0) on scene: 3 of 3 replicas diverged, by update 1.5M." in collapse.caption
    curves = figures.curves(found)
    assert legend_of(curves)[:3] == names[:3]
    assert "QAM (inv_temp=30.0): 3 of 3 replicas diverged and are left out." in curves.caption
    colours = {line(panel(collapse, "scene"), name).get_color() for name in names}
    assert len(colours) == len(names)


def test_an_unfinished_run_ends_its_line(tmp_path):
    make_run(tmp_path, "trqam")
    make_run(tmp_path, "trqam", seeds=(4,), steps=STEPS[:1])
    drawing = figures.curves(study(tmp_path))
    assert line(panel(drawing, "scene"), "TRQAM").get_xdata()[-1] == 500_000
    assert "TRQAM on scene is drawn to 500K" in drawing.caption


def test_files_are_fit_to_print(tmp_path):
    for env in ("scene", "cube-triple"):
        make_run(tmp_path / "runs", "trqam", env)
    files = {}
    for out in (tmp_path / "a", tmp_path / "b"):
        drawings = draw(read_runs([tmp_path / "runs"]), out, ["curves", "kl"])
        files[out.name] = {file.name: file.read_bytes() for file in sorted(out.iterdir())}
    assert [*files["a"]] == ["curves.pdf", "curves.png", "kl.pdf", "kl.png"]
    assert files["a"] == files["b"]
    for name in ("curves.pdf", "kl.pdf"):
        assert b"/FontFile2" in files["a"][name]  # an embedded TrueType font
        assert b"/Type3" not in files["a"][name]
        assert re.search(rb"/MediaBox \[ 0 0 489.6 ", files["a"][name])  # 6.8 in
    for drawing in drawings.values():
        (legend,) = drawing.figure.legends
        assert not any(axis.get_window_extent().overlaps(legend.get_window_extent()) for axis in drawing.figure.axes)


def test_what_is_missing_is_said(tmp_path, capsys):
    folder = make_run(tmp_path, "qam", steps=STEPS[:2])
    drawings = draw(read_runs([folder]), tmp_path / "out", ["curves", "kl"])
    assert [*drawings] == ["curves"]
    assert capsys.readouterr().err == (
        "kl: skipped, no run of a method with a KL budget (train.csv has no column kl_budget)\n"
    )
    with pytest.raises(UserError, match=r"nothing to draw. kl: skipped.*; budget: skipped, no method with several"):
        draw(read_runs([folder]), tmp_path / "other", ["kl", "budget"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{runs}", "--out={out}", "--only=curve"], "no figure is called 'curve'. Did you mean 'curves'"),
        (["{out}", "--out={out}"], "out: no such folder"),
        (["{runs}"], "required: --out"),
        (["{runs}", "--out={runs}/1/scene/qam-1-0/DONE"], "DONE: "),
        (["{runs}", "--out={out}"], "both hold QAM on scene, task 1, seed 1: draw them in separate calls"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, capsys, arguments, message):
    make_run(tmp_path / "runs" / "1", "qam", tasks=(1,), seeds=(1,))
    if "both" in message:
        make_run(tmp_path / "runs" / "2", "qam", tasks=(1,), seeds=(1,))
    with pytest.raises(SystemExit) as error:
        main([text.format(runs=tmp_path / "runs", out=tmp_path / "out") for text in arguments])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_protocols_are_not_mixed(tmp_path):
    make_run(tmp_path, "qam")
    make_run(tmp_path, "trqam", protocol="qam")
    with pytest.raises(UserError, match="qam, trqam, whose numbers must not be mixed"):
        study(tmp_path)


def test_two_swept_settings_are_told_apart(tmp_path):
    """A line for every pair of values; against one setting, a line for every value of the other."""
    pairs = [(x, y) for x in (1.0, 3.0) for y in (0.1, 0.5)]
    folder = make_run(tmp_path, "qam", variants=[f"edit_scale={y}, inv_temp={x}" for x, y in pairs])
    found = study(folder)
    labels = [one.get_label() for one in panel(figures.curves(found), "scene").get_lines()]
    assert labels[:5] == [*(f"QAM (edit_scale={y}, inv_temp={x})" for x, y in pairs), BC_POLICY]
    drawing = figures.sweep(found)
    for setting, other, values in (("inv_temp", "edit_scale", (1.0, 3.0)), ("edit_scale", "inv_temp", (0.1, 0.5))):
        containers = panel(drawing, f"scene\n{setting}").containers
        assert len(containers) == 2
        for container, fixed in zip(containers, (0.1, 0.5) if other == "edit_scale" else (1.0, 3.0), strict=True):
            assert container.get_label() == f"QAM ({other}={fixed})"
            np.testing.assert_array_equal(container[0].get_xdata(), values)
            variants = [
                ", ".join(f"{key}={value}" for key, value in sorted({setting: own, other: fixed}.items()))
                for own in values
            ]
            means = [100 * np.mean(at(folder, "success", *STEPS[-1], variant=variant)) for variant in variants]
            np.testing.assert_allclose(container[0].get_ydata(), means)
    with pytest.raises(figures.Missing, match="several KL budgets"):
        figures.budget(found)


def test_runs_that_differ_in_any_setting_are_told_apart(tmp_path):
    for i, size in enumerate((256, 512)):
        folder = make_run(tmp_path / str(i), "qam")
        content = json.loads((folder / "config.json").read_text())
        content["train"]["batch_size"] = size
        (folder / "config.json").write_text(json.dumps(content))
    found = study(tmp_path)
    labels = [one.get_label() for one in panel(figures.curves(found), "scene").get_lines()]
    assert labels[:2] == ["QAM (train.batch_size=256)", "QAM (train.batch_size=512)"]
    (container,) = panel(figures.sweep(found), "scene\ntrain.batch_size").containers
    np.testing.assert_array_equal(container[0].get_xdata(), [256, 512])


def test_a_new_figure_is_a_function_and_a_line(tmp_path, monkeypatch):
    def lengths(study):
        figure, panels = figures.style.grid(["all"], rows=1)
        for one in study.train("path_kl"):
            panels["all"][0].plot(one.steps, one.values.mean(1), label=one.label)
        return figures.Drawing(figure, "Lengths.")

    monkeypatch.setitem(figures.FIGURES, "lengths", lengths)
    drawings = draw(read_runs([make_run(tmp_path, "qam")]), tmp_path / "out", ["lengths"])
    assert (tmp_path / "out" / "lengths.pdf").exists()
    assert line(panel(drawings["lengths"], "all"), "QAM").get_xdata()[-1] == 1_500_000


def test_methods_of_one_colour_differ_in_line_and_marker():
    """Of the first sixteen; of the first 28 any two differ in line or marker."""
    looks = [{key: str(value) for key, value in look_of(i).items()} for i in range(28)]
    for a, b in itertools.combinations(looks[:16], 2):
        assert a["color"] != b["color"] or (a["linestyle"] != b["linestyle"] and a["marker"] != b["marker"])
    assert len({(a["linestyle"], a["marker"]) for a in looks}) == 28


def test_a_bc_policy_that_one_method_evaluated_is_drawn(tmp_path):
    make_run(tmp_path, "trqam")
    folder = make_run(tmp_path, "qam")
    table = folder / "eval.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if ",bc," not in line))
    figure = Study(read_runs([tmp_path])).success()
    assert sorted(0 in one.steps for one in figure) == [False, True]
    assert np.isfinite(figures.style.bc_success(figure))
