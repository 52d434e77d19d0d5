"""Window conventions on hand-made episodes, against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trqam_jax.data import Dataset, Spans, check_episodes, draw_in_episodes, repeated_window, sample, window
from trqam_jax.errors import UserError

DISCOUNT = 0.9


def make(lengths, masks_at=()):
    """Episodes of the given numbers of transitions; observation = row number, action = transition number."""
    rows, terminals, row = [], [], 0
    for length in lengths:
        rows += range(row, row + length)
        terminals += [False] * (length - 1) + [True]
        row += length + 1
    n = len(rows)
    masks = np.ones((2, n), np.float32)
    masks[0, list(masks_at)] = 0
    return Dataset(
        observations=jnp.arange(row, dtype=jnp.float32)[:, None],
        actions=jnp.arange(n, dtype=jnp.float32)[:, None],
        rows=jnp.asarray(rows, jnp.int32),
        terminals=jnp.asarray(terminals),
        rewards=jnp.asarray(np.stack([np.arange(n) + 1.0, -np.ones(n)]), jnp.float32),
        masks=jnp.asarray(masks),
        ends=jnp.flatnonzero(jnp.asarray(terminals)),
    )


def by_loop(data, task, start, horizon):
    """The conventions, a step at a time."""
    reward, mask, valid, next_row = 0.0, 1.0, 1.0, None
    for i in range(horizon):
        if i > 0 and data.terminals[start + i - 1]:
            valid = 0.0
        if valid:
            reward += DISCOUNT**i * float(data.rewards[task, start + i])
            mask = min(mask, float(data.masks[task, start + i]))
            next_row = int(data.rows[start + i]) + 1
    return reward, mask, valid, next_row


@pytest.mark.parametrize("horizon", [1, 3, 5])
@pytest.mark.parametrize("task", [0, 1])
def test_every_window_equals_the_plain_loop(horizon, task):
    data = make([4, 2, 6, 3], masks_at=(1, 7))
    for start in range(len(data.actions) - horizon + 1):
        batch = window(data, task, start, horizon, DISCOUNT)
        reward, mask, valid, next_row = by_loop(data, task, start, horizon)
        assert batch.rewards == pytest.approx(reward, rel=1e-6)
        assert (batch.masks, batch.valid, batch.next_observations[0]) == (mask, valid, next_row)
        assert batch.observations[0] == data.rows[start]
        np.testing.assert_array_equal(batch.actions[:, 0], np.arange(start, start + horizon))


def test_a_window_that_ends_on_a_terminal_is_valid_and_sees_the_final_state():
    batch = window(make([4, 4]), 0, 1, 3, DISCOUNT)
    assert batch.valid == 1
    assert batch.next_observations[0] == 4  # the row that is no transition


def test_a_window_across_the_end_keeps_actions_and_freezes_the_rest():
    batch = window(make([4, 4]), 0, 2, 4, DISCOUNT)
    assert batch.valid == 0
    np.testing.assert_array_equal(batch.actions[:, 0], [2, 3, 4, 5])
    assert batch.rewards == pytest.approx(3 + DISCOUNT * 4)
    assert batch.next_observations[0] == 4


def test_a_mask_inside_an_episode_stops_neither_rewards_nor_validity():
    batch = window(make([6], masks_at=(1,)), 0, 0, 4, DISCOUNT)
    assert (batch.masks, batch.valid) == (0, 1)
    assert batch.rewards == pytest.approx(sum(DISCOUNT**i * (i + 1) for i in range(4)))


def test_starts_cover_all_windows_and_no_more():
    data, horizon = make([4, 4]), 3
    batch = sample(data, 0, jax.random.key(0), 2000, horizon, DISCOUNT)
    starts, counts = np.unique(np.asarray(batch.actions[:, 0, 0]), return_counts=True)
    np.testing.assert_array_equal(starts, np.arange(8 - horizon + 1))
    assert counts.min() > 0.8 * 2000 / len(starts)


def test_a_cycle_draws_from_one_shard_after_the_other():
    """Whole windows of the current shard, all of them, whatever the shards' sizes; a function of (key, step) alone."""
    lengths, horizon, cycle = [7, 23, 4], 3, 5
    data = make(lengths).replace(spans=Spans((0, 7, 30, 34), cycle))
    drawn = lambda step: sample(data, 0, jax.random.fold_in(jax.random.key(0), step), 400, horizon, DISCOUNT, step)
    starts = jax.vmap(lambda step: drawn(step).actions[:, 0, 0])(jnp.arange(40))
    for step, own in enumerate(np.asarray(starts)):
        shard = step // cycle % 3
        low, high = data.spans.bounds[shard : shard + 2]
        assert set(own) == set(range(low, high - horizon + 1)), step
    np.testing.assert_array_equal(starts[17], drawn(17).actions[:, 0, 0])


