"""Run by test_replicas.py in a process that has four host devices."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny

import agents
from trqam_jax import streaming
from trqam_jax.replicas import Population, create_replicas
from trqam_jax.streams import stack_streams
from trqam_jax.update_loop import ReplicaData, SamplingConfig

assert len(jax.devices()) == 4
seeds, data, tasks = [1, 2, 3, 4, 5, 6], tiny.dataset(), jnp.array([0, 1, 0, 1, 0, 1])


def trained(count, per_pass, data=data):
    """(devices that hold the parameters, parameters, totals) after three updates."""
    streams = stack_streams(seeds[:count], "offline")
    made = create_replicas(agents.AGENTS["trqam"], streams.init, tiny.SPEC, tiny.config("trqam"))
    replicas = Population(
        made, ReplicaData(data, tasks[:count]), streams, SamplingConfig(batch_size=16), per_pass=per_pass
    )
    replicas.run(0, 1)
    replicas.run(1, 2)
    params = replicas.agents.train.params
    return {len(x.sharding.device_set) for x in jax.tree.leaves(params)}, params, replicas.totals


spread, params, totals = trained(4, 0)  # the suite's own choice: one replica on each device
assert spread == {4}, spread
_, alone, alone_totals = trained(4, 1)
tiny.assert_trees_close(jax.device_get(params), jax.device_get(alone), rtol=1e-3)
np.testing.assert_array_equal(totals.count, alone_totals.count)
spread, six, _ = trained(6, 6)  # six do not divide by four: three devices take two each
assert spread == {3}, spread
first_four = jax.tree.map(lambda x: np.asarray(x)[:4], six)
tiny.assert_trees_close(first_four, jax.device_get(alone), rtol=1e-3)
spread, three, _ = trained(3, 2)  # two passes: of one replica, and of two on as many devices
assert spread == {1}, spread
first_three = jax.tree.map(lambda x: np.asarray(x)[:3], alone)
tiny.assert_trees_close(jax.device_get(three), first_three, rtol=1e-3)
spread, streamed, _ = trained(4, 0, streaming.Stream(tiny.on_host(data), most_updates=2))
assert spread == {4}, spread
jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), jax.device_get(streamed))
