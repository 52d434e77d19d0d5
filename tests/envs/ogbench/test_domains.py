"""The benchmark's data against OGBench itself, and the settings of the protocols against a record of them."""

import json
import pathlib

import gymnasium
import ogbench  # noqa: F401
import pytest

import agents
import envs
from envs.ogbench import SUITE
from envs.ogbench.domains import env_id
from envs.ogbench.settings import SHORT
from experiments import config as configuration
from trqam_jax.errors import UserError

BENCHMARK = [domain for domain in SUITE.domains.values() if domain.benchmark]
RECORD = json.loads((pathlib.Path(__file__).parents[2] / "golden" / "settings.json").read_text())


def test_fifty_tasks_in_ten_domains():
    assert len(BENCHMARK) == 10
    assert sum(domain.num_tasks for domain in BENCHMARK) == 50
    assert list(SHORT) == [domain.name for domain in BENCHMARK]
    assert len(set(SHORT.values())) == len(SHORT)


@pytest.mark.parametrize("domain", SUITE.domains.values(), ids=lambda domain: domain.name)
def test_ogbench_knows_every_task_with_this_limit(domain):
    for task in range(1, domain.num_tasks + 1):
        assert gymnasium.spec(env_id(domain, task)).max_episode_steps == domain.episode_limit
    with pytest.raises(gymnasium.error.Error):
        gymnasium.spec(env_id(domain, domain.num_tasks + 1))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("puzzle-4x4", ("puzzle-4x4", 4)),
        ("puzzle-4x4-task2", ("puzzle-4x4", 2)),
        ("puzzle-4x4-play-singletask-task2-v0", ("puzzle-4x4", 2)),
        ("puzzle-4x4-play-singletask-v0", ("puzzle-4x4", 4)),
        ("antmaze-large-navigate-singletask-task5-v0", ("antmaze-large", 5)),
        ("scene", ("scene", 2)),
    ],
)
def test_names_of_environments(name, expected):
    domain, task = envs.parse_env(name)
    assert (domain.name, task) == expected
    assert envs.parse_env(domain.task_name(task)) == (domain, task)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("puzle-4x4", ["puzle-4x4", "Did you mean 'puzzle-4x4'"]),
        ("puzzle-4x4-task6", ["task 6", "1 to 5"]),
        ("puzzle-4x4-navigate-singletask-task1-v0", ["play", "navigate"]),
        ("", ["Unknown environment", "scene"]),
    ],
)
def test_wrong_names_say_what_is_right(name, words):
    with pytest.raises(UserError) as error:
        envs.parse_env(name)
    assert all(word in str(error.value) for word in words)


#: discount, rho, width, actor layer norm; the papers' tables, typed a second time.
TRQAM = {
    "al": (0.995, 0.5, 512, False),
    "ag": (0.995, 0.5, 1024, True),
    "hm": (0.999, 0.0, 512, False),
    "hl": (0.999, 0.0, 512, False),
    "scene": (0.995, 0.5, 512, False),
    "p33": (0.995, 0.5, 512, False),
    "p44": (0.995, 0.5, 1024, True),
    "c2": (0.995, 0.5, 512, False),
    "c3": (0.995, 0.5, 1024, True),
    "c4": (0.995, 0.5, 1024, True),
}
QAM = {
    **dict.fromkeys(("al", "scene", "p33", "p44", "c2", "c3", "c4"), (0.99, 0.5, 512, False)),
    "ag": (0.995, 0.5, 512, False),
    **dict.fromkeys(("hm", "hl"), (0.995, 0.0, 512, False)),
}


@pytest.mark.parametrize("domain", BENCHMARK, ids=lambda domain: domain.name)
@pytest.mark.parametrize(("protocol", "table"), [("trqam", TRQAM), ("qam", QAM)])
def test_per_domain_settings(domain, protocol, table):
    config = configuration.resolve(agent="trqam", env=domain.name, protocol=protocol)
    agent = config.agent
    assert (agent.discount, agent.rho, agent.hidden_dims[0], agent.actor_layer_norm) == table[SHORT[domain.name]]
    assert len(agent.hidden_dims) == 4
    assert config.data.sparse == (protocol == "qam" and SHORT[domain.name] in ("scene", "p33", "p44"))
    assert config.bc.steps == (0 if protocol == "qam" else 300_000)
    assert config.run.seeds == (10001,)


def test_seeds_are_the_released_ones():
    assert envs.PROTOCOLS["trqam"].seeds == (10001, 20002, 30003, 40004, 50005, 60006, 70007, 80008)
    assert len(envs.PROTOCOLS["qam"].seeds) == 12
    assert envs.PROTOCOLS["qam"].seeds[-1] == 120012


def recorded(table, domain, protocol, agent):
    """An entry of the record, where what all domains or all agents have alike stands once, under "*"."""
    of_protocol = table[protocol]
    of_domain = of_protocol.get(domain, {})
    return {**of_protocol["*"], **of_domain.get("*", {}), **of_domain.get(agent, {})}


def as_json(value):
    return json.loads(json.dumps(value))


def test_domains_and_seeds_are_the_recorded_ones():
    sizes = ("observation_dim", "action_dim", "episode_limit", "horizon", "default_task", "num_tasks", "benchmark")
    found = {d.name: [*(getattr(d, size) for size in sizes), d.task_name(3)] for d in SUITE.domains.values()}
    assert found == RECORD["domains"]
    assert {name: list(envs.PROTOCOLS[name].seeds) for name in RECORD["protocols"]} == RECORD["protocols"]


@pytest.mark.parametrize("protocol", RECORD["protocols"])
def test_settings_and_notes_are_the_recorded_ones(protocol):
    """Of every method on every domain: the record was made before settings were split between protocol and suite. What
    the small benchmark chose on cube-single is in it since."""
    for name, domain in SUITE.domains.items():
        for agent in agents.AGENTS:
            settings = as_json(envs.settings(domain, protocol, agent))
            assert settings.pop("data.dir") == "~/.ogbench/data"
            assert settings == recorded(RECORD["settings"], name, protocol, agent), (name, agent)
            notes = envs.notes(domain, protocol, agent)
            assert notes == recorded(RECORD["notes"], name, protocol, agent), (name, agent)


def test_every_setting_of_every_protocol_exists():
    """`settings` reaches only keys that the configuration has, for every agent and domain."""
    for protocol in envs.PROTOCOLS:
        for domain in SUITE.domains.values():
            for agent in agents.AGENTS:
                configuration.resolve(agent=agent, env=domain.name, protocol=protocol)


def test_an_unknown_budget_is_marked_as_a_default():
    assert "default" in envs.notes(SUITE.domains["scene"], "trqam", "trqam")["agent.kl_budget"]
    assert envs.notes(SUITE.domains["cube-triple"], "trqam", "trqam")["agent.kl_budget"] == "TRQAM paper"
    assert configuration.resolve(agent="trqam", env="cube-triple").agent.kl_budget == 0.5
    assert configuration.resolve(agent="trqam", env="scene").agent.kl_budget == 1.0
