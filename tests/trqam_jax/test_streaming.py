"""Streamed data against the same data on the device. Online: test_replay.py; several devices: on_four_devices.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import agents
from trqam_jax import streaming
from trqam_jax.data import Spans, repeated_window, window
from trqam_jax.replicas import Population, create_replicas
from trqam_jax.streams import stack_streams
from trqam_jax.types import Windows
from trqam_jax.update_loop import ReplicaData, SamplingConfig

pytestmark = pytest.mark.usefixtures("default_fusions")

SEEDS, TASKS, SAMPLING = [3, 4, 5], [0, 1, 0], SamplingConfig(batch_size=16)
SIZES = SAMPLING.batch_size, tiny.SPEC.horizon


def streamed(cycle=0, most_updates=4):
    return streaming.Stream(tiny.on_host(tiny.dataset()), cycle, most_updates)


def resident(cycle=0):
    return tiny.dataset().replace(spans=Spans(tiny.on_host(tiny.dataset()).bounds, cycle))


def population(data, per_pass=3, after=None, name="trqam"):
    """Fresh replicas, or those of another population."""
    streams = stack_streams(SEEDS, "offline")
    made, totals = create_replicas(agents.AGENTS[name], streams.init, tiny.SPEC, tiny.config(name)), None
    if after is not None:
        made, totals = jax.tree.map(jnp.copy, (after.agents, after.totals))
    source, sampling = ReplicaData(data, jnp.array(TASKS)), SAMPLING._replace(windows=made.windows)
    return Population(made, source, streams, sampling, per_pass=per_pass, totals=totals)


def assert_same(one, other):
    for a, b in zip(*(jax.tree.leaves((p.agents, p.totals)) for p in (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("horizon", [1, 3, 5])
@pytest.mark.parametrize(("windows", "one"), [(Windows.ROWS, window), (Windows.EPISODES, repeated_window)])
def test_a_gathered_window_is_the_window(horizon, windows, one):
    whole, first = tiny.dataset(), np.arange(len(tiny.dataset().actions) - horizon + 1)
    spec = streaming.BlockSpec(1, len(first), horizon, windows)
    for task in (0, 1):
        part = jax.tree.map(jnp.asarray, streaming.gather(streamed(), task, first, spec))
        found = jax.vmap(lambda start, part=part: one(part, 0, start, horizon, 0.9))(horizon * np.arange(len(first)))
        expected = jax.vmap(lambda start, task=task: one(whole, task, start, horizon, 0.9))(first)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("per_pass", "cycle", "name"), [(3, 2, "trqam"), (1, 0, "trqam"), (3, 2, "rql")])
def test_streamed_is_resident_to_the_bit(per_pass, cycle, name, monkeypatch):
    """Eleven updates in dispatches that end within blocks of four, and the same again from the middle of one on."""
    made, gather = [], streaming.gather
    monkeypatch.setattr(streaming, "gather", lambda *args: made.append(1) or gather(*args))
    expected, stream = population(resident(cycle), per_pass, name=name), streamed(cycle)
    expected.run(0, 11)
    cut = population(stream, per_pass, name=name)
    cut.run(0, 5)
    resumed = population(streamed(cycle), per_pass, after=cut, name=name)
    cut.run(5, 1)
    cut.run(6, 5)
    stream.pool.shutdown()
    assert len(made) == 4 * len(SEEDS)  # three blocks, each once, and the one that would have been next
    assert stream.waited > 0
    assert_same(cut, expected)
    resumed.run(5, 6)
    assert_same(resumed, expected)


def test_the_next_block_is_begun_with_before_the_updates_of_the_present_one(monkeypatch):
    order, prepare, stream = [], streaming.Feed._prepare, streamed()
    monkeypatch.setattr(
        streaming.Feed, "_prepare", lambda feed, first: order.append(int(first[0])) or prepare(feed, first)
    )
    replicas = population(stream)
    program = replicas._programs[3]
    replicas._programs[3] = lambda *args: order.append("updates") or program(*args)
    replicas.run(0, 3)
    replicas.run(3, 7)
    stream.pool.shutdown()
    assert order == [0, 4, "updates", "updates", 8, "updates", 12, "updates"]


def test_what_blocks_take_is_what_is_stated(monkeypatch):
    stream = streamed()
    replicas = population(stream)
    replicas.run(0, 1)
    (feed,) = replicas._feeds
    block, held = feed(np.full(3, 1), np.full(3, 9))
    np.testing.assert_array_equal(held, 3)
    following = feed(np.full(3, 4), np.full(3, 1))[0]
    assert replicas.memory.data == sum(x.nbytes for x in jax.tree.leaves((block, following)))
    shapes = stream.shapes(len(SEEDS), stream.block_spec(len(SEEDS), *SIZES))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), block) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)

    stream = streamed(most_updates=1000)
    one = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(stream.shapes(3, streaming.BlockSpec(1, *SIZES))))
    for allowed, length in ((10 * one, 10), (10 * one - 1, 9), (1, 1), (10**12, 1000)):
        monkeypatch.setattr(streaming, "BLOCK_BYTES", allowed)
        assert stream.block_spec(3, *SIZES).num_updates == length


def test_what_fails_in_the_background_fails_the_run():
    stream = streamed()
    replicas = population(stream)
    stream.arrays.rewards = None
    with pytest.raises(TypeError):
        replicas.run(0, 1)
