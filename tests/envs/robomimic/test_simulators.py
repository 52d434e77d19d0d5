"""Robomimic's simulators: robosuite's own numbers, episodes that follow from the seed, recorded states and replays."""

import functools
import os
import pathlib
import subprocess
import sys

import needs
import numpy as np
import pytest

from envs.robomimic.domains import DOMAINS, ENV_NAMES, observation_widths
from envs.robomimic.generate import collect
from envs.robomimic.simulators import PICTURE_SIZE, RobomimicSimulator, env_args, flat, named
from envs.vector.slots import VectorSlots

pytestmark = needs.robosuite
ROOT = pathlib.Path(__file__).parents[3]
LIFT = DOMAINS["robomimic-lift"]
every_domain = pytest.mark.parametrize("simulator", list(DOMAINS), indirect=True)


@functools.cache
def made(name):
    return RobomimicSimulator(DOMAINS[name], 1)


@pytest.fixture
def simulator(request):
    """One of each task, used by one test after the other."""
    return made(request.param)


@pytest.fixture(scope="module", autouse=True)
def close_all():
    yield
    for name in ENV_NAMES:
        made(name).close()
    made.cache_clear()


def random_actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7))


def rotation(quaternion):
    """(3, 3), of x, y, z, w."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


# ---- observations


@every_domain
def test_the_first_observation_is_of_the_state(simulator):
    """Its parts agree with each other and with the simulator; what reset itself returns has no relative values."""
    simulator.reset(3)
    seen = simulator.observations
    assert {key: len(value) for key, value in seen.items()} == observation_widths(simulator_domain(simulator))
    data, thing = simulator.env.sim.data, seen["object"]
    np.testing.assert_allclose(seen["robot0_eef_pos"], data.get_site_xpos("gripper0_right_grip_site"), atol=1e-12)
    if len(thing) == 10:  # position, turn, from the gripper to it in the world's frame
        np.testing.assert_allclose(abs(thing[7:]), abs(thing[:3] - seen["robot0_eef_pos"]), atol=1e-9)
    else:  # position and turn in the gripper's frame, then in the world's
        from_gripper = thing[7:10] - seen["robot0_eef_pos"]
        turn = rotation(seen["robot0_eef_quat"])
        np.testing.assert_allclose(thing[:3], turn.T @ from_gripper, atol=1e-7)
        np.testing.assert_allclose(abs(rotation(thing[3:7])), abs(turn.T @ rotation(thing[10:])), atol=1e-6)
    assert np.abs(thing[:3]).min() > 1e-4


def simulator_domain(simulator):
    (name,) = [name for name in DOMAINS if ENV_NAMES[name] == type(simulator.env).__name__]
    return DOMAINS[name]


@every_domain
def test_steps_are_robosuites_own_to_the_bit(simulator):
    actions = random_actions(12)
    np.random.seed(5)  # noqa: NPY002
    simulator.env.reset()
    theirs = [flat(named(simulator.env.step(action)[0])) for action in actions]
    simulator.reset(5)
    np.testing.assert_array_equal([simulator.step(action).observation for action in actions], theirs)


def test_the_environment_is_made_as_v15_files_say():
    found = env_args(LIFT)
    assert (found["env_name"], found["env_version"], found["type"]) == ("Lift", "1.5.1", 1)
    env = made("robomimic-lift").env
    assert (env.control_freq, env.reward_shaping, env.lite_physics, env.hard_reset) == (20, False, False, True)
    arm = env.robots[0].composite_controller.part_controllers["right"]
    assert (arm.name, arm.input_type, arm.input_ref_frame, arm.impedance_mode) == (
        "OSC_POSE",
        "delta",
        "world",
        "fixed",
    )
    np.testing.assert_array_equal(arm.output_max, [0.05] * 3 + [0.5] * 3)
    np.testing.assert_array_equal(arm.kp, 150)


# ---- episodes

EPISODE = """
import hashlib, sys
import numpy as np
from envs.robomimic.domains import DOMAINS
from envs.robomimic.simulators import RobomimicSimulator

for domain in DOMAINS.values():
    simulator = RobomimicSimulator(domain, 1)
    for _ in range(int(sys.argv[1])):
        simulator.reset(9)
        for action in np.random.default_rng(1).uniform(-1, 1, (7, 7)):
            simulator.step(action)
    digest = hashlib.sha256(simulator.reset(4))
    for action in np.random.default_rng(0).uniform(-1, 1, (25, 7)):
        digest.update(simulator.step(action).observation)
    digest.update(simulator.env.sim.get_state().flatten())
    simulator.close()
    print(domain.name, digest.hexdigest())
