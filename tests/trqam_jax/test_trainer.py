"""Blocks of updates, replicas and random streams."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

import agents
from agents.trqam import TRQAM
from trqam_jax import trainer
from trqam_jax.errors import UserError
from trqam_jax.streams import make_streams, named, stack_streams

RULES = trainer.Rules(batch_size=16)


def start(name, seeds, tasks, data):
    streams = stack_streams(seeds, "offline")
    made = trainer.create_replicas(agents.AGENTS[name], streams.init, tiny.SPEC, tiny.config(name))
    totals = trainer.zero_totals(made, trainer.Source(data, jnp.array(tasks)), streams, RULES)
    return made, totals, streams


def advance(made, totals, data, tasks, streams, first, count):
    source, steps = trainer.Source(data, jnp.array(tasks)), [jnp.full(len(tasks), x) for x in (first, count)]
    return trainer.run_updates(made, totals, source, streams, *steps, rules=RULES)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def written_and_read(tree, path):
    """The tree from an orbax checkpoint of itself."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, tree))


@pytest.mark.parametrize("name", agents.AGENTS)
def test_blocks_replicas_cuts_and_restarts(name, monkeypatch, tmp_path):
    """Three replicas, seven updates. To the bit, and without a second trace: all at once, in three dispatches, and
    written to disk and read back in between. Up to the order of sums: each replica alone, one update at a time."""
    traces = []
    original = trainer.one_update
    monkeypatch.setattr(trainer, "one_update", lambda *a, **k: traces.append(1) or original(*a, **k))
    data, seeds, tasks = tiny.dataset(num_tasks=3), [3, 3, 4], [0, 1, 1]  # shapes that no other test has compiled
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
    assert "grad_norm" in totals.sums  # by which finiteness is judged
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)

    fresh, _, _ = start(name, seeds, tasks, data)
    one = jax.jit(original, static_argnames="rules")
    for r, task in enumerate(tasks):
        agent, stream = jax.tree.map(lambda x, r=r: x[r], (fresh, streams))
        sums = dict.fromkeys(totals.sums, 0.0)
        for step in range(7):
            agent, info = one(agent, trainer.Source(data, jnp.array(task)), stream, jnp.int32(step), rules=RULES)
            sums = {key: sums[key] + info[key] for key in sums}
        for key, total in totals.sums.items():
            np.testing.assert_allclose(total[r], sums[key], rtol=2e-3, atol=1e-4, err_msg=key)
        for a, b in zip(leaves(made.train.params), leaves(agent.train.params), strict=True):
            np.testing.assert_allclose(a[r], b, rtol=1e-3, atol=2e-5)
    # One seed, two tasks: the same minibatches and noise with other rewards.
    if name != "bc":
        assert abs(totals.sums["critic_loss"][0] - totals.sums["critic_loss"][1]) > 1e-3
    if name in ("bc", "trqam"):
        np.testing.assert_allclose(totals.sums["flow_loss"][0], totals.sums["flow_loss"][1], rtol=1e-2)
    assert abs(totals.sums["flow_loss"][1] - totals.sums["flow_loss"][2]) > 1e-4


def poisoned(data, task):
    """The data with one reward of `task` that is no number."""
    return data.replace(rewards=data.rewards.at[task, 40].set(jnp.nan))


@pytest.mark.parametrize("where", ["reward", "parameter"])
def test_a_replica_that_is_not_finite_is_frozen_and_the_others_do_not_notice(where):
    """Four replicas, 30 updates: against the same run without the poison, to the bit, however it is dispatched."""
    seeds, tasks, bad, data = [1, 2, 3, 4], [0, 0, 1, 0], 2, tiny.dataset()

    def trained(data, cuts, first=0, poison=False):
        made, totals, streams = start("trqam", seeds, tasks, data)
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
    for a, b in zip(leaves((made, totals.sums)), leaves((other, others_totals.sums)), strict=True):
        np.testing.assert_array_equal(np.delete(a, bad, 0), np.delete(b, bad, 0))
    before, _ = trained(cuts=[at] if at else [], **hurt)
    for a, b in zip(leaves(other), leaves(before), strict=True):
        np.testing.assert_array_equal(a[bad], b[bad])  # its last state, for good
    if where == "reward":
        assert all(np.isfinite(x).all() for x in leaves((other, others_totals)))
        means = others_totals.means()
        expected = others_totals.sums["critic_loss"] / np.float32([30, 30, at, 30])
        np.testing.assert_array_equal(means["critic_loss"], expected)
        assert np.isnan(others_totals.restarted().means()["critic_loss"]).all()


