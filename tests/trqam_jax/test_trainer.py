"""Blocks of updates, replicas and random streams."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

import agents
from trqam_jax import trainer
from trqam_jax.streams import make_streams, named, stack_streams

NAMES = [name for name in agents.AGENTS if name != "bc"]
BATCH = 16


def start(name, seeds, tasks, data):
    streams = stack_streams(seeds, "offline")
    made = trainer.create_replicas(agents.AGENTS[name], streams.init, tiny.SPEC, tiny.config(name))
    totals = trainer.zero_totals(made, data, jnp.array(tasks), streams, batch_size=BATCH)
    return made, totals, streams


def advance(made, totals, data, tasks, streams, first, count):
    return trainer.run_updates(made, totals, data, jnp.array(tasks), streams, first, count, batch_size=BATCH)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", [*NAMES, "bc"])
def test_block_equals_loop_of_single_updates(name):
    data = tiny.dataset()
    made, totals, streams = start(name, [3], [1], data)
    # Updates taken one by one, on the same streams, without the compiled loop.
    one = jax.jit(trainer.one_update, static_argnames="batch_size")
    agent, stream = jax.tree.map(lambda x: x[0], (made, streams))
    sums = []
    for step in range(5):
        agent, info = one(agent, data, jnp.array(1), stream, jnp.int32(step), batch_size=BATCH)
        sums.append(info)
    made, totals = advance(made, totals, data, [1], streams, 0, 5)
    for key in totals:
        np.testing.assert_allclose(totals[key][0], sum(info[key] for info in sums), rtol=2e-4, atol=1e-5)
    for a, b in zip(leaves(made.train.params), leaves(agent.train.params), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", [*NAMES, "bc"])
def test_cuts_and_restarts_change_no_bit_and_nothing_is_traced_again(name, monkeypatch, tmp_path):
    """Seven updates at once; in three dispatches; and with everything written to disk and read back in between."""
    traces = []
    original = trainer.one_update
    monkeypatch.setattr(trainer, "one_update", lambda *a, **k: traces.append(1) or original(*a, **k))
    data, seeds, tasks = tiny.dataset(num_tasks=3), [3, 4], [0, 1]  # a shape that no other test has compiled

    def written_and_read(tree, path):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, tree)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, tree))

    results, counts = [], []
    for cuts, restart in (([7], False), ([1, 2, 4], False), ([3, 4], True)):
        made, totals, streams = start(name, seeds, tasks, data)
        traces.clear()
        step = 0
        for count in cuts:
            if restart and step:
                made, totals = written_and_read((made, totals), tmp_path / name)
            made, totals = advance(made, totals, data, tasks, streams, step, count)
            step += count
        counts.append(len(traces))
        results.append(leaves((made, totals)))
    assert counts == [1, 0, 0]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_replicas_equal_solo_runs(name):
    """Four replicas at once against each alone: the same streams, so equal up to the order of sums."""
    data, seeds, tasks = tiny.dataset(), [5, 6, 5, 6], [0, 0, 1, 1]
    made, totals, streams = start(name, seeds, tasks, data)
    made, totals = advance(made, totals, data, tasks, streams, 0, 20)
    for r in range(4):
        solo, own, stream = start(name, seeds[r : r + 1], tasks[r : r + 1], data)
        solo, own = advance(solo, own, data, tasks[r : r + 1], stream, 0, 20)
        for key in totals:
            np.testing.assert_allclose(totals[key][r], own[key][0], rtol=2e-3, atol=1e-4, err_msg=key)
    # Tasks differ in rewards alone: the cloned flow's loss does not see them, the critic's does.
    if name == "trqam":
        np.testing.assert_allclose(totals["flow_loss"][0], totals["flow_loss"][2], rtol=1e-5)
    assert abs(totals["critic_loss"][0] - totals["critic_loss"][2]) > 1e-3


def test_carry_is_donated_and_nothing_is_left_behind():
    data = tiny.dataset()
    made, totals, streams = start("trqam", [1], [0], data)
    before = made
    made, totals = advance(made, totals, data, [0], streams, 0, 1)
    assert all(x.is_deleted() for x in jax.tree.leaves(before.train))
    count = len(jax.live_arrays())
    for step in range(1, 20):
        made, totals = advance(made, totals, data, [0], streams, step, 1)
    assert len(jax.live_arrays()) <= count


def test_streams_depend_on_seed_purpose_and_phase_alone():
    stacked, alone = stack_streams([1, 2, 3], "offline"), make_streams(2, "offline")
    for many, one in zip(stacked, alone, strict=True):
        assert many[1] == one
    words = {
        tuple(np.asarray(jax.random.key_data(key)).tolist())
        for seed in (1, 2)
        for phase in ("bc", "offline")
        for key in make_streams(seed, phase)
    }
    assert len(words) == 2 * 2 * 4
    assert named(jax.random.key(0), "a") != named(jax.random.key(0), "b")


def test_cloned_policy_reaches_every_flow_and_nothing_else():
    data = tiny.dataset()
    cloner, _, _ = start("bc", [7], [0], data)
    made, _, _ = start("trqam", [3], [0], data)
    critic = leaves(made.train.params["critic"])
    velocity = cloner.train.params["actor"]
    loaded = trainer.load_cloned(made, velocity)
    for tree in (
        loaded.train.params["actor_fast"],
        loaded.train.params["actor_slow"],
        loaded.train.targets["actor_slow"],
    ):
        for a, b in zip(leaves(tree), leaves(velocity), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(leaves(loaded.train.params["critic"]), critic, strict=True):
        np.testing.assert_array_equal(a, b)
    observations, key = jnp.ones((5, 4)), jax.random.key(0)
    first = lambda tree: jax.tree.map(lambda x: x[0], tree)
    np.testing.assert_allclose(
        first(loaded).act(observations, key), first(cloner).act(observations, key), rtol=1e-5, atol=1e-6
    )
