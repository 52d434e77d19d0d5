"""Layers, overrides, and what the digest of a configuration covers."""

import json
import os
import shutil
import subprocess

import pytest
from odd_names import NAMES, WORST

import agents
from experiments import cli
from experiments import config as configuration
from experiments.settings import PRECISIONS, SECTIONS
from experiments.training.replica import replicas_of
from experiments.training.stages import BC, FINE_TUNING
from trqam_jax.errors import UserError


def resolve(**kwargs):
    return configuration.resolve(**{"agent": "trqam", "env": "cube-single-task1", "protocol": "quick", **kwargs})


def test_layers():
    assert resolve().agent.discount == 0.99  # protocol over agent
    assert resolve(settings={"train.offline_steps": 7}).train.offline_steps == 7  # flag over protocol
    overrides = {"train.offline_steps": "8", "agent.kl_budget": "2"}
    config = resolve(settings={"train.offline_steps": 7}, overrides=overrides)
    assert config.train.offline_steps == 8
    assert config.agent.kl_budget == 2.0
    assert isinstance(config.agent.kl_budget, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [("64,64", (64, 64)), ("(64, 64)", (64, 64)), ("[64,64,64]", (64, 64, 64)), ("64", (64,)), ("(64,)", (64,))],
)
def test_tuples_on_the_command_line(text, value):
    assert resolve(overrides={"agent.hidden_dims": text}).agent.hidden_dims == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e5", 100_000), ("100_000", 100_000), ("7", 7), ("1E+3", 1000)],
)
def test_whole_numbers_on_the_command_line(text, value):
    found = resolve(overrides={"train.offline_steps": text}).train.offline_steps
    assert found == value
    assert isinstance(found, int)


def test_swept_values_are_a_product_of_replicas():
    config = resolve(agent="qam", overrides={"agent.inv_temp": "10,1,3", "agent.tau": "0.1,0.01"}, num_seeds=2)
    assert configuration.swept(config) == {"agent.inv_temp": (1.0, 3.0, 10.0), "agent.tau": (0.01, 0.1)}
    assert configuration.swept(json.loads(json.dumps(config.to_dict()))) == configuration.swept(config)
    replicas = replicas_of(config)
    assert len(replicas) == 2 * 3 * 2
    assert [replica.variant for replica in replicas[:3]] == [
        "inv_temp=1.0, tau=0.01",
        "inv_temp=1.0, tau=0.1",
        "inv_temp=3.0, tau=0.01",
    ]
    assert configuration.variants(resolve()) == [{}]


def test_the_digest_of_version_0_1():
    """A setting that was added since does not enter at its default. The KL budget of quick runs has another one now."""
    later = [key for key, setting in configuration.declared("trqam").items() if setting.since]
    assert later
    as_before = {"agent.kl_budget": "1"}
    assert FINE_TUNING.digest(resolve(overrides=as_before)) == "425531cc"
    assert BC.digest(BC.config(resolve())) == "c3c5a367"
    assert FINE_TUNING.digest(resolve(agent="qam_edit", env="puzzle-4x4", protocol="qam")) == "3fd301fe"
    assert FINE_TUNING.digest(resolve(overrides={"agent.actor_hidden_dims": "8,8"})) != FINE_TUNING.digest(resolve())


def test_a_setting_that_the_method_does_not_use_is_named(capsys, monkeypatch):
    monkeypatch.setattr(cli, "given", lambda: {"env": "cube-single", "protocol": "quick"})
    config = cli.resolve("qsm", ["main.py", "--config.agent.best_of_n=4", "--config.agent.tau=0.1"])
    assert (config.agent.best_of_n, config.agent.tau) == (4, 0.1)  # runs of earlier versions go on
    assert capsys.readouterr().err == "warning: --config.agent.best_of_n=4: qsm does not use this setting\n"


def test_an_odd_number_of_features_is_refused_at_once():
    with pytest.raises(UserError, match="time_dim is 7, expected a multiple of 2"):
        resolve(agent="dac", overrides={"agent.time_dim": "7"})


def test_it_is_locked():
    with pytest.raises((AttributeError, KeyError)):
        resolve().agent.kl_budgt = 1.0


