"""ReBRAC against the released implementation's reference vectors, and when its averages move."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from trqam_jax.replay import Replay
from trqam_jax.update_loop import ReplicaData, SamplingConfig, one_update, run_updates

CASE = golden.Case(
    "rebrac",
    noise={"next_action": "next_action_noise"},
    info={
        "critic_loss": "critic/critic_loss",
        "actor_loss": "actor/actor_loss",
        "mse": "actor/mse",
        "q_mean": "critic/q_mean",
    },
)


@pytest.mark.parametrize("file", ["rebrac", "rebrac_held"])
def test_one_update(file):
    golden.check_one_update(CASE, file)


def test_gradients():
    golden.check_gradients(CASE, "rebrac")


def test_four_updates():
    """They also tell that nothing is clipped, and that the target's noise is."""
    golden.check_four_updates(CASE, "rebrac_steps")


def test_acts_with_noise():
    vectors = golden.Vectors("rebrac")
    agent, observations = vectors.load("rebrac"), vectors.batch().observations
    online, eps = agent.train.params["actor"], vectors.group("noise")["policy_noise"]
    with jax.default_matmul_precision("highest"):
        golden.assert_close(agent.mode(online, observations), vectors.arrays["out/mode_action"], "without noise")
        actions = agent.noisy_chunks(online, observations, eps)
    golden.assert_close(actions, vectors.arrays["out/policy_action"], "actions")
    key = jax.random.key(1)
    eps = jax.random.normal(key, actions.shape)
    expected = jnp.clip(agent.mode(online, observations) + jnp.clip(0.2 * eps, -0.5, 0.5), -1, 1)
    assert jnp.abs(0.2 * eps).max() > 0.5
    np.testing.assert_allclose(agent.act(observations, key).reshape(actions.shape), expected, atol=1e-6)


def is_moved(before, after):
    """{network: whether its average differs}, of the two that are kept."""
    differ = lambda old, new: any((a != b).any() for a, b in zip(tiny.leaves(old), tiny.leaves(new), strict=True))
    return {name: differ(average, after.targets[name]) for name, average in before.targets.items()}


def test_averages_move_at_multiples_of_actor_freq_alone():
    """Whatever the number was before; the networks move at every update."""
    agent, key = tiny.agent("rebrac", actor_freq=3), jax.random.key(2)
    for number in (1, 2, 3, 4, 9, 5000, 5001):
        told = agent.at_step(jnp.int32(number))
        new, _ = tiny.update(told, key)
        assert is_moved(agent.train, new.train) == dict.fromkeys(("actor", "critic"), number % 3 == 0), number
        assert any((a != b).any() for a, b in zip(tiny.leaves(agent.train), tiny.leaves(new.train), strict=True))
        assert new.number == number


def test_the_loop_counts_from_one():
    """Two replicas, dispatched one update at a time: their averages move at every second one, from the second on."""
    data = tiny.dataset()
    made, totals, streams = tiny.start("rebrac", [1, 2], [0, 1], data)
    source, one = ReplicaData(data, jnp.array([0, 1])), jnp.ones(2, jnp.int32)
    for number in range(1, 6):
        before = jax.tree.map(np.array, made.train)
        steps = jnp.full(2, number - 1)
        made, totals = run_updates(made, totals, source, streams, steps, one, sampling=tiny.SAMPLING)
        assert is_moved(before, made.train) == dict.fromkeys(("actor", "critic"), number % 2 == 0)
        assert made.number.tolist() == [number, number]


def test_online_the_number_is_that_of_environment_steps():
    agent, data = tiny.agent("rebrac"), tiny.dataset()
    streams = jax.tree.map(lambda x: x[0], tiny.start("rebrac", [1], [0], data)[2])
    replay = Replay.empty(20, tiny.SPEC.observation_dim, tiny.SPEC.action_dim)
    sampling = SamplingConfig(batch_size=16, start_training=6)
    for update, moves in ((0, True), (1, False), (2, True)):
        source = ReplicaData(data, jnp.int32(0), replay)
        new, _ = one_update(agent, source, streams, jnp.int32(update), sampling=sampling)
        assert new.number == 6 + update
        assert is_moved(agent.train, new.train)["critic"] == moves


def test_the_policy_does_not_mind_the_critics_scale():
    """The value's weight is one over the mean of its magnitude."""
    agent, key = tiny.agent("rebrac", alpha_actor=0.1), jax.random.key(2)
    last = agent.train.params["critic"]["Dense_2"]
    larger = {**agent.train.params["critic"], "Dense_2": jax.tree.map(lambda x: 10 * x, last)}
    other = agent.replace(train=agent.train.replace(params={**agent.train.params, "critic": larger}))
    grads, others = (tiny.gradients(one, key)["actor"] for one in (agent, other))
    tiny.assert_trees_close(others, grads)


def test_the_policy_starts_near_zero():
    """Its last kernel is uniform with a hundredth of Glorot's variance."""
    kernel = tiny.agent("rebrac").train.params["actor"]["mean"]["kernel"]
    bound = np.sqrt(3 * 0.01 / (sum(kernel.shape) / 2))
    assert 0.8 * bound < jnp.abs(kernel).max() <= bound
