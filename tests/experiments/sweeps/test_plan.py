"""What a sweep expands into, and what that would cost."""

import itertools

import pytest
from absl import flags

import agents
import envs
from experiments import cli
from experiments.config import digest, flatten
from experiments.sweeps import manifest, plan
from experiments.sweeps.plan import Request, expand
from experiments.training.records import folder_of
from trqam_jax.errors import UserError

SEVEN = ["trqam", "qam", "qam_edit", "qam_fql", "fql", "dsrl", "cgql"]


def request(**own):
    asked = dict(agents=["trqam", "fql"], envs=["cube-single"], tasks="1,2", seeds=["1", "2", "3"], num_seeds=None)
    rest = dict(protocol="quick", flags={"out_dir": "/runs", "group": "g"}, overrides={}, max_replicas=None)
    return Request(**{**asked, **rest, **own})


def methods(jobs):
    return [job for job in jobs.values() if job.after]


def as_resolved(job):
    """The configuration that main.py makes of the job's arguments."""
    try:
        program, agent, *rest = flags.FLAGS(["main.py", *job.argv], known_only=True)
        return cli.resolve(agent.removeprefix("--agent="), [program, *rest])
    finally:
        for name in cli.SHARED:
            flags.FLAGS[name].unparse()
        flags.FLAGS.unparse_flags()


def test_the_paper_is_2800_runs_in_70_jobs_after_ten_clonings():
    benchmark = [domain.name for domain in envs.DOMAINS.values() if domain.benchmark]
    jobs = expand(request(agents=SEVEN, envs=benchmark, tasks="all", seeds=None, num_seeds=8, protocol="trqam"))
    assert len(jobs) == 80
    assert [job.name for job in jobs.values()][:10] == [f"cloning/{env}" for env in benchmark]
    assert sum(job.replicas for job in methods(jobs)) == 2800
    for job in methods(jobs):
        assert job.after == [f"cloning/{job.env}"]
        assert job.updates == 1_000_000


@pytest.mark.parametrize("protocol", ["trqam", "quick"])
def test_all_methods_start_from_one_cloning(protocol):
    names = [name for name in agents.AGENTS if name != "trqam"]
    names_of_domains = list(envs.DOMAINS)
    jobs = expand(request(agents=names, envs=names_of_domains, protocol=protocol))
    assert len(jobs) == len(names_of_domains) * (len(names) + 1)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"overrides": {"agent.kl_budget": "0.5,1", "agent.hidden_dims": "8,8"}},
        {
            "max_replicas": 4,
            "flags": {"out_dir": "/r", "group": "a b", "balanced_sampling": True, "dataset": "x,y.npz"},
        },
        {"overrides": {"bc.per_seed": "true", "agent.learning_rate": "1e-3"}},
        {"overrides": {"agent.kl_budget": "0.5,1,2"}, "max_replicas": 5},
        {"overrides": {"agent.kl_budget": "(2, 0.5)"}, "max_replicas": 1},
    ],
)
def test_arguments_mean_the_planned_configuration_and_no_two_share_a_folder(own):
    jobs = expand(request(**own))
    configs = {name: as_resolved(job) for name, job in jobs.items()}
    for name, config in configs.items():
        found = manifest.as_json(flatten(config))
        assert {key: found[key] for key in jobs[name].settings} == jobs[name].settings
        budgets = len(plan.configuration.budgets(config))
        assert len(config.tasks) * len(config.run.seeds) * budgets == jobs[name].replicas
    assert len({folder_of(config) for config in configs.values()}) == len(jobs)
    for job in methods(jobs):
        (cloning,) = job.after
        folders = [
            folder_of(plan.configuration.cloning(configs[name]), of_cloning=True) for name in (job.name, cloning)
        ]
        assert folders[0] == folders[1]


def test_the_order_of_arguments_is_that_of_the_command_line_and_stable():
    assert expand(request()) == expand(request())


def test_several_values_of_a_setting_are_several_jobs_of_the_methods_that_have_it():
    jobs = expand(request(overrides={"agent.eta": "0.1,1", "agent.hidden_dims": "8,8", "train.batch_size": "4,8"}))
    assert sorted(jobs) == sorted(
        ["cloning/cube-single/train.batch_size=4", "cloning/cube-single/train.batch_size=8"]
        + [f"trqam/cube-single/eta={eta},train.batch_size={n}" for eta in ("0.1", "1") for n in (4, 8)]
        + [f"fql/cube-single/train.batch_size={n}" for n in (4, 8)]
    )
    job = jobs["trqam/cube-single/eta=0.1,train.batch_size=8"]
    assert job.after == ["cloning/cube-single/train.batch_size=8"]
    assert job.settings["agent.hidden_dims"] == [8, 8]
    assert digest(as_resolved(job)) != digest(as_resolved(jobs["trqam/cube-single/eta=1,train.batch_size=8"]))


