"""OGBench's simulators played in turns and alone, with all that could differ; what they write to a compiled model."""

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from envs.base import Domain
from envs.ogbench import SUITE
from envs.ogbench.simulators import OGBenchSimulator
from envs.ogbench.twins import WRITTEN, model_of
from envs.vector.simulator import Player, make_players

LIMIT = 20  # environment steps of an episode, so that some end
STEPS = 3  # of a turn
TURNS = 10
LATER = 4  # turn at which a twin is made, and another simulator closed


def shortened(name: str) -> Domain:
    return SUITE.domains[name]._replace(episode_limit=LIMIT)


def disturb(simulator: OGBenchSimulator) -> None:
    """What random actions hardly ever do: press a button, and move drawer and window, which buttons lock."""
    inner = simulator.env.unwrapped
    if hasattr(inner, "_cur_button_states"):
        inner._cur_button_states[0] ^= 1
    for joint in ("drawer_slide", "window_slide"):
        if hasattr(inner, f"_{joint.removesuffix('_slide')}_site_id"):
            inner._data.joint(joint).qvel[0] = -0.5


def look(simulator: OGBenchSimulator) -> dict[str, np.ndarray]:
    """The state of a simulator whose turn it is, and of what is written to its model."""
    inner, model = simulator.env.unwrapped, model_of(simulator.env)
    data = inner._data if hasattr(inner, "_data") else inner.data
    found = {name: getattr(model, name).copy() for name in WRITTEN}
    for name in ("qpos", "qvel", "ctrl", "qacc_warmstart", "mocap_pos", "cfrc_ext", "site_xpos"):
        found[name] = getattr(data, name).copy()
    return found


def turns(player: Player, domain: Domain, seed: int) -> Iterator[Any]:
    """Play on by a turn, starting episodes where they have ended, and tell all of it."""
    rng = np.random.default_rng(seed)
    assert isinstance(player.simulator, OGBenchSimulator)
    for turn in range(TURNS):
        if turn == 0 or player.outcome is not None:
            start = player.reset(seed + turn)
            yield start, look(player.simulator)
        disturb(player.simulator)
        steps = player.play(rng.uniform(-1, 1, (STEPS, domain.action_dim)).astype(np.float32))
        yield steps, player.outcome, look(player.simulator)


def alone(domain: Domain, task: int, seed: int) -> list[Any]:
    """A simulator built for that task, and only that."""
    (player,) = make_players([SUITE.env_factory(domain, task)])
    told = list(turns(player, domain, seed))
    player.close()
    return told


def assert_twins_play_as_if_alone(name: str, tasks: list[int]) -> None:
    """Twins of several tasks in turns, one made and another one closed in mid-episode."""
    domain = shortened(name)
    players = make_players([SUITE.env_factory(domain, task) for task in tasks])
    assert len({id(model_of(player.simulator.env)) for player in players}) == 1
    running = {seed: turns(player, domain, seed) for seed, player in enumerate(players)}
    told: dict[int, list[Any]] = {seed: [] for seed in running}
    while running:
        if len(told[0]) == LATER:
            seed = len(told)
            latest = Player(SUITE.env_factory(domain, tasks[-1]).twin(players[1].simulator))
            running[seed], told[seed] = turns(latest, domain, seed), []
            del running[0]
            players[0].close()
            told[0].append("closed")
        for seed, play in list(running.items()):
            try:
                told[seed].append(next(play))
            except StopIteration:
                del running[seed]
    assert told[0].pop() == "closed"
    for seed, task in enumerate([*tasks, tasks[-1]]):
        expected = alone(domain, task, seed)
        assert len(told[seed]) == (LATER if seed == 0 else len(expected))
        for a, b in zip(told[seed], expected, strict=False):
            np.testing.assert_equal(a, b)


def _stored(model: Any) -> bytes:
    """All of a compiled model."""
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def assert_nothing_else_is_written(name: str, tasks: list[int]) -> None:
    """Episodes change a compiled model only where `WRITTEN` says."""
    domain = shortened(name)
    (player,) = make_players([SUITE.env_factory(domain, tasks[0])])
    model, inner = model_of(player.simulator.env), player.simulator.env.unwrapped
    built, values = _stored(model), {key: getattr(model, key).copy() for key in WRITTEN}
    arm = inner._ik._model if hasattr(inner, "_ik") else None
    arm_built = None if arm is None else _stored(arm)
    for task in tasks:
        player.simulator.set_task(task)
        for _ in turns(player, domain, task):
            pass
    for key, value in values.items():
        getattr(model, key)[:] = value
    assert _stored(model) == built
    assert arm is None or _stored(arm) == arm_built
    player.close()
