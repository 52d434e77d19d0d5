"""Films show a new picture every few steps, for as long as those take."""

import types

import numpy as np
from PIL import Image

from envs.base import StepResult
from envs.ogbench.simulators import OGBenchFactory
from envs.vector.simulator import make_players
from experiments.training import run
from experiments.training.film import SKIP, every_few_steps

LENGTH = 2 * SKIP + 3


class Counting:
    """A white column moves on with every step; an episode ends after LENGTH of them."""

    def __init__(self):
        self.pictures = 0

    def reset(self, seed):
        self.steps = 0
        return np.zeros(1)

    def step(self, action):
        self.steps += 1
        return StepResult(np.zeros(1), 0.0, False, self.steps == LENGTH, False)

    def render(self):
        self.pictures += 1
        picture = np.zeros((8, 2 * LENGTH + 2, 3), np.uint8)
        picture[:, 2 * self.steps : 2 * self.steps + 2] = 255
        return picture

    def close(self):
        pass


def test_a_film_has_a_picture_every_few_steps_and_the_last(tmp_path):
    simulator = Counting()
    (player,) = make_players([every_few_steps(lambda: simulator)])
    player.reset(3, str(tmp_path / "film.gif"))
    player.play(np.zeros((LENGTH, 1)))
    assert simulator.pictures == 4  # of steps 0, SKIP, 2 SKIP and LENGTH
    with Image.open(tmp_path / "film.gif") as film:
        seen, durations = [], []
        for frame in range(film.n_frames):
            film.seek(frame)
            seen.append(int(np.asarray(film.convert("L"))[0].argmax()) // 2)
            durations.append(film.info["duration"])
    assert seen == [0, SKIP, 2 * SKIP, LENGTH]
    assert durations == [50 * SKIP, 50 * SKIP, 50 * 3, 50]
    player.reset(4, str(tmp_path / "again.gif"))
    assert simulator.pictures == 5


def test_evaluations_are_filmed_so(monkeypatch):
    """And simulators that film nothing are left as they are. A worker's further ones stay twins of its first."""
    made = []
    monkeypatch.setattr(run, "VectorSlots", lambda factories, *_, **__: made.append(factories[0]))
    from experiments import config as configuration

    for videos in (1, 0):
        settings = {"eval.video_episodes": videos}
        config = configuration.resolve(agent="bc", env="cube-single-task1", protocol="quick", settings=settings)
        run.make_slots(config, run.domain_of(config), [types.SimpleNamespace(task=1)])
    filmed, plain = made
    assert (type(filmed), type(plain)) == (type(every_few_steps(plain)), OGBenchFactory)
    assert filmed.kind != plain.kind
    first = filmed()
    twin = filmed.twin(first)
    assert twin.reset(3).tolist() == first.reset(3).tolist()
    for simulator in (twin, first):
        simulator.close()
