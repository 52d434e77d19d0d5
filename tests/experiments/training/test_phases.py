"""Online acting, without a simulator."""

import types

import numpy as np
import tiny

from experiments.training.phases import Online
from trqam_jax.streams import stack_streams
from trqam_jax.update_loop import SamplingConfig


def decided(seeds, steps, rules):
    """Chunks (R, H, A) of replicas at these steps, whose policies answer zeros."""
    zeros = lambda function, *rows: np.zeros((len(seeds), 1, tiny.SPEC.horizon, tiny.SPEC.action_dim))
    population = types.SimpleNamespace(spec=tiny.SPEC, map_replicas=zeros)
    actors = types.SimpleNamespace(begin=lambda entropy: np.zeros((len(seeds), tiny.SPEC.observation_dim)))
    online = Online(population, actors, list(seeds), stack_streams(list(seeds), "online"), rules, None)
    online._begin(0)
    online._decide(np.asarray(steps))
    return online._chunks


def test_whether_a_replica_acts_at_random_is_its_own_affair():
    """Balanced sampling acts at random until start_training: the steps of a replica count, not its neighbours'."""
    rules = SamplingConfig(8, start_training=5, balanced=True)
    together = decided([1, 2, 3], [5, 4, 4], rules)
    assert (together[0] == 0).all()
    assert (together[1] != 0).all()
    assert np.abs(together).max() <= 1
    assert (together[1] != together[2]).all()
    for r, (seed, step) in enumerate([(1, 5), (2, 4), (3, 4)]):
        np.testing.assert_array_equal(decided([seed], [step], rules)[0], together[r])
    assert (decided([1, 2], [0, 0], SamplingConfig(8, start_training=5)) == 0).all()
