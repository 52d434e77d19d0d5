"""Programs compiled ahead: found by the call, asked for in vain by nobody, left behind by a process that ends."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax._src import monitoring

import agents
from trqam_jax import backend, replicas
from trqam_jax.ahead import Ahead
from trqam_jax.data import device_shapes
from trqam_jax.replicas import Creation, Plan, Population
from trqam_jax.streams import stack_streams
from trqam_jax.update_loop import ReplicaData, zero_totals


@pytest.fixture
def compiled():
    """The names of what is compiled."""
    names = []

    def listen(event, _, **about):
        if event.endswith("backend_compile_duration"):
            names.append(about["fun_name"])

    jax.clear_caches()
    monitoring.register_event_duration_secs_listener(listen)
    yield names
    monitoring.unregister_event_duration_listener(listen)


def test_the_call_finds_what_was_compiled_ahead(compiled):
    """As an evaluation does."""
    double = jax.jit(lambda x: 2 * x)
    Ahead(double.lower(jax.ShapeDtypeStruct((3,), jnp.float32))).result()
    assert len(compiled) == 1
    np.testing.assert_array_equal(double(np.ones(3, np.float32)), 2)
    assert len(compiled) == 1


def creation_of(name, seeds):
    return Creation(agents.AGENTS[name], stack_streams(seeds, "offline").init, tiny.SPEC, tiny.config(name))


def plan_of(fresh, seeds, shapes, per_pass=0):
    """Of replicas that are not there, and data that are not either."""
    streams, data = stack_streams(seeds, "offline"), ReplicaData(shapes, jnp.zeros(len(seeds), jnp.int32))
    totals = zero_totals(fresh.shapes, data, streams, tiny.SAMPLING)
    return Plan(fresh.shapes, totals, data, streams, tiny.SAMPLING, per_pass)


def test_what_the_compiler_raises_is_raised_where_the_program_is_asked_for(monkeypatch):
    fresh, wrong = creation_of("bc", [3]), {"xla_no_such_option": 1}
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option") as now:
        jax.jit(jnp.sin).lower(1.0).compile(wrong)
    monkeypatch.setattr(backend, "compiler_options", lambda *_: wrong)
    plan = plan_of(fresh, [3], tiny.dataset())
    with pytest.raises(jax.errors.JaxRuntimeError) as later:
        plan.result()
    assert str(later.value) == str(now.value)


def trained(made, seeds, plan, per_pass=0):
    """Its states and sums after three updates."""
    data, streams = ReplicaData(tiny.dataset(), jnp.zeros(len(seeds), jnp.int32)), stack_streams(seeds, "offline")
    population = Population(made, data, streams, tiny.SAMPLING, per_pass=per_pass, plan=plan)
    population.run(0, 3)
    return tiny.leaves((population.agents.state(), population.totals))


@pytest.mark.parametrize("per_pass", [1, 2])
def test_a_plan_from_shapes_is_that_of_the_replicas(per_pass, compiled, monkeypatch):
    """The update is traced once for a size of passes at most, no program is compiled twice, and no bit changes.

    Another plan is not used.
    """
    step, traces, seeds = agents.AGENTS["bc"].step, [], [3, 4, 5]
    monkeypatch.setattr(agents.AGENTS["bc"], "step", lambda *a: traces.append(1) or step(*a))
    data = tiny.dataset()
    shapes = device_shapes(tiny.on_host(data)).replace(ends=data.ends, spans=None)
    fresh = creation_of("bc", seeds)
    plan = plan_of(fresh, seeds, shapes, per_pass)
    ahead = trained(fresh.agents(), seeds, plan, per_pass)
    sizes = {part.stop - part.start for part in replicas.passes(3, per_pass)}
    assert 1 <= len(traces) <= len(sizes)  # JAX may have forgotten the first
    assert compiled.count("jit(run_updates)") == len(sizes)
    assert compiled.count("jit(_create)") == 1
    other = plan_of(creation_of("bc", [3, 4]), [3, 4], shapes, per_pass)
    for plan in (None, other):
        for a, b in zip(trained(fresh.agents(), seeds, plan, per_pass), ahead, strict=True):
            np.testing.assert_array_equal(a, b)


def test_shapes_of_data_that_are_not_read():
    data = tiny.dataset(num_tasks=2)
    found = device_shapes(tiny.on_host(data))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(data), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


ENDS = """
import threading
import jax
from trqam_jax import ahead

class Endless:  # a program that takes for ever
    out_info = None
    def compile(self, options):
        print("compiling\\n", end="", flush=True)
        threading.Event().wait()

class Quick(Endless):
    def compile(self, options):
        print("compiled\\n", end="")

ahead.Ahead({kind}())
print("leaving\\n", end="")
{leave}
"""


@pytest.mark.parametrize(
    ("kind", "leave", "status", "error"),
    [
        ("Endless", "ahead.leave(75)", 75, ""),
        ("Endless", "ahead.leave('error: no room')", 1, "error: no room\n"),
        ("Quick", "raise SystemExit(3)", 3, ""),
    ],
)
def test_a_process_that_leaves_waits_for_no_program(kind, leave, status, error):
    code = ENDS.format(kind=kind, leave=leave)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=os.environ)
    assert (done.returncode, done.stderr) == (status, error)
    assert "leaving" in done.stdout.split()
    assert ("compiled" in done.stdout.split()) == (kind == "Quick")