def test_resolving_does_not_change_the_defaults():
    resolve(overrides={"agent.kl_budget": "9"})
    assert resolve().agent.kl_budget == 0.3


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"agent": "trqm"}, ["'trqm'", "Did you mean 'trqam'"]),
        ({"env": "cube-singel"}, ["Did you mean 'cube-single'"]),
        ({"protocol": "quik"}, ["Did you mean 'quick'"]),
        ({"overrides": {"agent.kl_budgt": "1"}}, ["kl_budgt", "Did you mean 'agent.kl_budget'"]),
        ({"overrides": {"agnt.kl_budget": "1"}}, ["agnt.kl_budget", "agent"]),
        ({"overrides": {"agent.kl_budget": "high"}}, ["'high'", "float"]),
        ({"overrides": {"agent.hidden_dims": "a,b"}}, ["tuple"]),
        ({"overrides": {"data.sparse": "3"}}, ["bool"]),
        ({"env": "cube-single", "tasks": "1,9"}, ["no task 9", "1 to 5"]),
        ({"env": "cube-single", "tasks": "one"}, ["--tasks=one", "1,3"]),
        ({"env": "cube-single", "tasks": "1,1"}, ["twice"]),
        ({"tasks": "1,2"}, ["--env=cube-single"]),
        ({"seeds": ["1", "x"]}, ["--seeds=1,x"]),
        ({"seeds": ["1"], "num_seeds": 2}, ["one of them"]),
        ({"seeds": []}, ["--seeds is empty", "1,2,3"]),
        ({"seeds": [], "num_seeds": 2}, ["one of them"]),
        ({"overrides": {"data.dataset": ""}}, ["data.dataset", "is empty", "'auto'"]),
        ({"overrides": {"run.out_dir": ""}}, ["run.out_dir", "is empty", "'runs'"]),
        ({"overrides": {"agent.hidden_dims": "--64"}}, ["hidden_dims", "'--64'", "whole numbers"]),
        ({"overrides": {"agent.hidden_dims": "16,,16"}}, ["hidden_dims", "'16', '', '16'", "whole numbers"]),
        ({"overrides": {"agent.kl_budget": "1e39"}}, ["kl_budget is 1e+39", "at most float32's largest"]),
        ({"num_seeds": 13}, ["12"]),
        ({"num_seeds": 0}, ["--num_seeds=0"]),
        ({"settings": {"train.log_interval": 0}}, ["log_interval", "at least 1"]),
        ({"settings": {"bc.checkpoint": "x"}}, ["--bc_steps=0"]),
        ({"settings": {"run.group": "a/b"}}, ["--group"]),
        ({"overrides": {"run.part": "a/b"}}, ["run.part is 'a/b'"]),
        ({"overrides": {"run.mirrors": "'wand'"}}, ["Did you mean 'wandb'"]),
        ({"overrides": {"env": "scene"}}, ["--env"]),
        ({"overrides": {"run.seeds": "1,1"}}, ["--seeds"]),
        ({"overrides": {"agent.hidden_dims": f"8,{10**20}"}}, ["hidden_dims is (8, 1", "up to 4294967295"]),
        ({"overrides": {"train.batch_size": "1e300"}}, ["batch_size is 1", "at most 4294967295"]),
        ({"overrides": {"agent.flow_steps": "0"}}, ["flow_steps is 0", "at least 1"]),
        ({"overrides": {"agent.kl_budget": "1e400"}}, ["finite"]),
        ({"overrides": {"agent.kl_budget": "1,-2"}}, ["kl_budget", "-2", "at least 1e-09"]),
        ({"overrides": {"agent.kl_budget": "0"}}, ["kl_budget is 0.0", "at least 1e-09"]),  # lambda would never move
        (
            {"overrides": {"agent.kl_budget": "1,2"}, "settings": {"online.kl_budget": 0.5}},
            ["kl_budget_online=0.5", "1.0,2.0"],
        ),
        ({"overrides": {"agent.kl_budget": "1,2,1"}}, ["kl_budget=1.0,2.0,1.0", "twice"]),
        ({"overrides": {"agent.num_critics": "1,2"}}, ["num_critics", "expected an int"]),
        ({"overrides": {"agent.num_critics": "2.5"}}, ["num_critics", "a whole number"]),
        ({"overrides": {"agent.rho": "none"}}, ["rho", "'none'", "expected a float"]),
        (
            {"settings": {"online.steps": 30, "online.start_training": 500}},
            ["--online_steps=30", "--start_training=500", "no update"],
        ),
        ({"overrides": {"online.kl_budget": "1,2"}}, ["kl_budget_online=1.0,2.0", "one value"]),
        ({"agent": "fql", "settings": {"online.kl_budget": 1.0}}, ["fql has no setting kl_budget"]),
        ({"settings": {"train.offline_steps": 1.5}}, ["offline_steps", "expected an int"]),
        ({"overrides": {"agent.tau": "7"}}, ["at most 1.0"]),
        ({"overrides": {"agent.hidden_dims": "-4"}}, ["hidden_dims", "positive"]),
        ({"overrides": {"data.shards": "-1"}}, ["data.shards is -1"]),
        ({"overrides": {"data.resident": "no"}}, ["data.resident=no", "auto, true, false"]),
        ({"agent": "fql", "overrides": {"agent.clip_norm": "abc"}}, ["'abc'"]),
        ({"agent": "bc", "overrides": {"agent.rho": "0.1,0.5"}}, ["rho=0.1,0.5", "one value"]),
        (
            {"agent": "qam_edit", "overrides": {"agent.edit_scale": "0,0.1"}},
            ["edit_scale=0.0,0.1", "a network"],
        ),
        ({"overrides": {"agent.learning_rate": "0.1,0.2"}}, ["learning_rate=0.1,0.2", "sweep.py", "--bc_steps=0"]),
    ],
)
def test_errors_name_the_value_and_the_way_out(kwargs, words):
    with pytest.raises(UserError) as error:
        resolve(**kwargs)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_digest_covers_what_changes_a_result_and_nothing_else():
    digest = lambda **kwargs: FINE_TUNING.digest(resolve(**kwargs))
    same = [
        {"num_seeds": 3},
        {"env": "cube-single", "tasks": "all"},
        {"settings": {"train.offline_steps": 3, "eval.interval": 2, "train.log_interval": 1, "eval.episodes": 1}},
        {"settings": {"run.out_dir": "elsewhere", "run.group": "g", "data.dir": "/x", "data.dataset": "generate"}},
        {"overrides": {"data.resident": "false"}},
    ]
    different = [
        {"overrides": {"agent.kl_budget": "2.0"}},
        {"overrides": {"train.batch_size": "128"}},
        {"settings": {"bc.steps": 1}},
        {"overrides": {"data.shard_cycle": "1000"}},
        {"env": "cube-double"},
        {"protocol": "trqam"},
    ]
    assert {digest(**kwargs) for kwargs in same} == {digest()}
    assert len({digest(**kwargs) for kwargs in different} | {digest()}) == len(different) + 1


