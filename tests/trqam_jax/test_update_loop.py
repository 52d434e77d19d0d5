"""Blocks of updates of several replicas: how they are cut, what diverges, what is left behind."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

import agents
from trqam_jax import update_loop
from trqam_jax.update_loop import ReplicaData, run_updates


def advance(made, totals, data, tasks, streams, first, count):
    source, steps = ReplicaData(data, jnp.array(tasks)), [jnp.full(len(tasks), x) for x in (first, count)]
    return run_updates(made, totals, source, streams, *steps, sampling=tiny.SAMPLING)


def written_and_read(tree, path):
    """The tree from an orbax checkpoint of itself."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, tree))


@pytest.mark.parametrize("name", agents.AGENTS)
def test_blocks_replicas_cuts_and_restarts(name, monkeypatch, tmp_path):
    """Three replicas, seven updates. To the bit, and without a second trace: all at once, in three dispatches, written
    to disk and read back in between, and each replica among copies of itself."""
    jax.clear_caches()  # else a replica alone was seen to run the program of another method with equal arrays
    traces = []
    original = update_loop.one_update
    monkeypatch.setattr(update_loop, "one_update", lambda *a, **k: traces.append(1) or original(*a, **k))
    data, seeds, tasks = tiny.dataset(num_tasks=3), [3, 3, 4], [0, 1, 1]  # shapes that no other test has compiled
    results, counts = [], []
    for cuts, restart in (([7], False), ([1, 2, 4], False), ([3, 4], True)):
        made, totals, streams = tiny.start(name, seeds, tasks, data)
        traces.clear()
        step = 0
        for count in cuts:
            if restart and step:
                made, totals = written_and_read((made, totals), tmp_path / name)
            made, totals = advance(made, totals, data, tasks, streams, step, count)
            step += count
        counts.append(len(traces))
        results.append(jax.tree.map(np.asarray, (made.state(), totals)))
    assert counts == [1, 0, 0]
    assert "grad_norm" in totals.sums  # by which finiteness is judged
    for other in results[1:]:
        chex.assert_trees_all_equal(other, results[0])

    for r in (0, 2):
        apart, sums, streams = tiny.start(name, [seeds[r]] * 3, [tasks[r]] * 3, data)
        traces.clear()
        alone = advance(apart, sums, data, [tasks[r]] * 3, streams, 0, 7)
        assert traces == []
        for mine, among in zip(tiny.leaves((alone[0].state(), alone[1])), tiny.leaves(results[0]), strict=True):
            np.testing.assert_array_equal(mine, np.broadcast_to(among[r], mine.shape))
    # One seed, two tasks: the same minibatches and noise with other rewards.
    if name != "bc":
        assert abs(totals.sums["critic_loss"][0] - totals.sums["critic_loss"][1]) > 1e-3
    if name in ("bc", "trqam"):
        np.testing.assert_allclose(totals.sums["flow_loss"][0], totals.sums["flow_loss"][1], rtol=1e-2)
    drawn = totals.sums["flow_loss" if "flow_loss" in totals.sums else "critic_loss"]
    assert abs(drawn[1] - drawn[2]) > 1e-4


# Without rewards; with a dual variable; with a second policy and its temperature; without a flow; with windows of
# single episodes and averages at several rates.
@pytest.mark.parametrize("name", ["bc", "trqam", "qam_edit", "rlpd", "rql"])
def test_replicas_equal_the_plain_loop(name):
    """Three replicas, seven updates in one dispatch, against one replica and one update at a time; up to the order of
    sums."""
    data, seeds, tasks = tiny.dataset(num_tasks=3), [3, 3, 4], [0, 1, 1]
    fresh, totals, streams = tiny.start(name, seeds, tasks, data)
    made, totals = advance(*tiny.start(name, seeds, tasks, data)[:2], data, tasks, streams, 0, 7)
    one = jax.jit(update_loop.one_update, static_argnames="sampling")
    for r, task in enumerate(tasks):
        agent, stream = jax.tree.map(lambda x, r=r: x[r], (fresh, streams))
        sums = dict.fromkeys(totals.sums, 0.0)
        for step in range(7):
            agent, info = one(
                agent, ReplicaData(data, jnp.array(task)), stream, jnp.int32(step), sampling=tiny.SAMPLING
            )
            sums = {key: sums[key] + info[key] for key in sums}
        for key, total in totals.sums.items():
            np.testing.assert_allclose(total[r], sums[key], rtol=2e-3, atol=1e-4, err_msg=key)
        for a, b in zip(tiny.leaves(made.train.params), tiny.leaves(agent.train.params), strict=True):
            np.testing.assert_allclose(a[r], b, rtol=1e-3, atol=2e-5)


def poisoned(data, task):
    """The data with one reward of `task` that is no number."""
    return data.replace(rewards=data.rewards.at[task, 40].set(jnp.nan))


@pytest.mark.parametrize("where", ["reward", "parameter"])
def test_a_replica_that_is_not_finite_diverges_and_the_others_do_not_notice(where):
    """Four replicas, 30 updates: against the same run without the poison, to the bit, however it is dispatched."""
    seeds, tasks, bad, data = [1, 2, 3, 4], [0, 0, 1, 0], 2, tiny.dataset()

    def trained(data, cuts, first=0, poison=False):
        made, totals, streams = tiny.start("trqam", seeds, tasks, data)
        if poison:
            bias = made.train.params["critic"]["Dense_0"]["bias"]
            made.train.params["critic"]["Dense_0"]["bias"] = bias.at[bad].set(jnp.nan)
        step = first
        for count in cuts:
            made, totals = advance(made, totals, data, tasks, streams, step, count)
            step += count
        return made, totals

    made, totals = trained(data, [30])
    hurt = dict(data=poisoned(data, 1)) if where == "reward" else dict(data=data, poison=True)
    other, others_totals = trained(cuts=[11, 19], **hurt)
    at = int(others_totals.frozen_at[bad])
    assert others_totals.frozen_at.tolist() == [-1, -1, at, -1]
    assert others_totals.count.tolist() == [30, 30, at, 30]
    assert (0 < at < 30) if where == "reward" else at == 0
    for a, b in zip(tiny.leaves((made, totals.sums)), tiny.leaves((other, others_totals.sums)), strict=True):
        np.testing.assert_array_equal(np.delete(a, bad, 0), np.delete(b, bad, 0))
    before, _ = trained(cuts=[at] if at else [], **hurt)
    for a, b in zip(tiny.leaves(other), tiny.leaves(before), strict=True):
        np.testing.assert_array_equal(a[bad], b[bad])  # its last state, for good
    if where == "reward":
        assert all(np.isfinite(x).all() for x in tiny.leaves((other, others_totals)))
        means = others_totals.means()
        expected = others_totals.sums["critic_loss"] / np.float32([30, 30, at, 30])
        np.testing.assert_array_equal(means["critic_loss"], expected)
        assert np.isnan(others_totals.restarted().means()["critic_loss"]).all()


def test_carry_is_donated_and_nothing_is_left_behind():
    data = tiny.dataset()
    made, totals, streams = tiny.start("trqam", [1], [0], data)
    before = made
    made, totals = advance(made, totals, data, [0], streams, 0, 1)
    assert all(x.is_deleted() for x in jax.tree.leaves(before.train))
    count = len(jax.live_arrays())
    for step in range(1, 100):
        made, totals = advance(made, totals, data, [0], streams, step, 1)
    assert len(jax.live_arrays()) <= count
