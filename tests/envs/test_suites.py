"""What holds for every suite: names are unique, and understood in every spelling; errors say what is right."""

import pickle
import sys

import pytest

import envs
from envs import commands
from trqam_jax.errors import UserError


def test_domains_are_of_their_suites_and_unique():
    assert sum(len(suite.domains) for suite in envs.SUITES.values()) == len(envs.DOMAINS)
    for package, suite in envs.SUITES.items():
        assert suite.name == package
        for name, domain in suite.domains.items():
            assert (domain.name, domain.suite) == (name, package)
            assert envs.suite_of(domain) is suite
    assert len({domain.title for domain in envs.DOMAINS.values()}) == len(envs.DOMAINS)


@pytest.mark.parametrize("domain", envs.DOMAINS.values(), ids=lambda domain: domain.name)
def test_names_titles_and_full_names_are_understood(domain):
    for name in (domain.name, domain.title):
        assert envs.parse_env(name) == (domain, domain.default_task)
        assert envs.parse_env(f"{name}-task1") == (domain, 1)
    for task in range(1, domain.num_tasks + 1):
        assert envs.parse_env(domain.task_name(task)) == (domain, task)


def test_a_factory_is_pickled_without_its_simulator():
    for suite in envs.SUITES.values():
        domain = next(iter(suite.domains.values()))
        content = pickle.dumps(suite.env_factory(domain, domain.default_task))
        assert len(content) < 1000


def test_settings_are_the_protocols_and_over_them_the_suites():
    for domain in envs.DOMAINS.values():
        suite = envs.suite_of(domain)
        for name, protocol in envs.PROTOCOLS.items():
            merged = envs.settings(domain, name, "trqam")
            own = suite.settings(domain, name, "trqam")
            assert merged == {**protocol.settings, "data.dir": suite.dataset_dir, **own}
    with pytest.raises(UserError, match=r"Unknown protocol 'trqm'. Did you mean 'trqam'\?"):
        envs.settings(domain, "trqm", "trqam")


def test_a_command_is_the_suites_of_env(monkeypatch):
    called = []
    suite = envs.SUITES["ogbench"]
    monkeypatch.setattr(type(suite), "commands", {"generate": called.append})
    monkeypatch.setattr(sys, "argv", ["generate", "--env=scene-task2", "--episodes=3"])
    commands.hand_over("generate")
    assert called == [["--env=scene-task2", "--episodes=3"]]
    with pytest.raises(
        SystemExit, match=r"^error: --env=scene-task2: suite ogbench has no download command; suites with one: none$"
    ):
        commands.hand_over("download")


def test_what_a_single_suite_alone_knows_it_is_asked_itself(monkeypatch):
    """Also for help without --env, and for domains that can be generated but not trained on."""
    called = []
    suite = envs.SUITES["ogbench"]
    monkeypatch.setattr(type(suite), "commands", {"generate": called.append})
    for arguments in (["--help"], ["--env=puzzle-4x5"]):
        monkeypatch.setattr(sys, "argv", ["generate", *arguments])
        commands.hand_over("generate")
    assert called == [["--help"], ["--env=puzzle-4x5"]]
    monkeypatch.setattr(sys, "argv", ["generate", "--env"])
    with pytest.raises(SystemExit, match=r"^error: argument --env: expected one argument; see --help$"):
        commands.hand_over("generate")