def test_carry_is_donated_and_nothing_is_left_behind():
    data = tiny.dataset()
    made, totals, streams = start("trqam", [1], [0], data)
    before = made
    made, totals = advance(made, totals, data, [0], streams, 0, 1)
    assert all(x.is_deleted() for x in jax.tree.leaves(before.train))
    count = len(jax.live_arrays())
    for step in range(1, 100):
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
    assert len(words) == 2 * 2 * 5
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


@pytest.mark.parametrize(("num_replicas", "per_pass"), [(1, 1), (5, 2), (40, 16), (8, 8), (3, 7), (7, 1)])
def test_passes_cover_every_replica_once_and_evenly(num_replicas, per_pass):
    parts = trainer.passes(num_replicas, per_pass)
    assert [r for part in parts for r in range(part.start, part.stop)] == list(range(num_replicas))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= per_pass
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-num_replicas // per_pass)


def population(per_pass, seeds=(3, 4, 5), tasks=(0, 1, 0)):
    data, tasks = tiny.dataset(), jnp.array(tasks)
    made, _, streams = start("trqam", seeds, tasks, data)
    return trainer.Population(made, trainer.Source(data, tasks), streams, RULES, per_pass=per_pass)


def test_cut_into_passes_replicas_are_held_once():
    data, tasks = tiny.dataset(), jnp.array([0, 1, 0])
    made, totals, streams = start("trqam", (3, 4, 5), tasks, data)
    params = leaves(made.train.params)
    source = trainer.Source(data, tasks)
    replicas = trainer.Population(made, source, streams, RULES, per_pass=2, totals=totals)
    assert all(x.is_deleted() for x in jax.tree.leaves((made, totals)))
    assert not any(x.is_deleted() for x in jax.tree.leaves((source, streams)))
    for whole, joined in zip(params, leaves(replicas.agents.train.params), strict=True):
        np.testing.assert_array_equal(whole, joined)


def test_how_replicas_are_divided_changes_no_number_but_by_rounding():
    """Three in one pass, two and one, or each alone; alone, on a CPU, to the bit what a single run computes."""
    results = []
    for per_pass in (3, 2, 1):
        replicas = population(per_pass)
        replicas.run(0, 2)
        replicas.run(2, 3)
        results.append((replicas.agents.train.params, replicas.totals.sums))
    for other in results[1:]:
        tiny.assert_trees_close(other, results[0], rtol=1e-3)
    single = population(1, seeds=(4,), tasks=(1,))
    single.run(0, 5)
    second = jax.tree.map(lambda x: x[1:2], results[-1])
    for a, b in zip(leaves((single.agents.train.params, single.totals.sums)), leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("per_pass", [1, 3])
def test_a_population_traces_its_update_once(per_pass, monkeypatch):
    """For the names of its metrics and for its programs."""
    if per_pass > 1 and len(jax.devices()) > 1:
        pytest.skip("over several devices the programs are typed by their mesh")
    step, traces = TRQAM.step, []
    monkeypatch.setattr(TRQAM, "step", lambda *a: traces.append(1) or step(*a))
    jax.clear_caches()
    replicas = population(per_pass)
    replicas.run(0, 1)
    assert len(traces) == 1


def test_a_population_starts_its_sums_anew_and_says_what_it_takes():
    replicas = population(2)
    replicas.run(0, 2)
    np.testing.assert_array_equal(replicas.totals.count, [2, 2, 2])
    replicas.restart_totals()
    np.testing.assert_array_equal(replicas.totals.count, [0, 0, 0])
    assert all(np.all(x == 0) for x in leaves(replicas.totals.sums))
    resident = sum(x.nbytes for x in jax.tree.leaves((replicas.agents, replicas.totals)))
    assert 0 <= replicas.memory.replicas - resident < 1000  # keys and tasks
    assert replicas.memory.temporary > 0


def test_a_device_that_is_too_small_takes_fewer_replicas_in_a_pass_or_says_so(monkeypatch):
    whole, alone = population(3).memory, population(1).memory
    assert alone.temporary < whole.temporary

    def on(limit, per_pass):
        monkeypatch.setattr(trainer, "memory_limit", lambda: limit)
        return population(per_pass)

    assert len(on(2 * sum(whole), 0)._passes) == 1
    assert len(on((sum(alone) + sum(whole)) / 2 / 0.9, 0)._passes) > 1
    with pytest.raises(UserError, match=r"need .* MiB per device"):
        on(1000, 0)
    with pytest.raises(UserError, match="--replicas_per_pass"):
        on(1000, 2)


def test_replicas_spread_over_the_devices_of_a_machine():
    """Four host devices in a process of their own: four replicas, one on each, give what one device gives."""
    script = pathlib.Path(__file__).parent / "on_four_devices.py"
    folders = os.pathsep.join(str(script.parents[up]) for up in (1, 2))
    environment = os.environ | {"PYTHONPATH": folders}
    environment |= {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, script], check=True, env=environment, timeout=300)