def test_runs_of_before_a_precision_computed_what_it_says_have_another_folder(monkeypatch):
    """Until 0.5.0 these two were other modes on a GPU; going on in their folders would mix them."""
    digest = lambda name: FINE_TUNING.digest(resolve(overrides={"precision": name}))
    now = {name: digest(name) for name in PRECISIONS}
    assert len(set(now.values())) == len(PRECISIONS)
    as_before = SECTIONS[""]["precision"]._replace(digested={})
    monkeypatch.setitem(SECTIONS[""], "precision", as_before)
    before = {name: digest(name) for name in PRECISIONS}
    assert {name for name in PRECISIONS if now[name] == before[name]} == {"default", "highest"}


def test_digest_covers_the_content_of_data_and_checkpoint():
    digests = {
        FINE_TUNING.digest(configuration.with_fingerprints(resolve(), data=data, checkpoint=checkpoint))
        for data, checkpoint in [("a", ""), ("b", ""), ("a", "c")]
    }
    assert len(digests) == 3


def test_a_source_is_only_named_for_the_value_it_states():
    cube = lambda **kwargs: configuration.notes(resolve(env="cube-triple", protocol="trqam", **kwargs))
    assert cube()["agent.kl_budget"] == "TRQAM paper"
    assert "set by hand" in cube(overrides={"agent.kl_budget": "7"})["agent.kl_budget"]


