"""What Robomimic's runs are set to, and where the values are from."""

import pytest

import agents
import envs
from envs.robomimic import SUITE

DOMAINS = SUITE.domains


@pytest.mark.parametrize(("name", "sizes"), [("lift", (19, 300)), ("can", (23, 300)), ("square", (23, 400))])
def test_domains_are_trqams(name, sizes):
    domain = envs.parse_env(f"robomimic-{name}")[0]
    assert (domain.observation_dim, domain.episode_limit) == sizes
    assert (domain.action_dim, domain.horizon, domain.num_tasks) == (7, 5, 1)
    assert domain.task_name(1) == f"{name}-mh-low_dim"


def test_the_trqam_protocol_is_trqams():
    settings = envs.settings(DOMAINS["robomimic-can"], "trqam", "trqam")
    assert settings["agent.discount"] == 0.995
    assert settings["agent.rho"] == 0.5
    assert settings["agent.hidden_dims"] == (512,) * 4
    assert not settings.get("agent.actor_layer_norm", agents.default_config("trqam")["actor_layer_norm"])
    assert (settings["bc.steps"], settings["train.offline_steps"]) == (300_000, 1_000_000)
    assert settings["data.dir"] == "~/.robomimic"


@pytest.mark.parametrize("agent", ["trqam", "trqam_external"])
def test_budgets_and_their_sources(agent):
    expected = {
        "robomimic-lift": (0.1, "TRQAM paper"),
        "robomimic-can": (0.1, "TRQAM paper"),
        "robomimic-square": (0.5, "third-party rerun, said to be the authors' advice"),
    }
    for protocol in envs.PROTOCOLS:
        for name, domain in DOMAINS.items():
            key = "agent.kl_budget"
            found = envs.settings(domain, protocol, agent)[key], envs.notes(domain, protocol, agent)[key]
            tuned = name == "robomimic-can" and protocol in ("quick", "small")
            assert found == ((0.1, "the small benchmark's tuning") if tuned else expected[name])


@pytest.mark.parametrize("agent", agents.AGENTS)
def test_observations_are_scaled_and_every_note_is_of_a_setting(agent):
    for protocol in envs.PROTOCOLS:
        for domain in DOMAINS.values():
            settings, notes = envs.settings(domain, protocol, agent), envs.notes(domain, protocol, agent)
            assert settings["data.scale_observations"] is True
            assert settings["eval.episode_limit"] == domain.episode_limit
            assert "QC does not scale" in notes["data.scale_observations"]
            assert "500" in notes["eval.episode_limit"]
            own = {f"agent.{key}" for key in agents.AGENTS[agent].SETTINGS}
            assert notes.keys() <= settings.keys() | own


@pytest.mark.parametrize("agent", agents.AGENTS)
def test_what_papers_tune_by_domain_is_said_to_be_a_default_here(agent):
    """Or has a source of its own, as budgets have."""
    own = {f"agent.{key}" for key in agents.AGENTS[agent].SETTINGS}
    tuned = {key for name in ("cube-double", "cube-triple") for key in envs.settings(envs.DOMAINS[name], "qam", agent)}
    for domain in DOMAINS.values():
        assert own & tuned <= envs.notes(domain, "qam", agent).keys()
