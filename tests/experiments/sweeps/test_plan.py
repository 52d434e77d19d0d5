"""What a sweep expands into."""

import pathlib

import pytest
from made_sweeps import as_resolved, methods, request

import agents
import envs
from experiments.config import flatten, variants
from experiments.sweeps.manifest import as_json
from experiments.sweeps.plan import checkpoints, expand
from experiments.training.stages import BC, FINE_TUNING
from trqam_jax import hub
from trqam_jax.errors import UserError

SEVEN = ["trqam", "qam", "qam_edit", "qam_fql", "fql", "dsrl", "cgql"]


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
    jobs = expand(request(agents=names, envs=names_of_domains, tasks="1", protocol=protocol))
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
        {"overrides": {"agent.kl_budget": "0.5,1", "agent.eta": "0.1,1,10"}},
        {"overrides": {"agent.kl_budget": "0.5,1", "agent.eta": "0.1,1,10"}, "max_replicas": 4},
        {"overrides": {"agent.learning_rate": "1e-3,1e-4", "agent.rho": "0,1"}},
        {"agents": ["qam_edit"], "overrides": {"agent.edit_scale": "0,0.1,0.2", "agent.inv_temp": "1,3"}},
        {"overrides": {"agent.clip_norm": "none,1,2"}},
    ],
)
def test_arguments_mean_the_planned_configuration_and_no_two_share_a_folder(own):
    jobs = expand(request(**own))
    configs = {name: as_resolved(job) for name, job in jobs.items()}
    for name, config in configs.items():
        found = as_json(flatten(config))
        assert {key: found[key] for key in jobs[name].settings} == jobs[name].settings
        assert len(config.tasks) * len(config.run.seeds) * len(variants(config)) == jobs[name].replicas
    assert len({FINE_TUNING.folder(config) for config in configs.values()}) == len(jobs)
    for job in methods(jobs):
        (cloning,) = job.after
        folders = [BC.folder(BC.config(configs[name])) for name in (job.name, cloning)]
        assert folders[0] == folders[1]


def test_the_order_of_arguments_is_that_of_the_command_line_and_stable():
    assert expand(request()) == expand(request())


def test_no_cloning_without_updates_of_it():
    assert not any(job.after for job in expand(request(protocol="qam")).values())
    given = {"bc_steps": 0, "bc_checkpoint": "/somewhere", "out_dir": "/runs", "group": "g"}
    assert len(expand(request(flags=given))) == 2


@pytest.mark.parametrize("given", ["released", "hub:me/bc"])
def test_a_named_policy_is_at_one_commit_in_all_jobs_and_stays_there(given, monkeypatch):
    asked = []

    def fetch(name, patterns):
        asked.append(name)
        return hub.Snapshot(pathlib.Path(), name._replace(revision=f"{len(asked):040x}"))

    monkeypatch.setattr(hub, "fetch", fetch)
    where = {"out_dir": "/runs", "group": "g", "bc_steps": 0}
    domains = ["cube-double", "cube-triple"]
    ways = ({"flags": {**where, "bc_checkpoint": given}}, {"flags": where, "overrides": {"bc.checkpoint": given}})
    for number, way in enumerate(ways, start=1):
        asks = request(envs=domains, agents=["trqam", "fql", "rebrac"], **way)
        jobs = expand(asks)
        assert checkpoints(jobs) == dict.fromkeys(domains, f"{given}@{number:040x}")
        assert sum(given in argument for job in jobs.values() for argument in job.argv) >= 4
        assert len(asked) == number
        assert expand(asks._replace(checkpoints=checkpoints(jobs))) == jobs
    assert checkpoints(expand(request(flags={**where, "bc_checkpoint": "/a/folder"}))) == {"cube-single": "/a/folder"}
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"agents": ["fql", "trqm"]}, ["'trqm'", "Did you mean 'trqam'"]),
        ({"agents": ["fql", "fql"]}, ["fql/cube-single and fql/cube-single would be one run"]),
        ({"envs": ["cube-singl"]}, ["Did you mean 'cube-single'"]),
        ({"envs": ["cube-single-task1", "cube-single-task2"], "tasks": None}, ["would be one run", "--tasks"]),
        ({"overrides": {"agent.kl_budgt": "1,2"}}, ["kl_budgt", "none of trqam, fql"]),
        ({"overrides": {"agent.eta": "1,x"}}, ["'x'", "float"]),
        ({"overrides": {"agent.eta": "1,1.0"}}, ["agent.eta=1.0,1.0", "twice"]),
        ({"overrides": {"agent.learning_rate": "1,1.0"}}, ["learning_rate=1.0 and trqam/cube-single/learning_rate=1"]),
        ({"overrides": {"agent.kl_budget": "1,x"}}, ["'x'", "float"]),
        ({"overrides": {"agent.kl_budget": "-1,1"}}, ["agent.kl_budget", "-1.0", "at least 1e-09"]),
        ({"overrides": {"agent.kl_budget": "1,1.0"}}, ["kl_budget=1.0,1.0", "twice"]),
        ({"overrides": {"agent.kl_budget": "1,2,1"}, "max_replicas": 2}, ["kl_budget=1.0,2.0,1.0", "twice"]),
        ({"overrides": {"eval.interval": "1,2"}}, ["eval.interval=2 and trqam/cube-single/eval.interval=1"]),
        ({"flags": {"kl_budget_online": 1.0}, "agents": ["fql"]}, ["online.kl_budget", "none of fql"]),
        ({"overrides": {"agent.best_of_n": "4"}, "agents": ["qsm", "dac"]}, ["agent.best_of_n", "none of qsm, dac"]),
        ({"max_replicas": 2, "overrides": {"bc.per_seed": "true"}}, ["--max_replicas=2", "per_seed"]),
        ({"flags": {"resume": "never"}}, ["--resume=never"]),
        ({"agents": [], "overrides": {}}, ["--agents is empty", "trqam"]),
        ({"overrides": {"run.out_dir": "x"}}, ["run.out_dir=x", "--out_dir"]),
        ({"overrides": {"run.part": "x"}}, ["run.part=x"]),
    ],
)
def test_errors_name_the_value(own, words):
    with pytest.raises(UserError) as error:
        expand(request(**own))
    assert all(word in str(error.value) for word in words), error.value


def test_online_settings_reach_the_methods_that_have_them_and_no_cloning():
    online = {"online_steps": 50, "start_training": 20, "updates_per_step": 2, "balanced_sampling": False}
    online["kl_budget_online"] = 0.5
    jobs = expand(request(flags={"out_dir": "/runs", "group": "g", **online}))
    assert {job.updates for job in methods(jobs)} == {10_000 + 100}
    asked = {job.agent: any("kl_budget_online" in argument for argument in job.argv) for job in jobs.values()}
    assert asked == {"bc": False, "trqam": True, "fql": False}
    assert not any("online" in argument for argument in jobs["cloning/cube-single"].argv)