def test_without_a_cycle_the_draws_are_those_of_one_file():
    data, key = make([4, 4, 3]), jax.random.key(3)
    whole = sample(data, 0, key, 50, 3, DISCOUNT, step=9)
    shards = sample(data.replace(spans=Spans((0, 8, 11))), 0, key, 50, 3, DISCOUNT, step=9)
    expected = jax.random.randint(key, (50,), 0, 11 - 3 + 1)
    for batch in (whole, shards):
        np.testing.assert_array_equal(batch.actions[:, 0, 0], expected)


@pytest.mark.parametrize("horizon", [1, 3, 5])
def test_a_repeated_window_stays_in_its_episode(horizon):
    """Row i is row min(start + i, end); the mask is the last row's, the next observation that of row `horizon`."""
    data = make([4, 2, 6], masks_at=(1, 7))
    ends = np.flatnonzero(data.terminals)
    for start in range(len(data.actions)):
        end = ends[ends >= start][0]
        rows = np.minimum(start + np.arange(horizon + 1), end)
        past = np.concatenate([[0.0], np.asarray(data.terminals)[rows[:-1]]])
        reward = sum(DISCOUNT**i * float(data.rewards[0, rows[i]]) * (1 - past[i]) for i in range(horizon))
        batch = repeated_window(data, 0, start, horizon, DISCOUNT)
        assert batch.rewards == pytest.approx(reward, rel=1e-6)
        assert batch.masks == data.masks[0, rows[horizon - 1]]
        assert batch.valid == (past.sum() <= 1)
        assert batch.next_observations[0] == data.rows[rows[horizon]]
        np.testing.assert_array_equal(batch.in_episode, 1 - past[:horizon])
        np.testing.assert_array_equal(batch.actions[:, 0], rows[:horizon])


def test_data_without_an_episode_to_draw_are_refused():
    ends = np.array([0, 1, 4])
    check_episodes(ends, Spans((0, 2, 5)))
    check_episodes(ends, Spans((0, 5), 10))
    with pytest.raises(UserError, match=r"transitions 0 to 1 .* two transitions"):
        check_episodes(ends, Spans((0, 2, 5), 10))
    with pytest.raises(UserError, match=r"transitions 0 to 2"):
        check_episodes(np.array([0, 1, 2]), Spans((0, 3)))


def test_episodes_are_drawn_once_each_and_never_at_their_last_row():
    """Of one row none is drawn, nor from other transitions than those asked for; twice only if there are too few."""
    lengths = [3, 1, 2, 5, 4, 2, 30]
    ends = jnp.cumsum(jnp.array(lengths)) - 1
    episode_of = np.repeat(np.arange(len(lengths)), lengths)
    draw = jax.jit(draw_in_episodes, static_argnames="batch_size")
    counts = np.zeros(sum(lengths))
    for seed in range(400):
        starts = np.asarray(draw(jax.random.key(seed), ends, 3, 17, batch_size=3))  # episodes 1 to 5, four of them long
        assert len(set(episode_of[starts])) == 3
        np.add.at(counts, starts, 1)
    assert not counts[:3].any()
    assert not counts[17:].any()
    assert not counts[np.asarray(ends)].any()
    assert not counts[episode_of == 1].any()
    by_episode = np.bincount(episode_of, counts)[[2, 3, 4, 5]] / counts.sum()
    np.testing.assert_allclose(by_episode, 0.25, atol=0.03)
    assert (counts[episode_of == 3][:-1] / counts[episode_of == 3].sum() > 0.15).all()
    many = np.asarray(draw(jax.random.key(0), ends, 0, sum(lengths), batch_size=50))
    assert set(episode_of[many]) == {0, 2, 3, 4, 5, 6}
