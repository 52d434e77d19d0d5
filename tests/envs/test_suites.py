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


def alone(monkeypatch, of_ogbench):
    """Let OGBench be the only suite, with these commands."""
    suite = envs.SUITES["ogbench"]
    monkeypatch.setattr(type(suite), "commands", of_ogbench)
    monkeypatch.setattr(commands, "SUITES", {suite.name: suite})


def test_a_command_is_the_suites_of_env(monkeypatch):
    called = []
    alone(monkeypatch, {"generate": called.append})
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
    alone(monkeypatch, {"generate": called.append})
    for arguments in (["--help"], ["--env=puzzle-4x5"]):
        monkeypatch.setattr(sys, "argv", ["generate", *arguments])
        commands.hand_over("generate")
    assert called == [["--help"], ["--env=puzzle-4x5"]]
    monkeypatch.setattr(sys, "argv", ["generate", "--env"])
    with pytest.raises(SystemExit, match=r"^error: argument --env: expected one argument; see --help$"):
        commands.hand_over("generate")


def test_of_several_suites_the_one_is_asked_that_knows_the_name(monkeypatch):
    """A domain that can be generated but not trained on, in every spelling; without --env nobody is guessed."""
    called = []
    monkeypatch.setattr(
        type(envs.SUITES["ogbench"]), "commands", {"generate": lambda arguments: called.append("first")}
    )
    monkeypatch.setattr(
        type(envs.SUITES["robomimic"]), "commands", {"generate": lambda arguments: called.append("second")}
    )
    for env in ("puzzle-4x5", "puzzle-4x6-play-v0", "scene", "robomimic-can", "can-mh"):
        monkeypatch.setattr(sys, "argv", ["generate", f"--env={env}"])
        commands.hand_over("generate")
    assert called == ["first", "first", "first", "second", "second"]
    for arguments, message in (
        ([], "give --env=DOMAIN, of a suite with a generate command: ogbench, robomimic"),
        (["--env=puzle-4x4"], r"Unknown environment 'puzle-4x4'. Did you mean 'puzzle-4x4'\?"),
    ):
        monkeypatch.setattr(sys, "argv", ["generate", *arguments])
        with pytest.raises(SystemExit, match=f"^error: {message}"):
            commands.hand_over("generate")
