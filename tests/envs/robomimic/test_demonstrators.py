"""Scripted demonstrators: every style solves its task, within the actions' bounds and reproducibly."""

import needs
import numpy as np
import pytest

from envs.robomimic.demonstrators import STYLES, demonstrate
from envs.robomimic.domains import DOMAINS
from envs.robomimic.simulators import RobomimicSimulator

NAMES = [style.name for style in STYLES]


def play(simulator, domain, style, seed):
    """(whether it succeeded, its actions), of a demonstrator that goes on until the time is over."""
    simulator.reset(seed)
    rng = np.random.default_rng(seed)
    actions = []
    for action in demonstrate(domain, simulator, style.drawn(rng), rng):
        actions.append(action)
        result = simulator.step(action)
        if result.success or result.truncated:
            break
    return result.success, np.array(actions)


@pytest.fixture(scope="module")
def lift():
    simulator = RobomimicSimulator(DOMAINS["robomimic-lift"], 1)
    yield simulator
    simulator.close()


@needs.robosuite
@pytest.mark.parametrize("style", STYLES, ids=NAMES)
def test_every_style_lifts(lift, style):
    success, actions = play(lift, "robomimic-lift", style, 0)
    assert success
    assert actions.dtype == np.float32
    assert actions.shape[1] == 7
    assert np.abs(actions).max() <= 1
    assert set(np.unique(actions[:, 6])) == {-1, 1}
    again = play(lift, "robomimic-lift", style, 0)[1]
    np.testing.assert_array_equal(again, actions)
    assert not np.array_equal(play(lift, "robomimic-lift", style, 1)[1][0], actions[0])


@needs.robosuite
def test_styles_do_different_things_in_the_same_state(lift):
    """Their first actions are further apart than one style's on two seeds of its noise."""

    def first(style, seed):
        lift.reset(0)
        return next(demonstrate("robomimic-lift", lift, style, np.random.default_rng(seed)))[:3]

    own = [first(STYLES[0], seed) for seed in range(5)]
    others = [first(style, 0) for style in STYLES[1:]]
    spread = max(np.linalg.norm(one - own[0]) for one in own)
    assert max(np.linalg.norm(one - own[0]) for one in others) > 2 * spread


@needs.robosuite
@pytest.mark.parametrize(("name", "style"), [("robomimic-can", "sweeping"), ("robomimic-square", "steady")])
def test_can_and_square(name, style):
    simulator = RobomimicSimulator(DOMAINS[name], 1)
    assert any(play(simulator, name, STYLES[NAMES.index(style)], seed)[0] for seed in (0, 1))
    simulator.close()


@pytest.mark.parametrize("style", STYLES, ids=NAMES)
def test_an_episodes_style_is_near_its_middle(style):
    drawn = [style.drawn(np.random.default_rng(seed)) for seed in range(50)]
    for key in ("speed", "care", "noise", "hover"):
        values = np.array([getattr(one, key) for one in drawn])
        assert (values >= 0.75 * getattr(style, key)).all()
        assert (values <= 1.25 * getattr(style, key)).all()
        assert len(np.unique(values)) > 10
    assert max(one.speed for one in drawn) <= 1
    for key in ("detour", "turn"):
        sides = {np.sign(getattr(one, key)) for one in drawn}
        assert sides == ({-1.0, 1.0} if getattr(style, key) else {0.0})
