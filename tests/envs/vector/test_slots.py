"""Evaluation: every episode once, the same whatever the pool, and neighbours that do not matter."""

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import struct

from envs.ogbench import SUITE
from envs.vector.slots import VectorSlots
from trqam_jax.errors import UserError
from trqam_jax.evaluation import evaluate, policy, start_seeds

MAZE = SUITE.domains["pointmaze-medium"]
TELEPORT = SUITE.domains["pointmaze-teleport"]


class Noisy(struct.PyTreeNode):
    """A policy that drifts in its own direction, with noise: its episodes differ, and so do its replicas'."""

    direction: jax.Array

    def act(self, observations, key):
        noise = 0.5 * jax.random.normal(key, (len(observations), 2, 2))
        return jnp.clip(self.direction + noise + 0.1 * observations[:, None], -1, 1)


DIRECTIONS = jnp.array([[1.0, 0.2], [0.0, 1.0], [-1.0, -1.0]])
TASKS = [1, 3, 1]


def make_slots(domain, tasks, num_episodes, **options):
    factories = [SUITE.env_factory(domain, task) for task in tasks]
    return VectorSlots(factories, domain.observation_dim, num_episodes, **options)


def play(replicas, workers, num_episodes=5, domain=MAZE, **options):
    seeds = start_seeds([7, 8, 7], "offline", 100, num_episodes)[replicas]
    keys = jax.random.split(jax.random.key(0), 3)[jnp.array(replicas)]
    tasks = [TASKS[r] for r in replicas]
    with make_slots(domain, tasks, num_episodes, workers=workers, **options) as slots:
        agents = Noisy(DIRECTIONS[jnp.array(replicas)])
        return evaluate(agents, slots, seeds, keys), evaluate(agents, slots, seeds, keys)


@pytest.fixture(scope="module")
def together():
    return play([0, 1, 2], workers=2)


def test_every_episode_is_counted_and_complete(together):
    episodes, _ = together
    assert episodes.success.shape == (3, 5)
    assert set(np.unique(episodes.success)) <= {0.0, 1.0}
    failed = episodes.success == 0
    assert (episodes.lengths[failed] == MAZE.episode_limit).all()
    # Rewards are -1 until the goal: the return counts the steps before it.
    np.testing.assert_array_equal(-episodes.returns[failed], episodes.lengths[failed])


def test_a_round_can_be_repeated(together):
    for a, b in zip(*together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pool_and_neighbours_change_nothing(together):
    """One replica alone in one worker plays the episodes it plays among three in two."""
    alone, _ = play([1], workers=1)
    for a, b in zip(together[0], alone, strict=True):
        np.testing.assert_array_equal(a[1], b[0])


@pytest.mark.parametrize(("workers", "groups"), [(1, 1), (3, 2)])
def test_workers_and_groups_change_nothing(together, workers, groups):
    """Nor which slot plays an episode: in one worker there are fewer slots than episodes."""
    episodes, _ = play([0, 1, 2], workers, groups=groups, slots_per_worker=8)
    for a, b in zip(together[0], episodes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_neighbours_change_nothing_where_steps_draw_from_the_global_generator():
    """A teleporter's exit is drawn in mid-episode from a generator that all slots of a worker share."""
    together, _ = play([0, 1, 2], workers=1, num_episodes=3, domain=TELEPORT)
    alone, _ = play([1], workers=1, num_episodes=3, domain=TELEPORT)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a[1], b[0])


def test_equals_a_plain_loop_over_one_environment(together):
    """The gymnasium loop everybody writes, for one episode."""
    seeds = start_seeds([7, 8, 7], "offline", 100, 5)
    keys = jax.random.split(jax.random.key(0), 3)
    simulator = SUITE.env_factory(MAZE, TASKS[0])()
    env = simulator.env
    observation, total, length, done, decision = simulator.reset(int(seeds[0, 2])), 0.0, 0, False, 0
    agent = Noisy(DIRECTIONS[:1])
    while not done:
        batch = np.asarray(observation, np.float32)[None, None]
        chunk = policy(agent, batch, keys[:1], jnp.array([[2]]), jnp.array([[decision]]))[0, 0]
        for action in np.asarray(chunk):
            observation, reward, terminated, truncated, info = env.step(action)
            total, length, done = total + reward, length + 1, terminated or truncated
            if done:
                break
        decision += 1
    env.close()
    episodes = together[0]
    assert (episodes.success[0, 2], episodes.returns[0, 2], episodes.lengths[0, 2]) == (info["success"], total, length)


def test_the_number_of_slots_changes_no_bit():
    """The number of workers decides how many slots a replica has; a simulator makes much of the last digit."""
    agent, slots = tiny.agent("bc", hidden_dims=(64, 64)), 4
    agents = jax.tree.map(lambda x: x[None], agent)
    observations = jax.random.normal(jax.random.key(0), (1, slots, tiny.SPEC.observation_dim))
    keys, episodes = jax.random.split(jax.random.key(1), 1), jnp.arange(slots)[None]
    together = policy(agents, observations, keys, episodes, episodes)
    for n in (1, 2):
        for some in (slice(i, i + n) for i in range(0, slots, n)):
            alone = policy(agents, observations[:, some], keys, episodes[:, some], episodes[:, some])
            np.testing.assert_array_equal(alone, together[:, some])


def test_a_worker_has_more_slots_where_simulators_are_cheap():
    """60 episodes in one worker: in three rounds of 20 twins, or in eight of 8 simulators that are built one by one."""
    twins = SUITE.env_factory(MAZE, 1)
    for make, expected in ((twins, 10), (functools.partial(_build, twins), 4)):
        with VectorSlots([make], MAZE.observation_dim, 60, workers=1) as slots:
            slots.begin(np.arange(60)[None])
            _, observations, _, _ = slots.wait()
            assert observations.shape == (1, expected, MAZE.observation_dim)  # of one of two groups


def _build(factory):
    return factory()


def test_starts_are_of_seed_phase_step_and_episode():
    a = start_seeds([1, 2], "offline", 10, 4)
    np.testing.assert_array_equal(a[1], start_seeds([2], "offline", 10, 6)[0, :4])
    others = [start_seeds([1, 2], "bc", 10, 4), start_seeds([1, 2], "offline", 11, 4)]
    assert len(np.unique(np.concatenate([a, *others]))) == 24


def test_a_workers_error_reaches_the_user():
    with make_slots(MAZE, [1], 1, workers=1) as slots:
        slots.begin(np.array([[3]]))
        group = slots.wait()[0]
        slots.play(group, np.zeros((1, 1, 2, 7), np.float32))
        with pytest.raises(ValueError, match="could not be broadcast"):
            slots.wait()


def test_a_killed_worker_ends_the_evaluation():
    agents, keys = Noisy(DIRECTIONS[:1]), jax.random.split(jax.random.key(0), 1)
    with make_slots(MAZE, [1], 4, workers=2) as slots:
        evaluate(agents, slots, start_seeds([7], "offline", 0, 1), keys)
        os.kill(slots.processes[1], signal.SIGKILL)
        with pytest.raises(UserError, match=r"simulator worker 1 .* died with exit code -9"):
            evaluate(agents, slots, start_seeds([7], "offline", 0, 4), keys)
