"""Which values, tasks and seeds become one job."""

import itertools

import pytest
from made_sweeps import as_resolved, methods, request

from experiments.sweeps.plan import expand
from experiments.training.stages import FINE_TUNING


def test_several_values_of_an_integer_are_several_jobs_of_the_methods_that_have_it():
    overrides = {"agent.num_samples": "2,4", "agent.hidden_dims": "8,8", "train.batch_size": "4,8"}
    jobs = expand(request(agents=["ifql", "fql"], overrides=overrides))
    assert sorted(jobs) == sorted(
        ["cloning/cube-single/train.batch_size=4", "cloning/cube-single/train.batch_size=8"]
        + [f"ifql/cube-single/num_samples={n},train.batch_size={m}" for n in (2, 4) for m in (4, 8)]
        + [f"fql/cube-single/train.batch_size={n}" for n in (4, 8)]
    )
    job = jobs["ifql/cube-single/num_samples=2,train.batch_size=8"]
    other = jobs["ifql/cube-single/num_samples=4,train.batch_size=8"]
    assert job.after == ["cloning/cube-single/train.batch_size=8"]
    assert job.settings["agent.hidden_dims"] == [8, 8]
    assert FINE_TUNING.digest(as_resolved(job)) != FINE_TUNING.digest(as_resolved(other))


def test_several_kl_budgets_are_replicas_of_one_job():
    (job, fql) = methods(expand(request(overrides={"agent.kl_budget": "0.5,1,2"})))
    assert (job.name, job.replicas) == ("trqam/cube-single/kl_budget=0.5,1.0,2.0", 2 * 3 * 3)
    assert (fql.name, fql.replicas) == ("fql/cube-single", 2 * 3)
    assert as_resolved(job).agent.kl_budget == (0.5, 1.0, 2.0)
    assert expand(request(overrides={"agent.kl_budget": "2,0.5,1"})) == expand(
        request(overrides={"agent.kl_budget": "0.5,1.0,2"})
    )


@pytest.mark.parametrize("most", [1, 2, 3, 4, 6, 11, 18])
def test_parts_of_a_sweep_over_budgets_hold_every_replica_once(most):
    parts = methods(expand(request(agents=["trqam"], overrides={"agent.kl_budget": "0.5,1,2"}, max_replicas=most)))
    found = []
    for job in parts:
        settings = job.settings
        budgets = settings["agent.kl_budget"]
        budgets = budgets if isinstance(budgets, list) else [budgets]
        found += itertools.product(settings["tasks"], settings["run.seeds"], budgets)
    assert sorted(found) == list(itertools.product((1, 2), (1, 2, 3), (0.5, 1.0, 2.0)))
    assert max(job.replicas for job in parts) <= most


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6])
def test_parts_hold_every_replica_once(most):
    parts = methods(expand(request(agents=["fql"], max_replicas=most)))
    replicas = [(t, s) for job in parts for t in job.settings["tasks"] for s in job.settings["run.seeds"]]
    assert sorted(replicas) == [(t, s) for t in (1, 2) for s in (1, 2, 3)]
    assert max(job.replicas for job in parts) <= most
    if most >= 2:  # seeds are split before tasks
        assert all(job.settings["tasks"] == [1, 2] for job in parts)


TWO = {"agent.kl_budget": "0.5,1", "agent.eta": "10,0.1,1"}


def test_a_product_of_two_swept_settings_is_one_job():
    (job, fql) = methods(expand(request(overrides=TWO)))
    assert (job.name, job.replicas) == ("trqam/cube-single/eta=0.1,1.0,10.0,kl_budget=0.5,1.0", 2 * 3 * 6)
    assert (fql.name, fql.replicas) == ("fql/cube-single", 2 * 3)
    config = as_resolved(job)
    assert (config.agent.eta, config.agent.kl_budget) == ((0.1, 1.0, 10.0), (0.5, 1.0))


def all_replicas(jobs, *keys):
    """(task, seed, the values of these settings) of every replica of the jobs."""
    found = []
    for job in jobs:
        values = [job.settings[key] for key in keys]
        axes = [value if isinstance(value, list) else [value] for value in values]
        found += itertools.product(job.settings["tasks"], job.settings["run.seeds"], *axes)
    return found


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 12, 35, 36])
def test_parts_of_a_product_hold_every_replica_once(most):
    parts = methods(expand(request(agents=["trqam"], overrides=TWO, max_replicas=most)))
    expected = itertools.product((1, 2), (1, 2, 3), (0.1, 1.0, 10.0), (0.5, 1.0))
    assert sorted(all_replicas(parts, "agent.eta", "agent.kl_budget")) == sorted(expected)
    assert max(job.replicas for job in parts) <= most
    if most >= 6:  # seeds and tasks are split before values
        assert {tuple(job.settings["agent.eta"]) for job in parts} == {(0.1, 1.0, 10.0)}


@pytest.mark.parametrize(
    ("agent", "key", "text", "values"),
    [
        ("qam_edit", "edit_scale", "0.1,0", ["0.0", "0.1"]),  # without the edit network
        ("qam_edit", "edit_scale", "0.2,0,0.1", ["0.0", "0.1,0.2"]),
        ("qam", "clip_norm", "none,2,1", ["None", "1.0,2.0"]),  # without the clip
        ("qam", "rho", "0,1", ["0.0,1.0"]),
    ],
)
def test_values_that_change_what_an_agent_consists_of_are_jobs_of_their_own(agent, key, text, values):
    overrides = {f"agent.{key}": text, "agent.inv_temp": "1,3"}
    jobs = methods(expand(request(agents=[agent], overrides=overrides)))
    assert {job.name for job in jobs} == {f"{agent}/cube-single/{_both(key, value)}" for value in values}
    assert len(all_replicas(jobs, f"agent.{key}", "agent.inv_temp")) == 2 * 3 * 2 * len(text.split(","))


def _both(key, value):
    return ",".join(f"{name}={text}" for name, text in sorted([(key, value), ("inv_temp", "1.0,3.0")]))


def test_every_value_of_what_cloning_uses_has_a_cloning_of_its_own():
    jobs = expand(request(agents=["trqam"], overrides={"agent.learning_rate": "1e-3,1e-4", "agent.eta": "1,2"}))
    assert {job.name: job.after for job in methods(jobs)} == {
        f"trqam/cube-single/learning_rate={rate},eta=1.0,2.0": [f"cloning/cube-single/learning_rate={rate}"]
        for rate in ("1e-3", "1e-4")
    }
    assert [job.settings["agent.learning_rate"] for job in jobs.values()] == [1e-3, 1e-4] * 2
