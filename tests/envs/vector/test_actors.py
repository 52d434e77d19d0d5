"""Acting online: the transitions of the loop everybody writes, whatever the workers and the neighbours."""

import numpy as np
import pytest

from envs.ogbench import SUITE
from envs.vector.actors import Actors

CUBE, MAZE = SUITE.domains["cube-single"], SUITE.domains["pointmaze-medium"]
ENTROPY = np.array([[5, 1], [6, 1], [5, 2]])
TURNS = 3


def make_actors(domain, tasks, horizon, **options):
    factories = [SUITE.env_factory(domain, task) for task in tasks]
    return Actors(factories, domain.observation_dim, domain.action_dim, horizon, **options)


def orders(domain, horizon, replicas=3):
    """Random chunks (turns, R, H, A), and which part of them each replica plays: also nothing, also the end."""
    rng = np.random.default_rng(0)
    chunks = rng.uniform(-1, 1, (TURNS, replicas, horizon, domain.action_dim)).astype(np.float32)
    start = np.array([[0, 1, 0], [0, 2, 0], [3, 0, 0]])
    count = np.array([[horizon, 2, 0], [3, horizon - 2, 1], [horizon - 3, 0, horizon]])
    return chunks, start, count


def act(domain, tasks, horizon, workers, replicas=slice(None)):
    """(first observations, the transitions of every turn) of some of the three replicas."""
    chunks, start, count = orders(domain, horizon)
    with make_actors(domain, tasks[replicas], horizon, sparse=False, workers=workers) as actors:
        first = actors.begin(ENTROPY[replicas])
        turns = [actors.play(chunks[t][replicas], start[t][replicas], count[t][replicas]) for t in range(TURNS)]
    return first, turns


def seed_of(entropy, episode):
    return int(np.random.SeedSequence([*entropy.tolist(), episode]).generate_state(1)[0])


def assert_equal(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(x, y, name)


@pytest.fixture(scope="module")
def cubes():
    return act(CUBE, [1, 2, 1], 5, workers=2)


def test_equals_a_plain_loop_over_one_environment(cubes):
    first, turns = cubes
    chunks, start, count = orders(CUBE, 5)
    env = SUITE.env_factory(CUBE, 2)()
    observation = env.reset(seed_of(ENTROPY[1], 0)).astype(np.float32)
    np.testing.assert_array_equal(first[1], observation)
    for t, turn in enumerate(turns):
        assert turn.length[1] == count[t, 1]
        for i in range(count[t, 1]):
            following, reward, terminated, truncated, _ = env.env.step(chunks[t, 1, start[t, 1] + i])
            np.testing.assert_array_equal(turn.observations[1, i], observation)
            np.testing.assert_array_equal(turn.actions[1, i], chunks[t, 1, start[t, 1] + i])
            assert (turn.rewards[1, i], turn.masks[1, i], turn.terminals[1, i]) == (
                reward,
                1 - terminated,
                terminated or truncated,
            )
            observation = following.astype(np.float32)
            np.testing.assert_array_equal(turn.next_observations[1, i], observation)
        np.testing.assert_array_equal(turn.current[1], observation)
        assert not turn.next_observations[1, count[t, 1] :].any()
    env.close()


def test_workers_and_neighbours_change_nothing(cubes):
    """One replica alone in one worker yields what it yields among three in two."""
    first, turns = act(CUBE, [1, 2, 1], 5, workers=1, replicas=slice(1, 2))
    np.testing.assert_array_equal(first[0], cubes[0][1])
    for alone, together in zip(turns, cubes[1], strict=True):
        assert_equal(alone, type(together)(*(x[1:2] for x in together)))


def to_the_end(domain, task, policy):
    """The turn in which a single replica's first episode ends, and the number of steps before it."""
    horizon, steps = 7, 0
    with make_actors(domain, [task], horizon, sparse=False) as actors:
        observation = actors.begin(ENTROPY[:1])[0]
        while True:
            chunk = np.tile(policy(observation), (1, horizon, 1)).astype(np.float32)
            turn = actors.play(chunk, np.array([0]), np.array([horizon]))
            if turn.ended[0]:
                return turn, steps
            assert np.isnan(turn.success[0])
            assert turn.lengths[0] == 0
            steps += int(turn.length[0])
            observation = turn.current[0]


def test_the_time_limit_ends_an_episode_and_the_next_begins():
    """The rest of the chunk is dropped, the value of what follows is not."""
    turn, steps = to_the_end(CUBE, 1, lambda _: np.zeros(5))
    last = turn.length[0] - 1
    assert steps + turn.length[0] == turn.lengths[0] == CUBE.episode_limit
    assert turn.length[0] < 7
    assert (turn.success[0], turn.terminals[0, last], turn.masks[0, last]) == (0, True, 1)
    assert not turn.terminals[0, :last].any()
    assert turn.returns[0] == -CUBE.episode_limit
    env = SUITE.env_factory(CUBE, 1)()
    np.testing.assert_array_equal(turn.current[0], env.reset(seed_of(ENTROPY[0], 1)).astype(np.float32))
    env.close()


def test_a_shorter_limit_is_the_domains():
    short = CUBE._replace(episode_limit=7)
    with make_actors(short, [1, 2], 5, sparse=False) as actors:
        actors.begin(ENTROPY[:2])
        chunks, start = np.zeros((2, 5, 5), np.float32), np.zeros(2, int)
        turns = [actors.play(chunks, start, np.full(2, 5)) for _ in range(2)]
    assert not turns[0].ended.any()
    assert turns[1].ended.all()
    np.testing.assert_array_equal(turns[1].lengths, [7, 7])
    np.testing.assert_array_equal(turns[1].terminals, [[False, True, False, False, False]] * 2)
    assert (turns[1].masks[:, :2] == 1).all()  # time is no end of the task


def test_success_ends_the_task():
    """Around two corners to the goal of task 3."""
    way = [np.array(corner) for corner in [(8, 20), (0, 20), (0, 12), (4, 12)]]

    def policy(position):
        if len(way) > 1 and np.abs(position - way[0]).max() < 0.7:
            way.pop(0)
        return np.clip(way[0] - position, -1, 1)

    turn, steps = to_the_end(MAZE, 3, policy)
    last = turn.length[0] - 1
    assert (turn.success[0], turn.terminals[0, last], turn.masks[0, last]) == (1, True, 0)
    assert turn.lengths[0] == steps + turn.length[0] < MAZE.episode_limit


def test_sparse_rewards_are_minus_one_or_nothing():
    """scene counts what is left to do, so its own rewards go below -1."""
    scene = SUITE.domains["scene"]
    chunks = np.zeros((1, 2, scene.action_dim), np.float32)
    rewards = []
    for sparse in (False, True):
        with make_actors(scene, [2], 2, sparse=sparse) as actors:
            actors.begin(ENTROPY[:1])
            rewards.append(actors.play(chunks, np.array([0]), np.array([2])).rewards[0])
    assert (rewards[0] < -1).all()
    np.testing.assert_array_equal(rewards[1], [-1, -1])


def test_a_part_outside_the_chunk_is_an_error():
    with make_actors(MAZE, [1], 2, sparse=False) as actors, pytest.raises(ValueError, match="leave chunks of 2"):
        actors.play(np.zeros((1, 2, 2), np.float32), np.array([1]), np.array([2]))
