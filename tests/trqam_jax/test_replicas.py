"""Replicas in passes, over devices, and with settings of their own."""

import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import agents
from agents.trqam import TRQAM
from trqam_jax import replicas
from trqam_jax.agent_config import stack_configs
from trqam_jax.errors import UserError
from trqam_jax.replicas import Population, create_replicas, load_pretrained, passes
from trqam_jax.streams import stack_streams
from trqam_jax.update_loop import ReplicaData


def test_pretrained_policy_reaches_every_flow_and_nothing_else():
    data = tiny.dataset()
    cloner, _, _ = tiny.start("bc", [7], [0], data)
    made, _, _ = tiny.start("trqam", [3], [0], data)
    critic = made.train.params["critic"]
    velocity = cloner.train.params["actor"]
    loaded = load_pretrained(made, velocity)
    for tree in (
        loaded.train.params["actor_fast"],
        loaded.train.params["actor_slow"],
        loaded.train.targets["actor_slow"],
    ):
        chex.assert_trees_all_equal(tree, velocity)
    chex.assert_trees_all_equal(loaded.train.params["critic"], critic)
    observations, key = jnp.ones((5, 4)), jax.random.key(0)
    first = lambda tree: jax.tree.map(lambda x: x[0], tree)
    np.testing.assert_allclose(
        first(loaded).act(observations, key), first(cloner).act(observations, key), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("num_replicas", "per_pass"), [(1, 1), (5, 2), (40, 16), (8, 8), (3, 7), (7, 1)])
def test_passes_cover_every_replica_once_and_evenly(num_replicas, per_pass):
    parts = passes(num_replicas, per_pass)
    assert [r for part in parts for r in range(part.start, part.stop)] == list(range(num_replicas))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= per_pass
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-num_replicas // per_pass)


def make_population(per_pass, seeds=(3, 4, 5), tasks=(0, 1, 0)):
    data, tasks = tiny.dataset(), jnp.array(tasks)
    made, _, streams = tiny.start("trqam", seeds, tasks, data)
    return Population(made, ReplicaData(data, tasks), streams, tiny.SAMPLING, per_pass=per_pass)


def test_cut_into_passes_replicas_are_held_once():
    data, tasks = tiny.dataset(), jnp.array([0, 1, 0])
    made, totals, streams = tiny.start("trqam", (3, 4, 5), tasks, data)
    params = jax.tree.map(np.array, made.train.params)
    source = ReplicaData(data, tasks)
    population = Population(made, source, streams, tiny.SAMPLING, per_pass=2, totals=totals)
    assert all(x.is_deleted() for x in jax.tree.leaves((made, totals)))
    assert not any(x.is_deleted() for x in jax.tree.leaves((source, streams)))
    chex.assert_trees_all_equal(population.agents.train.params, params)


def test_how_replicas_are_divided_changes_no_number_but_by_rounding():
    """Three in one pass, two and one, or each alone; alone, on a CPU, to the bit what a single run computes."""
    results = []
    for per_pass in (3, 2, 1):
        population = make_population(per_pass)
        population.run(0, 2)
        population.run(2, 3)
        results.append((population.agents.train.params, population.totals.sums))
    for other in results[1:]:
        tiny.assert_trees_close(other, results[0], rtol=1e-3)
    single = make_population(1, seeds=(4,), tasks=(1,))
    single.run(0, 5)
    second = jax.tree.map(lambda x: x[1:2], results[-1])
    chex.assert_trees_all_equal((single.agents.train.params, single.totals.sums), second)


@pytest.mark.parametrize("per_pass", [1, 3])
def test_a_population_traces_its_update_once(per_pass, monkeypatch):
    """For the names of its metrics and for its programs."""
    if per_pass > 1 and len(jax.devices()) > 1:
        pytest.skip("over several devices the programs are typed by their mesh")
    step, traces = TRQAM.step, []
    monkeypatch.setattr(TRQAM, "step", lambda *a: traces.append(1) or step(*a))
    jax.clear_caches()
    population = make_population(per_pass)
    population.run(0, 1)
    assert len(traces) == 1


