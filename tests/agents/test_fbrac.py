"""FBRAC against the released implementation's reference vectors, and its limit, behaviour cloning."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import pytest
import tiny

from agents.shared import ode_chunks
from trqam_jax.errors import UserError

KEY = jax.random.key(3)
CASE = golden.Case(
    "fbrac",
    noise={
        "next_action": "next_action_noise",
        "actor_x0": "extra_flow_noise",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "q_mean": "critic/q_mean",
        "flow_loss": "actor/bc_flow_loss",
        "actor_loss": "actor/actor_loss",
    },
)


def test_the_chunks_that_the_critics_see():
    vectors = golden.Vectors("fbrac")
    agent, noise = vectors.load("fbrac"), vectors.noise(CASE)
    with jax.default_matmul_precision("highest"):
        flow = agent.train.params["actor_flow"]
        chunks = ode_chunks(agent, flow, vectors.batch().observations, noise["actor_x0"])
    golden.assert_close(chunks, vectors.arrays["out/actor_actions"], "chunks")
    assert (jnp.abs(chunks) == 1).any(), "nothing is clipped, so these numbers do not tell where"


def test_acts_with_the_flow():
    golden.check_acting(CASE, "fbrac")


def test_one_update():
    golden.check_one_update(CASE, "fbrac")


def test_gradients():
    golden.check_gradients(CASE, "fbrac")


def test_four_updates():
    """They also tell that nothing is clipped."""
    golden.check_four_updates(CASE, "fbrac_steps")


def test_a_large_alpha_is_behaviour_cloning():
    cloner, agent = tiny.cloned("fbrac", alpha=1e9)
    expected = tiny.gradients(cloner, KEY)["actor"]
    tiny.assert_trees_close(tiny.gradients(agent, KEY)["actor_flow"], expected)
    with pytest.raises(AssertionError):
        tiny.assert_trees_close(tiny.gradients(tiny.cloned("fbrac", alpha=1.0)[1], KEY)["actor_flow"], expected)


def test_only_the_flow_sees_the_critics_term():
    """It leaves the critics what TD learning makes of them."""
    expected, found = (tiny.gradients(tiny.agent("fbrac", alpha=alpha), KEY)["critic"] for alpha in (1e9, 1e-3))
    tiny.assert_trees_close(found, expected)


def test_alpha_divides_so_it_is_not_zero():
    with pytest.raises(UserError, match="alpha is 0"):
        tiny.config("fbrac", alpha=0.0)
