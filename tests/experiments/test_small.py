"""The small benchmark's sweeps and tables."""

import pytest
from made_runs import TIMES, write_run

import envs
from experiments import small
from experiments.analysis.rows import read_runs
from experiments.small_benchmark import design, plan, results
from experiments.training.csv_rows import CsvWriter
from trqam_jax.errors import UserError

EVAL = ["env", "task", "agent", "seed", "phase", "step", "episodes", "success", "return", "length", "status", "variant"]
ENVS = [task.env for task in design.TASKS]


def test_every_method_is_tuned_with_the_same_effort():
    jobs = plan.tuning("/runs", {}).jobs
    methods = [job for job in jobs.values() if job.agent != "bc"]
    assert {(job.agent, job.env) for job in methods} == {(agent, env) for agent in design.METHODS for env in ENVS}
    assert len(methods) == len(design.METHODS) * len(ENVS)
    assert {job.replicas for job in methods} == {design.VALUES * len(design.TUNING_SEEDS)}
    assert len({job.updates for job in methods}) == 1
    assert {job.settings["protocol"] for job in jobs.values()} == {"small"}
    assert not any(job.settings["eval.bc"] for job in jobs.values())


def test_the_comparison_has_seeds_that_the_tuning_has_not_seen():
    chosen = {(env, agent): {} for env in ENVS for agent in design.METHODS}
    chosen["cube-single", "trqam"] = {"kl_budget": "0.3"}
    jobs = plan.comparison("/runs", {}, chosen).jobs
    methods = {(job.env, job.agent): job for job in jobs.values() if job.agent != "bc"}
    assert methods.keys() == chosen.keys()
    for job in methods.values():
        seeds = set(map(str, job.settings["run.seeds"]))
        assert len(seeds) == design.NUM_SEEDS
        assert not seeds & set(design.TUNING_SEEDS)
    assert methods["cube-single", "trqam"].settings["agent.kl_budget"] == 0.3
    assert methods["cube-single", "trqam"].settings["tasks"] == [1, 2]
    assert {agent for (_, agent), job in methods.items() if job.settings["eval.bc"]} == {"trqam"}
    # Behaviour cloning does not see the values: one job per domain comes before all others.
    assert [job.name for job in jobs.values()][: len(ENVS)] == [f"cloning/{env}" for env in ENVS]


def tuning_run(folder, success, env="cube-single", agent="trqam", status="ok"):
    """success: {variant: (seed 1's, seed 2's)}, at the end; before it every value succeeds always."""
    rows = [
        {"seed": seed, "variant": variant, "step": step, "success": end if step == 20 else 1.0, "status": status}
        for step in (10, 20)
        for variant, ends in success.items()
        for seed, end in zip((1, 2), ends, strict=True)
    ]
    return write_run(folder, rows, agent=agent, env=env, protocol="small", seeds=(1, 2), columns=EVAL)


def test_the_value_with_the_greatest_success_at_the_end_is_chosen_and_of_equals_the_first(tmp_path):
    tuning_run(tmp_path / "a", {"kl_budget=0.1": (0.2, 0.3), "kl_budget=1.0": (0.7, 0.1), "kl_budget=3.0": (0.4, 0.4)})
    tuning_run(tmp_path / "b", {"inv_temp=1.0": (0.0, 0.0), "inv_temp=3.0": (0.0, 0.0)}, agent="qam")
    values = results.tuned(read_runs([tmp_path]))
    chosen = results.choose(values)
    best = chosen["cube-single", "trqam"]
    assert best.variant == "kl_budget=1.0"
    assert (best.success, *best.by_seed) == pytest.approx((40.0, 70.0, 10.0))
    assert chosen["cube-single", "qam"].variant == "inv_temp=1.0"
    with pytest.raises(UserError, match=r"not tuned to the end: cgql_linex on cube-single, .*tune first"):
        results.settings(chosen)
    grid = results.tuning_grid(values)
    assert ["TRQAM", "kl_budget=1.0", "40.0 (70, 10)", ""] in grid.body


def test_a_value_that_diverged_counts_as_no_success(tmp_path):
    tuning_run(tmp_path / "a", {"kl_budget=0.1": (1.0, 1.0)}, status="diverged")
    (value,) = results.tuned(read_runs([tmp_path]))
    assert value.success == 0


def compared_run(folder, env, agent, tasks, success, **settings):
    """success: {seed: of every task at the end}."""
    rows = [
        {"task": task, "seed": seed, "step": step, "success": end * step / 20}
        for step in (10, 20)
        for task in tasks
        for seed, end in success.items()
    ]
    if agent == "trqam":  # it alone evaluates the BC policy
        rows += [
            {"task": task, "seed": seed, "phase": "bc", "step": 30, "success": 0.05 * task}
            for task in tasks
            for seed in success
        ]
    rows = [{**row, "env": env} for row in rows]
    write_run(folder, rows, agent=agent, env=env, protocol="small", seeds=tuple(success), **settings)
    times = [{"phase": "offline", "step": step, "updates_per_second": 50.0} for step in (10, 20)]
    CsvWriter(folder / "times.csv", TIMES).write([*times, {"phase": "offline", "step": 20, "eval_seconds": 7.0}])


@pytest.fixture
def compared(tmp_path):
    for env, tasks in (("cube-single", (1, 2)), ("robomimic-can", (1,))):
        for agent, success, settings in (
            ("trqam", {1: 0.6, 2: 0.4}, {"kl_budget": 0.3}),
            ("qam", {1: 0.5, 2: 0.1}, {"inv_temp": 3.0}),
        ):
            compared_run(tmp_path / design.COMPARISON / env / agent, env, agent, tasks, success, **settings)
    return tmp_path


