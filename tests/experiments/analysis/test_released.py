"""Released files of each shape: written, read back, and printed by the convention."""

import pickle

import numpy as np
import pytest
from file_server import servers
from made_runs import read_markdown, read_tidy, runs_of_a_domain, shown, write_run

import envs
from experiments import export
from experiments.analysis import released
from experiments.analysis.cells import ALL, benchmarks, scope
from experiments.analysis.figures.study import Study
from experiments.analysis.rows import read_runs
from trqam_jax.errors import UserError
from trqam_jax.interop import safe_pickle

(BENCHMARK,) = benchmarks().values()
SHAPES = {"qam": (30, 12), "trqam": (30, 8), "sqam": (31, 8)}


def made_release(shape, method="QAM", seed=0):
    """A release as published: 50 tasks, ten domains and "all", of successes over 50 episodes."""
    rng = np.random.default_rng(seed)
    content = {}
    for domain in [domain for domain in envs.DOMAINS.values() if domain.benchmark]:
        tasks = {domain.task_name(task): rng.integers(0, 51, shape) / 50 for task in range(1, 6)}
        content |= {(name, method): array for name, array in tasks.items()}
        content[scope(domain.name), method] = np.mean(list(tasks.values()), axis=0)
    content[ALL, method] = np.mean([content[name, method] for name in BENCHMARK], axis=0)
    return content


