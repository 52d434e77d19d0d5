"""Simulators on one compiled model play as simulators built one by one, to the bit; and episodes follow from seeds."""

import mujoco
import numpy as np
import pytest
import simulator_checks

from envs.ogbench import SUITE
from envs.ogbench.simulators import OGBenchSimulator

KINDS = ["cube-single", "antmaze-large", "humanoidmaze-medium", "pointmaze-teleport"]


@pytest.mark.parametrize("name", KINDS)
def test_twins_play_as_if_alone(name):
    simulator_checks.assert_twins_play_as_if_alone(name, [1, 4])


@pytest.mark.parametrize("name", KINDS)
def test_nothing_else_is_written(name):
    simulator_checks.assert_nothing_else_is_written(name, [1, 4])


def test_the_checks_see_what_is_written(monkeypatch):
    monkeypatch.setattr("simulator_checks.WRITTEN", ("geom_rgba",))
    with pytest.raises(AssertionError):
        simulator_checks.assert_nothing_else_is_written("antmaze-large", [1, 4])


def test_the_checks_see_a_model_that_is_not_taken_in_turns(monkeypatch):
    monkeypatch.setattr("envs.ogbench.twins.Turns.take", lambda self, own: None)
    with pytest.raises(AssertionError, match="not equal"):
        simulator_checks.assert_twins_play_as_if_alone("antmaze-large", [1, 4])


def test_a_start_follows_from_its_seed_with_all_that_is_hidden():
    """Reset takes random steps. Where the solver starts from is their only trace, and shows in the last digits."""
    simulator = OGBenchSimulator(SUITE.domains["cube-single"], 1)
    for seed in range(3):
        simulator.reset(seed)
        first = simulator_checks.look(simulator)
        simulator.step(np.ones(5))
        simulator.reset(seed)
        np.testing.assert_equal(simulator_checks.look(simulator), first)


def test_no_meshes_are_kept_for_further_compilations():
    OGBenchSimulator(SUITE.domains["cube-single"], 1)
    assert mujoco.mj_getCacheSize(mujoco.mj_getCache()) == 0