"""


def test_an_episode_follows_from_its_seed_in_every_process():
    """Whatever was played before; and quietly."""

    def played(before, gl):
        environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"} | gl
        command = [sys.executable, "-c", EPISODE, str(before)]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr) == (0, "")
        return run.stdout.splitlines()

    digests = played(0, {})
    assert [line.split()[0] for line in digests] == list(DOMAINS)
    assert played(2, {"MUJOCO_GL": "disabled"}) == digests


@every_domain
def test_seeds_differ(simulator):
    first, second, again = (simulator.reset(seed) for seed in (1, 2, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.01


def test_the_cubes_size_is_of_the_seed():
    simulator, sizes = made("robomimic-lift"), []
    for seed in (1, 2, 1):
        simulator.reset(seed)
        model = simulator.env.sim.model
        sizes.append(np.array(model.geom_size[model.geom_name2id("cube_g0")]))
    np.testing.assert_array_equal(sizes[0], sizes[2])
    assert (sizes[0] != sizes[1]).any()


def test_time_ends_an_episode_and_not_the_task():
    simulator = RobomimicSimulator(LIFT._replace(episode_limit=4), 1)
    for _ in range(2):
        simulator.reset(0)
        results = [simulator.step(np.zeros(7)) for _ in range(4)]
        assert [result.truncated for result in results] == [False, False, False, True]
        assert {(result.reward, result.terminated, result.success) for result in results} == {(-1.0, False, False)}
    simulator.close()


def test_closing_frees_the_simulation():
    simulator = RobomimicSimulator(LIFT, 1)
    simulator.close()
    assert simulator.env.sim is None


# ---- recorded states


@functools.cache
def recorded(name, number=0):
    return collect(made(name), domain=name, seed=0, failures="drop", episode=number)


def seen_at(episode, step):
    return flat({key: value[step] for key, value in episode["observations"].items()})


def replay(simulator, episode):
    """The results of the recorded actions, up to success."""
    results = []
    for action in episode["actions"]:
        results.append(simulator.step(action))
        if results[-1].terminated:
            break
    return results


@every_domain
def test_replays_of_recorded_actions_succeed(simulator):
    """From the recorded first state, whatever the simulator did before. The recorded scene has fewer digits than the
    simulated one, and contacts make much of that: of three demonstrations one must succeed."""
    for number in range(3):
        episode = recorded(simulator_domain(simulator).name, number)
        simulator.reset(77)
        first = simulator.set_state(episode["model_file"], episode["states"][0])
        np.testing.assert_allclose(first, seen_at(episode, 0), atol=1e-5)
        results = replay(simulator, episode)
        early = [result.observation for result in results[:10]]
        np.testing.assert_allclose(early, [seen_at(episode, step) for step in range(1, 11)], atol=1e-3)
        assert {(result.success, result.reward) for result in results[:-1]} == {(False, -1.0)}
        if results[-1].success:
            break
    assert (results[-1].success, results[-1].reward, results[-1].truncated) == (True, 0.0, False)
    assert len(results) > len(episode["actions"]) - 5


@every_domain
def test_a_state_in_mid_episode_is_set(simulator):
    episode = recorded(simulator_domain(simulator).name)
    middle = len(episode["actions"]) // 2
    observation = simulator.set_state(episode["model_file"], episode["states"][middle])
    np.testing.assert_allclose(simulator.env.sim.get_state().flatten(), episode["states"][middle])
    np.testing.assert_allclose(observation[:9], seen_at(episode, middle)[:9], atol=5e-3)  # recorded: 2 ms before


def test_the_time_starts_anew_with_a_set_state():
    episode = recorded("robomimic-lift")
    simulator = RobomimicSimulator(LIFT._replace(episode_limit=2), 1)
    for _ in range(2):
        simulator.set_state(episode["model_file"], episode["states"][0])
        assert [simulator.step(np.zeros(7)).truncated for _ in range(2)] == [False, True]
    simulator.close()


# ---- in worker processes, and pictures


def test_workers_play_what_is_played_here():
    """Three episodes in two slots; chunks of 5 against a limit of 12 steps."""
    short = LIFT._replace(episode_limit=12)
    factory, seeds = functools.partial(RobomimicSimulator, short, 1), np.array([[11, 12, 13]])
    chunk, ends = random_actions(5), {}
    with VectorSlots([factory], short.observation_dim, 3, workers=2) as slots:
        slots.begin(seeds)
        while (turn := slots.wait()) is not None:
            group, observations, episodes, decisions = turn
            for episode, decision, observation in zip(episodes[0], decisions[0], observations[0], strict=True):
                ends[int(episode), int(decision)] = observation
            slots.play(group, np.broadcast_to(chunk, (1, episodes.shape[1], 5, 7)))
        results = slots.results()
    np.testing.assert_array_equal(results["length"], [[12, 12, 12]])
    np.testing.assert_array_equal(results["return"], [[-12, -12, -12]])
    simulator = made("robomimic-lift")
    for episode, seed in enumerate(seeds[0]):
        np.testing.assert_array_equal(ends[episode, 0], simulator.reset(int(seed)))
        for action in chunk:
            observation = simulator.step(action).observation
        np.testing.assert_array_equal(ends[episode, 1], observation)


PICTURE = """
import sys
import numpy as np
from envs.robomimic.domains import DOMAINS
from envs.robomimic.simulators import RobomimicSimulator
from trqam_jax.errors import UserError

try:
    simulator = RobomimicSimulator(DOMAINS["robomimic-lift"], 1, render=True)
    simulator.reset(0)
    picture = simulator.render()
    simulator.close()
except UserError as error:
    sys.exit(f"error: {error}")
print(picture.shape, picture.dtype, len(np.unique(picture)) > 50)
"""


@pytest.mark.parametrize("gl", ["egl", "osmesa"])
def test_a_picture_or_one_line_that_says_why_not(gl):
    run = subprocess.run(
        [sys.executable, "-c", PICTURE], cwd=ROOT, env={**os.environ, "MUJOCO_GL": gl}, capture_output=True, text=True
    )
    if run.returncode == 0:
        assert run.stdout == f"({PICTURE_SIZE}, {PICTURE_SIZE}, 3) uint8 True\n"
    else:
        reasons = "error: videos: nothing can be rendered here (", f"error: MUJOCO_GL={gl}: mujoco cannot be imported"
        assert run.stderr.startswith(reasons)
        assert run.stderr.count("\n") == 1
