"""What test_simulators.py says of one domain of each kind, of every domain; and pictures."""

import os
import pathlib
import subprocess
import sys

import pytest
import simulator_checks

from envs.ogbench import SUITE

ROOT = pathlib.Path(__file__).parents[3]
ALL_TASKS = {"scene", "puzzle-4x4", "cube-double", "antmaze-giant", "pointmaze-teleport"}


def tasks(name):
    return [1, 2, 3, 4, 5] if name in ALL_TASKS else [2, 5]


@pytest.mark.parametrize("name", SUITE.domains)
def test_twins_play_as_if_alone(name):
    simulator_checks.assert_twins_play_as_if_alone(name, tasks(name))


@pytest.mark.parametrize("name", SUITE.domains)
def test_nothing_else_is_written(name):
    simulator_checks.assert_nothing_else_is_written(name, [1, 2, 3, 4, 5])


PICTURES = """
import sys
import numpy as np
from envs.ogbench import SUITE
from trqam_jax.errors import UserError

for name in ("cube-single", "antmaze-large"):
    domain = SUITE.domains[name]
    one, two = SUITE.env_factory(domain, 1, render=True), SUITE.env_factory(domain, 4, render=True)
    try:
        alone = [make() for make in (one, two)]
        first = one()
        first.reset(0)
        first.render()
    except UserError as error:
        sys.exit(f"error: {error}")
    together = [first, two.twin(first)]
    for simulators in (alone, together):
        for seed, simulator in enumerate(simulators):
            simulator.reset(seed)
    for _ in range(3):
        for simulator in (*alone, *together):
            simulator.step(np.full(domain.action_dim, 0.5))
        pictures = [simulator.render() for simulator in (*alone, *together)]
        np.testing.assert_array_equal(pictures[:2], pictures[2:])
        assert (pictures[0] != pictures[1]).any()
    quality = first.env.unwrapped.model.vis.quality
    assert quality.shadowsize == quality.offsamples == 0
"""


def test_twins_pictures_are_their_own():
    gl = {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")}
    command = [sys.executable, "-c", PICTURES]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | gl, capture_output=True, text=True)
    if run.stderr.startswith("error: videos: nothing can be rendered here"):
        pytest.skip(run.stderr)
    assert run.returncode == 0, run.stderr