def test_a_population_starts_its_sums_anew_and_says_what_it_takes():
    population = make_population(2)
    population.run(0, 2)
    np.testing.assert_array_equal(population.totals.count, [2, 2, 2])
    population.restart_totals()
    np.testing.assert_array_equal(population.totals.count, [0, 0, 0])
    assert all(np.all(x == 0) for x in tiny.leaves(population.totals.sums))
    resident = sum(x.nbytes for x in jax.tree.leaves((population.agents, population.totals)))
    assert 0 <= population.memory.replicas - resident < 1000  # keys and tasks
    assert population.memory.temporary > 0


def test_a_device_that_is_too_small_takes_fewer_replicas_in_a_pass_or_says_so(monkeypatch):
    whole, alone = make_population(3).memory, make_population(1).memory
    assert alone.temporary < whole.temporary

    def on(limit, per_pass):
        monkeypatch.setattr(replicas, "memory_limit", lambda: limit)
        return make_population(per_pass)

    assert len(on(2 * sum(whole), 0)._passes) == 1
    assert len(on((sum(alone) + sum(whole)) / 2 / 0.9, 0)._passes) > 1
    with pytest.raises(UserError, match=r"need .* MiB per device"):
        on(1000, 0)
    with pytest.raises(UserError, match="fewer replicas per pass"):
        on(1000, 2)


def test_replicas_spread_over_the_devices_of_a_machine():
    """Four host devices in a process of their own: four replicas, one on each, give what one device gives."""
    script = pathlib.Path(__file__).parent / "on_four_devices.py"
    folders = os.pathsep.join(str(script.parents[up]) for up in (1, 2))
    environment = os.environ | {"PYTHONPATH": folders}
    # Without the other fusions of conftest.py, which round a streamed minibatch otherwise than a resident one.
    flags = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=4"
    environment |= {"XLA_FLAGS": flags}
    subprocess.run([sys.executable, script], check=True, env=environment, timeout=300)


SWEPT = {
    "trqam": {"kl_budget": (0.1, 1.0), "lam_scale": (1.0, 3.0), "learning_rate": (1e-3, 3e-4)},
    "qam_edit": {"inv_temp": (1.0, 3.0), "edit_scale": (0.1, 0.9), "target_entropy_multiplier": (0.5, 0.3)},
    "ifql": {"kappa": (0.7, 0.9), "discount": (0.97, 0.995), "rho": (0.0, 0.5)},
    "qsm": {"inv_temp": (1.0, 3.0), "alpha": (0.0, 10.0)},
    "rebrac": {"alpha_actor": (0.01, 0.1), "actor_noise": (0.0, 0.2), "tau": (0.1, 0.005)},
    "cgql_linex": {
        "guidance_coef": (0.03, 0.1),
        "linex_clip": (2.0, 5.0),
        "clip_norm": (0.5, 1.0),
        "tau": (0.1, 0.005),
    },
}


@pytest.mark.parametrize("name", SWEPT)
def test_a_replica_with_a_setting_of_its_own_is_the_run_of_that_value_alone(name):
    """To the bit, of every setting's two values; the replicas share a seed and a program."""
    data = tiny.dataset()

    def trained(configs):
        """Parameters, averages and metrics after seven updates, a replica per configuration."""
        streams = stack_streams([3] * len(configs), "offline")
        made = create_replicas(agents.AGENTS[name], streams.init, tiny.SPEC, stack_configs(configs))
        tasks = jnp.zeros(len(configs), jnp.int32)
        population = Population(made, ReplicaData(data, tasks), streams, tiny.SAMPLING, per_pass=1)
        population.run(0, 7)
        return jax.tree.map(np.array, (population.agents.state(), population.totals))

    base = {setting: values[0] for setting, values in SWEPT[name].items()}
    variants = [base, *({**base, setting: values[1]} for setting, values in SWEPT[name].items())]
    configs = [tiny.config(name, **{"clip_norm": 1.0, **values}) for values in variants]
    together = trained(configs)
    for r, config in enumerate(configs):
        chex.assert_trees_all_equal(jax.tree.map(lambda x, r=r: x[r : r + 1], together), trained([config]))
    params = together[0]["train"].params
    for r in range(1, len(configs)):
        assert any((x[r] != x[0]).any() for x in jax.tree.leaves(params)), variants[r]
