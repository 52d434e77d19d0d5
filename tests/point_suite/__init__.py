"""A small suite of its own: a point in a square that goes to one of three places. Everything is analytic.

It is the proof that a suite is one package and one line: tests/test_third_suite.py copies it beside the others. It
knows the rest of the project by `envs.base` alone.
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from envs.base import Arrays, DataError, Domain, Size, StepResult, Suite
from trqam_jax.console import Parser

GOALS = np.array([[0.5, 0.5], [-0.5, 0.5], [0.0, -0.6]], np.float32)  # of tasks 1 to 3
STEP, NEAR = 0.2, 0.5  # how far an action of length 1 goes, and how near to the goal is near enough
ROOM = Domain(
    suite="point",
    name="point-room",
    title="point-room-walk",
    task_title="point-room-walk-task{task}",
    observation_dim=2,
    action_dim=2,
    episode_limit=12,
    horizon=2,
    default_task=1,
    num_tasks=len(GOALS),
    benchmark=False,
)


def move(position: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Where an action leads; walls are at -1 and 1."""
    return np.clip(position + STEP * np.clip(action, -1, 1), -1, 1).astype(np.float32)


def solved(position: np.ndarray, task: int) -> np.ndarray:
    """Whether positions (..., 2) are near the task's goal."""
    return np.linalg.norm(position - GOALS[task - 1], axis=-1) < NEAR


class Point:
    """Fulfils `envs.base.Simulator`."""

    def __init__(self, domain: Domain, task: int):
        self._task, self._limit = task, domain.episode_limit

    def reset(self, seed: int) -> np.ndarray:
        self._position = np.random.default_rng(seed).uniform(-1, 1, 2).astype(np.float32)
        self._steps = 0
        return self._position

    def step(self, action: np.ndarray) -> StepResult:
        self._position, self._steps = move(self._position, action), self._steps + 1
        success = bool(solved(self._position, self._task))
        late = self._steps == self._limit
        return StepResult(self._position, 0.0 if success else -1.0, success, late, success)

    def render(self) -> np.ndarray:
        picture = np.full((32, 32, 3), 255, np.uint8)
        row, column = ((self._position + 1) * 15).astype(int)
        picture[row, column] = 0
        return picture

    def close(self) -> None:
        pass


def generate(path: pathlib.Path, episodes: int, seed: int) -> pathlib.Path:
    """Random walks as one file, unless it is there: positions (E, L + 1, 2) and actions (E, L, 2)."""
    if path.exists():
        return path
    rng, length = np.random.default_rng(seed), ROOM.episode_limit
    positions = np.zeros((episodes, length + 1, 2), np.float32)
    actions = rng.uniform(-1, 1, (episodes, length, 2)).astype(np.float32)
    positions[:, 0] = rng.uniform(-1, 1, (episodes, 2))
    for step in range(length):
        positions[:, step + 1] = move(positions[:, step], actions[:, step])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, positions=positions, actions=actions)
    return path


def read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """The positions and actions of a file."""
    try:
        with np.load(path) as file:
            return file["positions"], file["actions"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no walks, expected positions and actions ({error})") from error


def generate_command(argv: Sequence[str]) -> None:
    """python -m envs.generate --env=point-room."""
    parser = Parser(prog="python -m envs.generate")
    parser.add_argument("--env", required=True)
    parser.add_argument("--episodes", type=int, required=True)
    parser.add_argument("--out_dir", type=pathlib.Path, required=True)
    arguments = parser.parse_args(argv)
    path = generate(arguments.out_dir / "walks.npz", arguments.episodes, seed=0)
    print(f"{path}: {arguments.episodes * ROOM.episode_limit} transitions")


class PointSuite(Suite):
    name = "point"
    description = "a point in a square, for the tests"
    domains = {ROOM.name: ROOM}
    packages = ("numpy",)
    dataset_dir = "~/.point"
    commands = {"generate": generate_command}

    def env_factory(self, domain: Domain, task: int, *, render: bool = False) -> Callable[[], Point]:
        return functools.partial(Point, domain, task)

    def find(
        self,
        domain: Domain,
        dataset: str,
        dataset_dir: str,
        *,
        episodes: int,
        seed: int,
        shards: int,
        download: str,
    ) -> pathlib.Path:
        if dataset in ("auto", "generate"):
            return generate(pathlib.Path(dataset_dir).expanduser() / f"walks-{episodes}-{seed}.npz", episodes, seed)
        if not pathlib.Path(dataset).exists():
            raise DataError(f"{dataset}: no such file; the words auto and generate make one")
        return pathlib.Path(dataset)

    def fingerprint(self, path: pathlib.Path, shards: int) -> str:
        total = hashlib.sha256()
        for array in read(path):
            total.update(array.tobytes())
        return total.hexdigest()[:16]

    def measure(self, path: pathlib.Path, domain: Domain, *, shards: int, horizon: int) -> Size:
        episodes, length, _ = read(path)[1].shape
        if episodes * length < horizon:
            raise DataError(f"{path}: {episodes * length} transitions, expected a window of {horizon}")
        return Size(episodes * (length + 1), (0, episodes * length))

    def load(
        self, path: pathlib.Path, domain: Domain, tasks: list[int], horizon: int, *, sparse: bool, shards: int
    ) -> Arrays:
        positions, actions = read(path)
        episodes, length, _ = actions.shape
        near = [solved(positions[:, 1:], task).ravel() for task in tasks]
        number = np.arange(episodes * length)
        return Arrays(
            observations=positions.reshape(-1, 2),
            actions=actions.reshape(-1, 2),
            rows=(number + number // length).astype(np.int32),
            terminals=(number + 1) % length == 0,
            rewards=[np.where(own, 0, -1).astype(np.float32) for own in near],
            masks=[(~own).astype(np.float32) for own in near],
            bounds=(0, episodes * length),
        )

    def settings(self, domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
        return {"agent.discount": 0.9}

    def notes(self, domain: Domain, protocol: str, agent: str) -> dict[str, str]:
        return {"agent.discount": "episodes have twelve steps"}


SUITE = PointSuite()
