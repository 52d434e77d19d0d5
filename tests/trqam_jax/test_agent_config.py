"""Numbers are leaves, all else is static, and what is derived from a number follows it in double precision."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import agents
from trqam_jax.agent_config import AgentConfig, stack_configs
from trqam_jax.errors import UserError
from trqam_jax.types import Spec


def made(name, **values):
    return AgentConfig.create(agents.settings(name), values)


def names(tree):
    return {path[-1].name for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def test_floats_are_leaves_and_all_else_is_static():
    config = made("trqam", hidden_dims=[8, 8], kl_budget=3)
    floats = {name for name, setting in agents.settings("trqam").items() if isinstance(setting.default, float)}
    assert names(config) == floats - {"gap_coef"}  # whose zero leaves out a penalty
    assert config.kl_budget == 3.0
    assert config.hidden_dims == (8, 8)
    assert config.num_critics == 10
    assert names(made("trqam", clip_norm=None)) == floats - {"clip_norm", "gap_coef"}
    assert "gap_coef" in names(made("trqam", gap_coef=0.3))
    assert names(made("cgql", clip_norm=0.5)) >= {"clip_norm"}


def test_a_zero_that_leaves_out_a_network_is_static():
    assert "edit_scale" in names(made("qam_edit"))
    without = made("qam_edit", edit_scale=0.0)
    assert "edit_scale" not in names(without)
    assert without.is_zero("edit_scale")
    assert not made("qam_edit").is_zero("edit_scale")
    assert "inv_temp" in names(made("qam", inv_temp=0.0))


def test_a_program_is_traced_once_for_all_values():
    traces = []
    program = jax.jit(lambda config: traces.append(1) or config.discount * config.flow_steps)
    np.testing.assert_allclose([program(made("qam", discount=x)) for x in (0.9, 0.5)], [9.0, 5.0], rtol=1e-6)
    assert len(traces) == 1
    program(made("qam", flow_steps=3))
    assert len(traces) == 2


def test_it_survives_pickling_and_does_not_change():
    config = made("qam", inv_temp=3.0)
    again = pickle.loads(pickle.dumps(config))
    assert jax.tree.structure(again) == jax.tree.structure(config)
    assert again.inv_temp == 3.0
    with pytest.raises(AttributeError, match="immutable"):
        config.inv_temp = 1.0
    with pytest.raises(AttributeError, match="no setting 'inv_tmp'"):
        _ = config.inv_tmp
    with pytest.raises(UserError, match="Unknown setting 'inv_tmp'"):
        made("qam", inv_tmp=1.0)


def test_what_is_derived_is_computed_in_double_precision_and_follows():
    agent = agents.AGENTS["qam"].create(jax.random.key(0), Spec(4, 2, 5), made("qam", hidden_dims=(8,), num_critics=1))
    assert agent.config.bootstrap_discount == 0.995**5
    changed = agent.config.replace(discount=0.9)
    assert changed.bootstrap_discount == 0.9**5
    assert changed.tau == agent.config.tau
    below = agents.AGENTS["ifql"].empty(Spec(4, 2, 5), made("ifql", kappa=0.9)).config.kappa_complement
    assert np.float32(below) == np.float32(0.1)
    assert np.float32(0.1) != 1 - np.float32(0.9)
    with pytest.raises(ValueError, match="flow_steps is no number"):
        agent.config.replace(flow_steps=3)


def test_stacked_configurations_are_those_of_replicas():
    stacked = stack_configs([made("qam", inv_temp=x) for x in (1.0, 3.0)])
    np.testing.assert_array_equal(stacked.inv_temp, [1.0, 3.0])
    np.testing.assert_array_equal(stacked.tau, [0.005, 0.005])
    np.testing.assert_array_equal(stacked.replace(inv_temp=2.0).inv_temp, [2.0, 2.0])
    np.testing.assert_array_equal(stacked.replace(inv_temp=jnp.array([4.0, 5.0])).inv_temp, [4.0, 5.0])


@pytest.mark.parametrize("values", [(0.0, 0.1), (0.1, 0.0)])
def test_replicas_cannot_differ_in_what_is_static(values):
    with pytest.raises(UserError, match=r"edit_scale is 0.* for one replica and 0.* for another"):
        stack_configs([made("qam_edit", edit_scale=x) for x in values])
    with pytest.raises(UserError, match="flow_steps is 3 for one replica and 4 for another"):
        stack_configs([made("qam", flow_steps=x) for x in (3, 4)])


def test_widths_of_policies_and_critics_may_differ():
    agent = tiny.agent("trqam_external", actor_hidden_dims=(5,), critic_hidden_dims=(6, 7))
    shapes = jax.tree.map(jnp.shape, agent.train.params)
    assert shapes["actor_fast"]["Dense_0"]["bias"] == shapes["actor_slow"]["Dense_0"]["bias"] == (5,)
    assert shapes["critic"]["Dense_1"]["bias"] == (2, 7)
    others = {
        "dsrl": "actor",
        "rebrac": "actor",
        "fql": "actor_onestep_flow",
        "qam_edit": "edit_actor",
        "qam_fql": "one_step_actor",
    }
    others |= {"fedit": "edit_actor", "fbrac": "actor_flow", "rlpd": "actor"}
    for name, policy in others.items():
        params = tiny.agent(name, actor_hidden_dims=(5,), critic_hidden_dims=(6, 7)).train.params
        assert params[policy]["Dense_0"]["bias"].shape == (5,)
    assert tiny.agent("ifql", critic_hidden_dims=(6, 7)).train.params["value"]["Dense_1"]["bias"].shape == (7,)
    assert tiny.agent("cgql", critic_hidden_dims=(6, 7)).train.params["critic"]["Dense_0"]["bias"].shape == (2, 6)


@pytest.mark.parametrize("name", agents.AGENTS)
def test_state_is_what_training_changes(name):
    agent = tiny.agent(name)
    state = agent.state()
    assert set(state) == {"train", *({"dual", "number"} & set(dir(agent)))}
    again = tiny.agent(name, learning_rate=0.5).with_state(state)
    assert again.config.learning_rate == 0.5
    assert again.train is agent.train
    defaults = agents.default_config(name)
    assert {key: setting.default for key, setting in agents.settings(name).items()} == defaults.to_dict()


def test_a_class_that_fills_in_too_little_says_what_it_lacks():
    class Unfinished(agents.AGENTS["fql"].__base__):
        """Nothing."""

    key, config = jax.random.key(0), tiny.config("fql")
    agent = Unfinished(train=None, config=config, spec=tiny.SPEC)
    calls = {
        "create": lambda: Unfinished.create(key, tiny.SPEC, config),
        "draw": lambda: agent.draw(key, 2),
        "sample": lambda: agent.sample(jnp.zeros((2, 4)), jnp.zeros((1, 2, 6))),
    }
    for name, call in calls.items():
        with pytest.raises(NotImplementedError, match=f"Unfinished has no {name}"):
            call()
