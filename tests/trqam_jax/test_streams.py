"""Random streams."""

import jax
import numpy as np

from trqam_jax.streams import make_streams, named, stack_streams


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