def test_methods_are_compared_seed_by_seed(compared):
    grids = results.comparison_grids(read_runs([compared]))
    assert len(grids) == 4
    first = dict(zip(grids[0].header, grids[0].body[1], strict=True))
    assert grids[0].body[0][:2] == ["TRQAM", "50.0 ± 14.1"]
    assert first["method"] == "QAM"
    assert first["TRQAM minus it"] == "20.0"
    assert first["95 % interval"] == "[10.0, 30.0]"
    assert first["value"] == "inv_temp=3.0"
    # One task of config.json and two seeds at 50 updates/s each: 20 steps are 0.4 s.
    assert [first[key] for key in ("updates/s", "training, s", "evaluation, s")] == ["100", "0", "7"]
    assert grids[-1].body[0][:2] == ["TRQAM", "50.0 ± 14.1"]
    assert grids[1].body[2] == ["BC", "10.0 ± 0.0", "40.0", "[30.0, 50.0]", "", "", "", ""]
    assert grids[-1].body[2][1] == "6.7 ± 0.0"  # of 5, 10 and 5


@pytest.mark.parametrize("env", ENVS)
def test_what_the_tuning_chose_is_the_default_of_protocols_of_its_size(env):
    """And one of the values that it tried; methods none of whose values had success keep their default."""
    domain = envs.DOMAINS[env]
    for agent, values in design.METHODS.items():
        keys = {f"agent.{key}" for key in values}
        own = {key: value for key, value in envs.settings(domain, "small", agent).items() if key in keys}
        assert own == {key: value for key, value in envs.settings(domain, "quick", agent).items() if key in keys}
        notes = envs.notes(domain, "quick", agent)
        if not own:
            assert agent in ("fql", "rebrac")
            assert "tuning" not in str(notes)
            continue
        assert own.keys() == keys
        for key, value in own.items():
            assert value in [float(text) for text in values[key.removeprefix("agent.")].split(",")]
            assert notes[key] == "the small benchmark's tuning"
    assert envs.settings(domain, "small", "trqam")["agent.kl_budget"] == (0.3 if env == "cube-single" else 0.1)
    assert envs.settings(domain, "trqam", "dsrl").get("agent.noise_scale") is None


def test_what_lies_there_is_shown(compared, capsys, tmp_path):
    """Of methods, and finished: not the run that trained the BC policies, which has no evaluation."""
    tuning_run(tmp_path / design.TUNING / "a", {"kl_budget=0.1": (0.2, 0.3)})
    write_run(tmp_path / design.TUNING / "bc-stage", agent="bc")
    write_run(tmp_path / design.TUNING / "b", agent="qam", done=False)
    small.main(["show", f"--out_dir={tmp_path}"])
    said = capsys.readouterr()
    assert "Tuning: success at the end" in said.out
    assert "25.0 (20, 30)" in said.out
    assert "cube-single, task 2" in said.out
    assert "1 of 2 runs are not finished and left out" in said.err


def test_the_path_kl_and_lambda_of_the_last_rows_are_shown(tmp_path):
    folder = tuning_run(tmp_path / "a", {"kl_budget=0.1": (0.2, 0.3), "kl_budget=1.0": (0.7, 0.1)})
    common = {"env": "cube-single", "task": 1, "agent": "trqam", "phase": "offline", "status": "ok"}
    rows = [
        {
            **common,
            "seed": seed,
            "step": step,
            "variant": variant,
            "path_kl": kl * (1 + seed / 10),
            "lambda": 2 / kl,
            "q_mean": -step,
        }
        for step in (10, 20)
        for variant, kl in (("kl_budget=0.1", 0.1 * step / 20), ("kl_budget=1.0", 1.0 * step / 20))
        for seed in (1, 2)
    ]
    CsvWriter(folder / "train.csv", list(rows[0])).write(rows)
    tuning_run(tmp_path / "b", {"noise_scale=1.0": (0.0, 0.0)}, agent="dsrl")  # it has no path KL
    body = results.trust_region_grid(read_runs([tmp_path])).body
    assert [row[:5] for row in body] == [
        ["TRQAM", "kl_budget=0.1", "0.115", "20", "-20"],
        ["TRQAM", "kl_budget=1.0", "1.15", "2", "-20"],
    ]


def test_methods_that_have_not_finished_a_task_are_not_in_its_table(compared):
    runs = read_runs([compared])
    without = [run for run in runs if (run.agent, run.config["env"]) != ("qam", "robomimic-can")]
    assert [len(grid.body) for grid in results.comparison_grids(without)] == [3, 3, 2, 2]
    assert "robomimic-can" in results.comparison_grids(without)[2].caption
    alone = [run for run in runs if (run.agent, run.config["env"]) != ("trqam", "robomimic-can")]
    assert len(results.comparison_grids(alone)) == 2  # cube-single's two tasks


def test_a_comparison_of_which_nothing_is_finished_shows_nothing(capsys, tmp_path):
    tuning_run(tmp_path / design.TUNING / "a", {"kl_budget=0.1": (0.2, 0.3)})
    write_run(tmp_path / design.COMPARISON / "b", agent="qam", done=False)
    small.main(["show", f"--out_dir={tmp_path}"])
    said = capsys.readouterr()
    assert "25.0 (20, 30)" in said.out
    assert "1 of 1 runs are not finished and left out" in said.err


def test_without_a_tuning_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(SystemExit, match="no such folder"):
        small.main(["compare", f"--out_dir={tmp_path}"])
    assert not list(tmp_path.iterdir())
