"""BAM against the released implementation's reference vectors, and what it shares with QAM."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from agents.bam import differentiable_rollout
from agents.shared import flow_chunks
from trqam_jax.errors import UserError
from trqam_jax.networks import bind
from trqam_jax.sde import sample_path
from trqam_jax.trust_region import path_kl

KEY = jax.random.key(3)
CASE = golden.Case(
    "bam",
    noise={
        "next_action": "next_action_noise",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
        "rollout_x0": "rollout_x0",
        "rollout_eps": "rollout_noise",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "q_mean": "critic/q_mean",
        "flow_loss": "actor/flow_loss",
        "penalty": "actor/bc_loss",
        "actor_loss": "actor/bam_loss",
    },
)


def test_rollout():
    vectors = golden.Vectors("bam")
    agent = vectors.load("bam")
    with jax.default_matmul_precision("highest"):
        path = agent.rollout(agent.train.params["actor_fast"], vectors.batch().observations, vectors.noise(CASE))
    golden.assert_close(path.x1, vectors.arrays["out/rollout_x1"], "x1")
    assert jnp.abs(path.x1).max() > 1, "these numbers do not tell that the end is not clipped"


def test_acts_with_the_fast_flow():
    golden.check_acting(CASE, "bam")


def test_the_slow_flow():
    vectors = golden.Vectors("bam")
    noise, observations = vectors.group("noise")["policy_noise"], vectors.batch().observations
    with jax.default_matmul_precision("highest"):
        chunks = flow_chunks(vectors.load("bam"), "actor_slow", observations, noise)
    golden.assert_close(chunks, vectors.arrays["out/base_action"], "chunks")


def test_one_update():
    golden.check_one_update(CASE, "bam")


def test_gradients():
    golden.check_gradients(CASE, "bam")


def test_four_updates():
    """They also tell that the gradients are clipped jointly."""
    golden.check_four_updates(CASE, "bam_steps")


def test_only_the_fast_flow_sees_the_rollout():
    """Critics and slow flow learn as in QAM, from the same draws."""
    expected, found = tiny.gradients(tiny.agent("qam"), KEY), tiny.gradients(tiny.agent("bam", inv_temp=30.0), KEY)
    for name in ("critic", "actor_slow"):
        tiny.assert_trees_close(found[name], expected[name])
    with pytest.raises(AssertionError):
        tiny.assert_trees_close(found["actor_fast"], expected["actor_fast"])


def test_the_rollout_is_that_of_adjoint_matching_and_its_penalty_the_path_kl():
    """Where the last step is the base flow's own, as it is in the rollout."""
    agent, observations = tiny.agent("bam", flow_steps=5), tiny.batch().observations
    noise = agent.draw(KEY, len(observations))
    fast, base = (
        bind(agent.flow_network, params, observations)
        for params in (agent.train.params["actor_fast"], agent.train.targets["actor_slow"])
    )
    path = sample_path(fast, base, noise["rollout_x0"], noise["rollout_eps"])
    rollout = differentiable_rollout(fast, base, noise["rollout_x0"], noise["rollout_eps"])
    np.testing.assert_allclose(rollout.x1, path.x1, atol=1e-5)
    expected = path_kl(path.delta_v.at[-1].set(0.0), path.ts, tiny.SPEC.horizon)
    assert tiny.update(agent, KEY)[1]["path_kl"] == pytest.approx(float(expected), rel=1e-4)
    assert expected > 0


def test_at_the_base_flow_the_penalty_costs_nothing():
    """Neither in value nor, to first order, in gradient: the critics alone move the fast flow from there."""
    _, agent = tiny.cloned("bam")
    assert tiny.update(agent, KEY)[1]["penalty"] == 0
    once, thrice = (tiny.gradients(tiny.cloned("bam", inv_temp=w)[1], KEY)["actor_fast"] for w in (1.0, 3.0))
    tiny.assert_trees_close(thrice, jax.tree.map(lambda g: 3 * g, once))


def test_without_a_temperature_the_release_acts_with_another_network():
    with pytest.raises(UserError, match="inv_temp is 0"):
        tiny.config("bam", inv_temp=0.0)
