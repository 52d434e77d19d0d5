"""Online: windows over dataset and replay, and updates dispatched in blocks against the plain interleaving."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import agents
from trqam_jax.data import Dataset, sample
from trqam_jax.replay import Replay, sample_both
from trqam_jax.replicas import Population, create_replicas
from trqam_jax.streaming import Stream
from trqam_jax.streams import stack_streams
from trqam_jax.update_loop import ReplicaData, SamplingConfig

pytestmark = pytest.mark.usefixtures("default_fusions")

H = tiny.SPEC.horizon
KEY = jax.random.key(5)


def played(steps, seed=0, ends=()):
    """`steps` transitions of tiny.SPEC's sizes, episodes ending after the named ones."""
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(steps, tiny.SPEC.observation_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, tiny.SPEC.action_dim)).astype(np.float32),
        "rewards": rng.integers(-2, 1, steps).astype(np.float32),
        "masks": np.isin(np.arange(steps), ends, invert=True).astype(np.float32),
        "terminals": np.isin(np.arange(steps), ends),
        "next_observations": rng.normal(size=(steps, tiny.SPEC.observation_dim)).astype(np.float32),
    }


def stored(rows, capacity=64):
    empty = Replay.empty(capacity, tiny.SPEC.observation_dim, tiny.SPEC.action_dim)
    return empty.store({name: jnp.asarray(x) for name, x in rows.items()}, len(rows["rewards"]))


def as_one_dataset(data, task, rows):
    """Dataset and played rows as one dataset of one task, every transition's two observations side by side."""
    both = lambda a, b: jnp.concatenate([jnp.asarray(a), jnp.asarray(b)])
    starts = both(data.observations[data.rows], rows["observations"])
    ends = both(data.observations[data.rows + 1], rows["next_observations"])
    return Dataset(
        observations=jnp.stack([starts, ends], 1).reshape(-1, starts.shape[-1]),
        actions=both(data.actions, rows["actions"]),
        rows=2 * jnp.arange(len(starts), dtype=jnp.int32),
        terminals=both(data.terminals, rows["terminals"]),
        rewards=both(data.rewards[task], rows["rewards"])[None],
        masks=both(data.masks[task], rows["masks"])[None],
    )


def assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def sampled(data, task, replay, visible, *, balanced=False, size=256):
    return sample_both(data, task, replay, visible, KEY, batch_size=size, horizon=H, discount=0.9, balanced=balanced)


def test_sampling_both_is_sampling_the_two_put_together():
    """Windows across the border and across ends of episodes included."""
    data, rows = tiny.dataset(), played(20, ends=(4, 11))
    together = as_one_dataset(data, 1, rows)
    assert_equal(sampled(data, 1, stored(rows), 20), sample(together, 0, KEY, 256, H, 0.9))


def test_nothing_is_drawn_from_behind_what_is_visible():
    data, rows = tiny.dataset(), played(20)
    poisoned = {
        name: np.where(np.arange(20).reshape(-1, *[1] * (x.ndim - 1)) < 7, x, np.nan) for name, x in rows.items()
    }
    poisoned["terminals"] = rows["terminals"]
    batch = sampled(data, 0, stored(poisoned), 7)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(batch))
    assert_equal(batch, sampled(data, 0, stored({name: x[:7] for name, x in rows.items()}), 7))


def test_balanced_minibatches_are_one_half_of_each():
    data, rows = tiny.dataset(), played(9)
    mark = {**rows, "observations": np.full_like(rows["observations"], 100.0)}
    is_new = np.asarray(sampled(data, 0, stored(mark), 9, balanced=True).observations[:, 0]) == 100.0
    assert is_new.sum() == 128
    assert not is_new[:128].any()


def test_stored_rows_follow_one_another_and_leftovers_do_not_show():
    rows = played(12)
    replay = Replay.empty(20, tiny.SPEC.observation_dim, tiny.SPEC.action_dim)
    for first, length in ((0, 3), (3, 1), (4, 5), (9, 3)):
        padded = {
            name: np.concatenate([x[first : first + length], np.full_like(x[:5], 1)])[:5] for name, x in rows.items()
        }
        replay = replay.store({name: jnp.asarray(x) for name, x in padded.items()}, length)
    assert replay.size == 12
    for name, x in rows.items():
        np.testing.assert_array_equal(getattr(replay, name)[:12], x)


@pytest.mark.parametrize(("updates_per_step", "balanced", "cycle"), [(1, False, 0), (2, True, 3)])
def test_blocks_equal_the_plain_interleaving(updates_per_step, balanced, cycle):
    """Two replicas whose chunks end at different steps: step, store, update, one at a time, against whole chunks, with
    the dataset on the device and streamed."""
    sampling = SamplingConfig(16, start_training=5, updates_per_step=updates_per_step, balanced=balanced)
    seeds, tasks, total = [1, 2], jnp.array([0, 1]), 11
    stream = Stream(tiny.on_host(tiny.dataset()), cycle)
    data = tiny.dataset().replace(spans=stream.spans)
    rows = [played(total, seed=seed, ends=(6,)) for seed in seeds]
    lengths = [[3, 3, 1, 3, 1], [3, 2, 3, 0, 3]]

    def population(replicas, data):
        streams = stack_streams([seeds[r] for r in replicas], "online")
        made = create_replicas(agents.AGENTS["trqam"], streams.init, tiny.SPEC, tiny.config("trqam"))
        empty = Replay.empty(total + H, tiny.SPEC.observation_dim, tiny.SPEC.action_dim)
        replay = jax.tree.map(lambda x: jnp.stack([x] * len(replicas)), empty)
        source = ReplicaData(data, tasks[jnp.array(replicas)], replay)
        return Population(made, source, streams, sampling, per_pass=1)

    def in_blocks(data):
        blocks, stored_so_far = population([0, 1], data), np.zeros(2, int)
        for now in map(np.array, zip(*lengths, strict=True)):
            new = [{name: x[n:] for name, x in of.items()} for of, n in zip(rows, stored_so_far, strict=True)]
            padded = {
                name: np.stack(
                    [
                        np.concatenate([x[name][:n], np.full_like(rows[0][name][:H], 7)])[:H]
                        for x, n in zip(new, now, strict=True)
                    ]
                )
                for name in rows[0]
            }
            blocks.store(padded, now)
            blocks.run(*sampling.updates(stored_so_far, now))
            stored_so_far += now
        np.testing.assert_array_equal(blocks.totals.count, (total - 4) * updates_per_step)
        return blocks.agents, blocks.totals

    blocks = in_blocks(data)
    assert_equal(in_blocks(stream), blocks)
    for r in range(2):
        plain, update = population([r], data), 0
        for step in range(total):
            one = {name: x[None, step : step + 1] for name, x in rows[r].items()}
            plain.store({name: np.concatenate([x] * H, 1) for name, x in one.items()}, np.array([1]))
            for _ in range(updates_per_step if step + 1 >= sampling.start_training else 0):
                plain.run(update, 1)
                update += 1
        mine = jax.tree.map(lambda x, r=r: x[r : r + 1], blocks)
        assert_equal(mine, (plain.agents, plain.totals))