def test_several_kl_budgets_are_replicas_of_one_job():
    (job, fql) = methods(expand(request(overrides={"agent.kl_budget": "0.5,1,2"})))
    assert (job.name, job.replicas) == ("trqam/cube-single/kl_budget=0.5,1.0,2.0", 2 * 3 * 3)
    assert (fql.name, fql.replicas) == ("fql/cube-single", 2 * 3)
    assert as_resolved(job).agent.kl_budget == (0.5, 1.0, 2.0)
    assert expand(request(overrides={"agent.kl_budget": "2,0.5,1"})) == expand(
        request(overrides={"agent.kl_budget": "0.5,1.0,2"})
    )


def test_a_sweep_does_not_train_a_budget_twice(tmp_path):
    sweep = lambda budgets: manifest.Sweep(tmp_path, "p", "c", expand(request(overrides={"agent.kl_budget": budgets})))
    manifest.write(manifest.merged(sweep("0.5,1")))
    for overlapping in ("0.5,1,2", "1"):
        with pytest.raises(UserError, match=r"the KL budgets \[.*1.0\] already"):
            manifest.merged(sweep(overlapping))
    replicas = [job.replicas for job in methods(manifest.merged(sweep("2,3")).jobs) if job.agent == "trqam"]
    assert replicas == [2 * 3 * 2] * 2


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


def test_no_cloning_without_updates_of_it():
    assert not any(job.after for job in expand(request(protocol="qam")).values())
    given = {"bc_steps": 0, "bc_checkpoint": "/somewhere", "out_dir": "/runs", "group": "g"}
    assert len(expand(request(flags=given))) == 2


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"agents": ["fql", "trqm"]}, ["'trqm'", "Did you mean 'trqam'"]),
        ({"agents": ["fql", "fql"]}, ["fql/cube-single and fql/cube-single would be one run"]),
        ({"envs": ["cube-singl"]}, ["Did you mean 'cube-single'"]),
        ({"envs": ["cube-single-task1", "cube-single-task2"], "tasks": None}, ["would be one run", "--tasks"]),
        ({"overrides": {"agent.kl_budgt": "1,2"}}, ["kl_budgt", "none of trqam, fql"]),
        ({"overrides": {"agent.eta": "1,x"}}, ["'x'", "float"]),
        ({"overrides": {"agent.eta": "1,1.0"}}, ["eta=1.0 and trqam/cube-single/eta=1 would be one"]),
        ({"overrides": {"agent.kl_budget": "1,x"}}, ["'1,x'", "float"]),
        ({"overrides": {"agent.kl_budget": "1,1.0"}}, ["kl_budget=1.0,1.0", "twice"]),
        ({"overrides": {"agent.kl_budget": "1,2,1"}, "max_replicas": 2}, ["kl_budget=1.0,2.0,1.0", "twice"]),
        ({"overrides": {"eval.interval": "1,2"}}, ["eval.interval=2 and trqam/cube-single/eval.interval=1"]),
        ({"flags": {"kl_budget_online": 1.0}, "agents": ["fql"]}, ["online.kl_budget", "none of fql"]),
        ({"max_replicas": 2, "overrides": {"bc.per_seed": "true"}}, ["--max_replicas=2", "per_seed"]),
        ({"flags": {"resume": "never"}}, ["--resume=never"]),
    ],
)
def test_errors_name_the_value(own, words):
    with pytest.raises(UserError) as error:
        expand(request(**own))
    assert all(word in str(error.value) for word in words), error.value


def test_costs_are_of_the_measured_size_and_the_nearest_number_of_replicas(tmp_path):
    file = tmp_path / "measured.csv"
    rows = ["fql,now,2,512x512x512x512,10,A", "fql,now,4,512x512x512x512,20,A", "fql,now,8,512x512x512x512,50,A"]
    rows += [
        "fql,before,6,512x512x512x512,99,A",
        "fql,now,6,1024x1024x1024x1024,99,A",
        "trqam,now,8,512x512x512x512,4,B",
    ]
    file.write_text("\n".join(["agent,loop,replicas,hidden_dims,updates_per_second,device", *rows, ""]))
    jobs = expand(request(envs=["scene"], protocol="trqam"))
    found = plan.costs(jobs.values(), file)
    assert found == {"fql/scene": plan.Cost(6e6 / 20, "A"), "trqam/scene": plan.Cost(6e6 / 4, "B")}
    for other in ({"protocol": "quick"}, {"overrides": {"agent.flow_steps": "5"}}, {"envs": ["cube-triple"]}):
        others = expand(request(**{"envs": ["scene"], "protocol": "trqam", **other}))
        assert not {job.agent for job in others.values() if job.name in plan.costs(others.values(), file)} - {"fql"}
    file.write_text("agent,replicas\nfql,1\n")
    with pytest.raises(UserError, match="updates_per_second, device"):
        plan.costs(jobs.values(), file)


def test_online_settings_reach_the_methods_that_have_them_and_no_cloning():
    online = {"online_steps": 50, "updates_per_step": 2, "balanced_sampling": False, "kl_budget_online": 0.5}
    jobs = expand(request(flags={"out_dir": "/runs", "group": "g", **online}))
    assert {job.updates for job in methods(jobs)} == {10_000 + 100}
    asked = {job.agent: any("kl_budget_online" in argument for argument in job.argv) for job in jobs.values()}
    assert asked == {"bc": False, "trqam": True, "fql": False}
    assert not any("online" in argument for argument in jobs["cloning/cube-single"].argv)
