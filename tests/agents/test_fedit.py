"""FEdit against the released implementation's reference vectors, and what its flow learns from."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np
import tiny

from agents.shared import flow_chunks

KEY = jax.random.key(3)
CASE = golden.Case(
    "fedit",
    noise={
        "next_action": "next_action_noise",
        "next_edit": "next_edit_eps",
        "edit_x0": "extra_flow_noise",
        "edit": "edit_eps",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "q_mean": "critic/q_mean",
        "flow_loss": "actor/bc_flow_loss",
        "edit_q_loss": "actor/edit_q_loss",
        "edit_entropy_loss": "actor/edit_entropy_loss",
        "edit_alpha_loss": "actor/edit_alpha_loss",
        "edit_entropy": "actor/edit_entropy",
    },
)


def test_edits():
    golden.check_edits(CASE, "fedit", "actor_bc_flow")


def test_acts_with_the_edited_flow():
    golden.check_acting(CASE, "fedit", ("policy_noise", "policy_edit_eps"))


def test_one_update():
    golden.check_one_update(CASE, "fedit")


def test_gradients():
    golden.check_gradients(CASE, "fedit")


def test_four_updates():
    """They also tell that nothing is clipped."""
    golden.check_four_updates(CASE, "fedit_steps")


def test_the_flow_learns_from_the_data_alone():
    """As in behaviour cloning: edits reach it through neither gradient nor draws."""
    cloner, agent = tiny.cloned("fedit", edit_scale=0.9)
    expected = tiny.gradients(cloner, KEY)["actor"]
    tiny.assert_trees_close(tiny.gradients(agent, KEY)["actor_bc_flow"], expected)


def test_with_scale_zero_the_flow_acts_and_the_edits_only_spread():
    """What is left of the edit policy's loss is its entropy."""
    agent = tiny.agent("fedit", edit_scale=0.0)
    observations = tiny.batch().observations
    noise, eps = (jax.random.normal(key, (1, 16, tiny.SPEC.chunk_dim)) for key in jax.random.split(KEY))
    chunks = flow_chunks(agent, "actor_bc_flow", observations, noise)[0]
    np.testing.assert_array_equal(agent.sample(observations, noise, eps), chunks)
    edited = tiny.agent("fedit", edit_scale=0.5).sample(observations, noise, eps)
    assert jnp.abs(edited - chunks).max() > 0.1

    agent_without_critics = agent.replace(train=agent.train.replace(params=flat_critics(agent.train.params)))
    expected = tiny.gradients(agent_without_critics, KEY)["edit_actor"]
    tiny.assert_trees_close(tiny.gradients(agent, KEY)["edit_actor"], expected)


def flat_critics(params):
    """Critics that are the same everywhere."""
    return {**params, "critic": jax.tree.map(jnp.zeros_like, params["critic"])}