def write(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize(
    ("release", "rows", "offline", "online"),
    [("qam", 30, 19, 29), ("trqam", 30, 19, 29), ("sqam", 31, 20, 30), ("qam", 10, None, 9)],
)
def test_a_released_file_prints_the_published_numbers(tmp_path, release, rows, offline, online):
    """The cells are the convention over the row of 1M (offline) and of 1.5M (online); ten rows are the online phase."""
    content = made_release((rows, SHAPES[release][1]))
    path = write(tmp_path / "results.pkl", content)
    if offline is None:
        with pytest.raises(UserError, match="nothing of phase 'offline'"):
            shown(path, f"--release={release}")
    for phase, row in (("offline", offline), ("online", online)):
        if row is None:
            continue
        text = shown(path, f"--release={release}", f"--phase={phase}")
        cells = {name: text.strip("*") for name, text in read_markdown(text)["QAM"].items()}
        whole = []
        for domain in [domain for domain in envs.DOMAINS.values() if domain.benchmark]:
            per_seed = 100 * np.mean([content[domain.task_name(t), "QAM"][row] for t in range(1, 6)], axis=0)
            mean, std = (int(np.floor(x + 0.5 + 1e-9)) for x in (per_seed.mean(), per_seed.std(ddof=1)))
            assert cells[domain.name] == f"{mean} ± {std}"
            whole.append(mean)
        assert cells[ALL] == str(int(np.floor(np.mean(whole) + 0.5)))
        assert f"protocol {released.RELEASES[release].protocol}; seeds: {SHAPES[release][1]}" in text


def test_float32_halves_are_still_rounded_up(tmp_path):
    """Success .285 in float32 is .28499999642."""
    content = {("scene-play", "QAM"): np.full((30, 12), 0.285, np.float32)}
    path = write(tmp_path / "results.pkl", content)
    assert read_markdown(shown(path, "--release=qam"))["QAM"]["scene"] == "**29 ± 0**"


def test_domains_alone_tasks_alone_and_spellings(tmp_path):
    array = np.linspace(0, 1, 30 * 8).reshape(30, 8)
    for name in ("puzzle-4x4", "puzzle-4x4-play"):
        path = write(tmp_path / "results.pkl", {(name, "TRQAM"): array})
        domain_alone = read_markdown(shown(path, "--release=trqam"))["TRQAM"]["puzzle-4x4"]
        assert "±" in domain_alone
        assert "tasks" not in domain_alone
        assert "Performance profile" in shown(path, "--release=trqam", "--statistics")
    path = write(tmp_path / "results.pkl", {("puzzle-4x4-play-singletask-task4-v0", "TRQAM"): array})
    assert read_markdown(shown(path, "--release=trqam"))["TRQAM"]["puzzle-4x4"].endswith("(1/5 tasks)")
    assert list(read_markdown(shown(path, "--release=trqam", "--per_task"))) == ["puzzle-4x4-task4"]


def test_what_is_missing_in_a_file_is_marked(tmp_path, capsys):
    content = made_release((30, 8))
    content["scene-play-singletask-task2-v0", "QAM"][19, 3] = np.nan
    content["scene-play", "QAM"][19, 3] = np.nan
    content |= {key: array[:, :6] for key, array in content.items() if key[0].startswith("puzzle-3x3")}
    path = write(tmp_path / "results.pkl", content)
    row = read_markdown(shown(path, "--release=trqam"))["QAM"]
    assert row["scene"].endswith("(7/8 seeds)")
    assert row["puzzle-3x3"].endswith("(6/8 seeds)")
    assert row[ALL].endswith("(8/10 domains, 6/8 seeds)")
    said = capsys.readouterr().err
    assert "QAM on scene has 2 curve(s) without an evaluation at step 1000000" in said
    assert "not the mean" not in said
    content["cube-double-play", "QAM"][5, 2] += 0.1
    write(path, content)
    shown(path, "--release=trqam")
    assert "cube-double, QAM, seed 2 is not the mean of its tasks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict"),
        ({}, "expected a dict"),
        ({"scene": np.zeros((30, 8))}, "expected a dict"),
        ({("scene", "QAM"): np.zeros((29, 8))}, r"shape \(29, 8\) is none of --release=trqam; releases: qam"),
        ({("scene", "QAM"): np.zeros((30, 12))}, r"shape \(30, 12\)"),
        ({("scene", "QAM"): np.zeros(30)}, "expected an array"),
        ({("scene", "QAM"): 5}, "expected an array"),
        ({("scene", "QAM"): np.full((30, 8), 45.0)}, "expected fractions from 0 to 1, it holds 45.0 to 45.0"),
        ({("scenes", "QAM"): np.zeros((30, 8))}, "Did you mean 'scene'"),
        ({("all", "QAM"): np.zeros((30, 8))}, "nothing of phase"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        shown(write(tmp_path / "results.pkl", content), "--release=trqam")
    assert "\n" not in str(error.value)


# By name


def test_a_release_by_name_is_fetched_once(tmp_path, monkeypatch):
    """Its table is that of the same file given by hand; the second time nobody is contacted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    body = pickle.dumps(made_release(SHAPES["trqam"], "TRQAM"))
    with servers() as start:
        server = start({"/exp_data/trqam-exp-data.pkl": body})
        monkeypatch.setenv("TRQAM_JAX_MIRRORS", f"{server.url}/exp_data")
        by_name = shown("--released=trqam")
        contacts = len(server.requests)
        assert contacts
        assert shown("--released=trqam") == by_name
        assert len(server.requests) == contacts
    by_hand = shown(write(tmp_path / "results.pkl", made_release(SHAPES["trqam"], "TRQAM")), "--release=trqam")
    assert read_markdown(by_name) == read_markdown(by_hand)
    assert "Released, trqam: the evaluation at step 1,000,000" in by_name


def test_a_page_instead_of_a_release_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with servers() as start:
        monkeypatch.setattr(released, "GITHUB", start({}).url)
        monkeypatch.setenv("TRQAM_JAX_MIRRORS", start({"/qam-exp-data.pkl": b"<html>gone</html>"}).url)
        with pytest.raises(UserError, match=r"not downloaded.*HTTP 404.*table\.py FILE\.pkl --release=qam"):
            shown("--released=qam")
    assert not [*tmp_path.rglob("*.pkl")]


def test_released_curves_stand_beside_runs(tmp_path, monkeypatch):
    """The curve of a task is the file's row by row; its name says that it is released."""
    content = made_release(SHAPES["sqam"], "SQAM")
    path = write(tmp_path / "sqam-exp-data.pkl", content)
    write_run(tmp_path / "runs", protocol="trqam")
    study = Study([*read_runs([tmp_path / "runs"]), *released.curves(path, "sqam")])
    (series,) = [one for one in study.success() if one.env == "cube-double" and one.label != "TRQAM"]
    assert series.label == "SQAM (released=sqam)"
    assert series.steps.tolist() == [50_000 * i for i in range(31)]
    array = content[envs.DOMAINS["cube-double"].task_name(3), "SQAM"]
    np.testing.assert_allclose(series.of_task(3).values, 100 * array)
    assert study.border() == 1_000_000


# Export


def evaluations(root, release, *, seeds, protocol, domains=None):
    """Runs of 5 tasks over three offline and two online evaluations; returns {(domain, task, seed): [successes]}."""
    rng, made = np.random.default_rng(0), {}
    for domain in domains or [domain for domain in envs.DOMAINS.values() if domain.benchmark]:
        rows = []
        for task in range(1, 6):
            for seed in seeds:
                made[domain.name, task, seed] = values = rng.integers(0, 51, 6) / 50
                when = [("bc", 300_000), *(("offline", step) for step in (500_000, 950_000, 1_000_000))]
                when += [("online", step) for step in (50_000, 500_000)]
                rows += [
                    {"task": task, "seed": seed, "phase": phase, "step": step, "success": value}
                    for (phase, step), value in zip(when, values, strict=True)
                ]
        write_run(root / domain.name, rows, env=domain.name, seeds=seeds, protocol=protocol)
    return made


@pytest.mark.parametrize(("release", "rows"), [("qam", (9, 18, 19, 20, 29)), ("sqam", (10, 19, 20, 21, 30))])
def test_runs_make_the_round_trip(tmp_path, release, rows):
    """Every evaluation is in its row, the rest is nan, and the table of the file is the table of the runs."""
    shape, protocol = SHAPES[release], released.RELEASES[release].protocol
    seeds = envs.PROTOCOLS[protocol].seeds
    made = evaluations(tmp_path / "runs", release, seeds=seeds, protocol=protocol)
    out = tmp_path / "results.pkl"
    export.main([str(tmp_path / "runs"), f"--out={out}", f"--release={release}"])
    content = safe_pickle.load(out)
    assert len(content) == 61
    assert {array.shape for array in content.values()} == {shape}
    array = content["scene-play-singletask-task3-v0", "TRQAM"]
    for column, seed in enumerate(seeds):
        np.testing.assert_array_equal(array[list(rows), column], made["scene", 3, seed][1:])
    if release == "sqam":
        np.testing.assert_array_equal(array[0], [made["scene", 3, seed][0] for seed in seeds])
    assert np.isnan(array).sum() == (shape[0] - 5 - (release == "sqam")) * shape[1]
    for phase in ("offline", "online"):
        from_file = shown(out, f"--release={release}", f"--phase={phase}")
        from_runs = shown(tmp_path / "runs", f"--phase={phase}")
        assert read_markdown(from_file) == read_markdown(from_runs)
        assert "(" not in read_markdown(from_file)["TRQAM"][ALL]
        table = lambda *a: read_tidy(shown(*a, f"--phase={phase}", "--format=csv", "--statistics"))  # noqa: B023
        assert table(out, f"--release={release}") == table(tmp_path / "runs")


def test_domains_and_all_are_written_only_when_complete_and_diverged_is_nan(tmp_path):
    runs_of_a_domain(tmp_path / "a", "scene", tasks=(1, 2))
    runs_of_a_domain(tmp_path / "b", "cube-double")
    write_run(tmp_path / "c", [{"status": "diverged", "task": 1, "seed": s} for s in (1, 2)], env="cube-triple",
              protocol="trqam", seeds=(1, 2))  # fmt: skip
    content = released.export(read_runs([tmp_path]), "trqam")
    names = {name for name, _ in content}
    assert "cube-double-play" in names
    assert not names & {"scene-play", ALL, "cube-triple-play"}
    assert np.isnan(content["cube-triple-play-singletask-task1-v0", "TRQAM"]).all()


def test_what_cannot_be_exported_is_named(tmp_path, capsys):
    runs_of_a_domain(tmp_path / "a", protocol="quick")
    with pytest.raises(UserError, match=r"mixed protocols: quick .* and trqam \(--release=trqam\)"):
        released.export(read_runs([tmp_path]), "trqam")
    write_run(tmp_path / "b", [{"step": 7}], protocol="trqam")
    with pytest.raises(UserError, match="no evaluation at a multiple of 50,000"):
        released.export(read_runs([tmp_path / "b"]), "trqam")
    assert "left out, as the format has no such rows: steps 7" in capsys.readouterr().err
    runs_of_a_domain(tmp_path / "c")
    out = write(tmp_path / "there.pkl", {})
    with pytest.raises(SystemExit, match=r"there.pkl: File exists"):
        export.main([str(tmp_path / "c"), f"--out={out}"])