def typed(config):
    """The arguments that a shell makes of the printed lines, notes and all."""
    lines = [line.split(" = ", 1) for line in configuration.as_text(config).split("\n")]
    assert [key for key, _ in lines] == sorted(configuration.flatten(config))
    script = "\n".join(f"printf '%s\\0' --config.{key}={text}" for key, text in lines)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    return os.fsdecode(printed).split("\0")[:-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("agent", agents.AGENTS)
def test_printed_lines_can_be_typed(agent):
    """Every line of every agent, with settings off their defaults, in a configuration where nothing else is given."""
    where = dict(agent=agent, env="cube-double", tasks="1,3", protocol="qam", num_seeds=2)
    several = {"agent.discount": "0.5,0.25"} if agent != "bc" else {}
    optional = {"agent.clip_norm": "none"} | ({"agent.kl_budget": "1e-7"} if agent == "trqam" else {})
    texts = {"run.mirrors": "tensorboard,wandb", "eval.episode_limit": "none", "bc.steps": "0"}
    config = resolve(**where, overrides=several | optional | texts)
    assert resolve(**where, overrides=cli.overrides(["main.py", *typed(config)])) == config


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", [*NAMES, WORST, "a    # b", "a = b", "5", "none", "True", "1,2"], ids=ascii)
def test_printed_names_can_be_typed(name):
    config = resolve(settings={"run.group": name, "run.part": name, "run.out_dir": f"/{name}"})
    assert resolve(overrides=cli.overrides(["main.py", *typed(config)])) == config


def test_cloning_is_shared_by_methods_and_not_by_networks():
    clone = lambda **kwargs: BC.digest(BC.config(resolve(**kwargs)))
    for unused in ({"agent.kl_budget": "2.0"}, {"agent.discount": "0.5"}, {"data.sparse": "true"}):
        assert clone(overrides=unused) == clone()
    assert clone(agent="fql") == clone()
    assert clone(overrides={"agent.hidden_dims": "64,64"}) != clone()


def test_parts_of_a_run_have_folders_of_their_own_and_share_the_cloning():
    whole, one, two = (resolve(overrides={"run.part": part}) for part in ("", "seeds-1", "seeds-2"))
    assert FINE_TUNING.folder(one).name == f"{FINE_TUNING.folder(whole).name}-seeds-1"
    assert len({FINE_TUNING.folder(config) for config in (whole, one, two)}) == 3
    assert len({BC.folder(BC.config(config)) for config in (whole, one, two)}) == 1


def test_a_method_without_a_flow_starts_from_no_bc_policy():
    """Whatever is asked for; what is printed says so."""
    config = resolve(agent="rlpd", settings={"bc.steps": 100})
    assert config.bc.steps == 0
    assert "no flow" in configuration.notes(config)["bc.steps"]
    assert resolve(agent="trqam", settings={"bc.steps": 100}).bc.steps == 100
    assert "bc.steps" not in configuration.notes(resolve())


@pytest.mark.parametrize(("protocol", "steps"), [("qam", 500_000), ("trqam", 500_000), ("quick", 10_000)])
def test_an_online_method_has_an_online_phase_in_place_of_the_offline_one(protocol, steps):
    config = resolve(agent="rlpd", protocol=protocol)
    assert (config.train.offline_steps, config.online.steps, config.online.balanced_sampling) == (0, steps, True)
    assert resolve(agent="rlpd", settings={"train.offline_steps": 5}).train.offline_steps == 5
    assert resolve(protocol=protocol).online.steps == 0


def test_sqams_penalty_is_off_on_cube_double():
    assert resolve(agent="sqam", env="cube-double", protocol="trqam").agent.gap_coef == 0
    assert resolve(agent="sqam", env="cube-triple", protocol="trqam").agent.gap_coef == 0.3
    assert resolve(agent="trqam", env="cube-triple", protocol="trqam").agent.gap_coef == 0
