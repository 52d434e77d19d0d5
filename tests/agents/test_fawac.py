"""FAWAC against the released implementation's reference vectors, and its weights at both ends."""

import golden_vectors as golden
import jax
import numpy as np
import pytest
import tiny

KEY = jax.random.key(3)
CASE = golden.Case(
    "fawac",
    noise={"next_action": "next_action_noise", "flow_x0": "flow_x0", "flow_t": "flow_t"},
    info={
        "critic_loss": "critic/critic_loss",
        "q_mean": "critic/q_mean",
        "value_loss": "critic/value_loss",
        "actor_loss": "actor/actor_loss",
    },
)


def test_advantages_and_weights():
    vectors = golden.Vectors("fawac")
    agent = vectors.load("fawac")
    with jax.default_matmul_precision("highest"):
        advantages, weights = agent.advantages_and_weights(vectors.batch())
    golden.assert_close(advantages, vectors.arrays["out/advantage"], "advantages")
    golden.assert_close(weights, vectors.arrays["out/weight"], "weights")


def test_acts_with_the_flow():
    golden.check_acting(CASE, "fawac")


def test_one_update():
    golden.check_one_update(CASE, "fawac")


def test_gradients():
    golden.check_gradients(CASE, "fawac")


def test_four_updates():
    """They also tell that nothing is clipped."""
    golden.check_four_updates(CASE, "fawac_steps")


def test_without_a_temperature_it_is_behaviour_cloning():
    cloner, agent = tiny.cloned("fawac", inv_temp=0.0)
    expected = tiny.gradients(cloner, KEY)["actor"]
    tiny.assert_trees_close(tiny.gradients(agent, KEY)["actor"], expected)
    with pytest.raises(AssertionError):
        tiny.assert_trees_close(tiny.gradients(tiny.cloned("fawac", inv_temp=1.0)[1], KEY)["actor"], expected)


def test_no_chunk_weighs_more_than_a_hundred():
    """Nor does an exponential that overflows."""
    agent = tiny.agent("fawac", inv_temp=1e6)
    advantages, weights = agent.advantages_and_weights(tiny.batch())
    assert (advantages > 0).any()
    assert (advantages < 0).any()
    np.testing.assert_allclose(weights, np.where(advantages > 0, 100.0, 0.0), atol=1e-6)
    assert np.isfinite(tiny.update(agent, KEY)[1]["grad_norm"])


def test_only_the_flow_sees_the_weights():
    """Critics and value learn the same at every temperature."""
    expected, found = (tiny.gradients(tiny.agent("fawac", inv_temp=inv_temp), KEY) for inv_temp in (0.0, 5.0))
    for name in ("critic", "value"):
        tiny.assert_trees_close(found[name], expected[name])
