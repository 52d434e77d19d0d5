"""Datasets in OGBench's format, made with OGBench's own oracles: no download and no trained expert.

    python -m envs.generate --env=cube-single --episodes=60 --seed=0 --out_dir=data

Episode e of a file is a function of (domain, seed, e, episode steps) alone: neither the number of workers, nor the
time, nor what a simulator did before changes a byte, so a longer file begins with the episodes of a shorter one. Other
versions of MuJoCo or numpy, or another kind of processor, may round differently; a file names its versions.

Departures from OGBench's own sets: actions are rounded to float32 before they are executed, so that the file holds
what the simulator did, and a new goal of a maze is set by its coordinates, because OGBench 1.2.2 places the marker at
NaN when given the cell. pointmaze-teleport keeps OGBench's walled-in room: an episode that is sent there stays there.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from envs.generation import GenerationError, check_at_least, make_once, play_all
from envs.ogbench import simulators
from envs.ogbench.download import UNREADABLE
from envs.vector.workers import cpu_count
from trqam_jax.console import Parser
from trqam_jax.errors import UserError, suggest
from trqam_jax.files import expand, replacing

#: domain -> the kind of data
GENERATABLE: Mapping[str, str] = {
    **dict.fromkeys(("cube-single", "cube-double", "cube-triple", "cube-quadruple", "scene"), "play"),
    **dict.fromkeys(("puzzle-3x3", "puzzle-4x4", "puzzle-4x5", "puzzle-4x6"), "play"),
    **dict.fromkeys(("pointmaze-medium", "pointmaze-large", "pointmaze-giant", "pointmaze-teleport"), "navigate"),
}
NEEDS_EXPERT = ("antmaze", "humanoidmaze", "antsoccer")
VERSION = 1  # raise it when equal settings no longer give equal bytes

NOISE = {
    "play": {"segment_dt": 0.4, "noise": 0.1, "noise_smoothing": 0.5},  # of the plans: s, fraction of range, steps
    "navigate": {"direction_noise": 0.5},  # standard deviation, on a direction of length 1
}
P_STACK = {  # (low, high) of the probability that a cube's target is on top of another; drawn once per episode
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
}
MAX_ATTEMPTS = 100  # at one episode, should it be thrown away
DTYPES = {"terminals": bool, "button_states": np.int64}  # all else float32


def generate(
    domain: str,
    *,
    episodes: int,
    seed: int = 0,
    out_dir: str | os.PathLike,
    workers: int | None = None,
    progress: bool = True,
    episode_steps: int | None = None,
) -> pathlib.Path:
    """Write {domain}-{kind}-v0.npz and its -val.npz into out_dir; returns the first.

    Validation is another max(1, episodes // 10) episodes, those that follow the training ones. workers: one per
    processor by default; 1 plays in this process. episode_steps: OGBench's by default, 1001 (giant mazes 2001).
    Files that are there already are kept if they were made with these settings, by whatever versions; otherwise
    UserError. A script that calls this needs `if __name__ == "__main__":`, as worker processes import it again.
    """
    domain = parse(domain)
    steps = episode_steps if episode_steps is not None else 2001 if domain == "pointmaze-giant" else 1001
    if workers is None:
        workers = cpu_count()
    check_at_least(episodes=(episodes, 1), seed=(seed, 0), workers=(workers, 1), episode_steps=(steps, 2))
    settings = _settings(domain, int(episodes), int(seed), int(steps))
    train, val = _paths(domain, out_dir)

    def make() -> None:
        played = play_all(
            _stem(domain),
            functools.partial(make_env, domain, steps),
            functools.partial(collect, domain=domain, seed=seed),
            episodes + _num_validation(episodes),
            workers=workers,
            progress=progress,
        )
        _write({val: played[episodes:], train: played[:episodes]}, settings)

    make_once([train, val], settings, provenance, make)
    return train


def parse(name: str) -> str:
    """The domain in cube-single, cube-single-play-v0 or cube-single-play-singletask-task1-v0; UserError otherwise."""
    match = re.fullmatch(r"(.+?)(?:-(play|navigate))?(?:-singletask)?(?:-task\d+)?(?:-v0)?", name)
    domain, kind = match.groups() if match else (name, None)
    if domain.startswith(NEEDS_EXPERT):
        choices = ", ".join(GENERATABLE)
        raise UserError(f"{domain!r} cannot be generated: its data need a trained expert. Choices: {choices}.")
    if domain not in GENERATABLE:
        raise UserError(f"Unknown domain {domain!r}.{suggest(domain, GENERATABLE)}")
    if kind not in (None, GENERATABLE[domain]):
        raise UserError(f"{name!r}: {domain} has {GENERATABLE[domain]!r} data, not {kind!r}.")
    return domain


def provenance(path: str | os.PathLike) -> dict[str, Any] | None:
    """How a dataset file was made, or None if it does not say (OGBench's own do not)."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return json.loads(str(arrays["provenance"])) if "provenance" in arrays else None
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable npz, truncated or damaged ({error}).") from error


def make_env(domain: str, episode_steps: int) -> Any:
    """The simulator OGBench collects with: no task, and no end but the time limit."""
    mode = {"mode": "data_collection"} if GENERATABLE[domain] == "play" else {}
    return simulators.make(f"{domain}-v0", max_episode_steps=episode_steps, terminate_at_goal=False, **mode)


def collect(env: Any, domain: str, seed: int, episode: int) -> dict[str, np.ndarray]:
    """One episode: observations (L, O), actions (L, A), terminals (L,), qpos, qvel, and button_states where there are.

    Row t holds the state before action t; only the last row is terminal. Seeds numpy's global generator.
    """
    for attempt in range(MAX_ATTEMPTS):
        of_env, of_globals, of_expert = np.random.SeedSequence(seed, spawn_key=(episode, attempt)).spawn(3)
        env_seed = int(of_env.generate_state(1, np.uint64)[0])
        np.random.seed(of_globals.generate_state(4))  # noqa: NPY002  (the plan oracles and the mazes draw from it)
        env.unwrapped.action_space.seed(env_seed)  # mazes take random actions in reset
        play = _play if GENERATABLE[domain] == "play" else _navigate
        rows = list(play(env, domain, np.random.default_rng(of_expert), env_seed))
        if rows[-1]["terminals"]:
            return {key: np.asarray([row[key] for row in rows], DTYPES.get(key, np.float32)) for key in rows[0]}
    raise GenerationError(f"episode {episode} of seed {seed} was thrown away {MAX_ATTEMPTS} times")


def _play(env: Any, domain: str, rng: np.random.Generator, env_seed: int) -> Iterator[dict[str, Any]]:
    """Rows of an episode of noisy plans, one random target after another; broken off if scene's block gets lost."""
    oracles = _oracles(env, domain)
    p_stack = rng.uniform(*P_STACK.get(domain, (0.5, 0.5)))
    observation, info = env.reset(seed=env_seed)
    oracle, done = None, False
    while not done:
        if oracle is None or oracle.done:
            if oracle is not None:
                observation, info = env.unwrapped.set_new_target(p_stack=p_stack)
            oracle = oracles[info["privileged/target_task"]]
            oracle.reset(observation, info)
        observation, info, row = _step(env, observation, oracle.select_action(observation, info))
        done = row["terminals"]
        yield row
        y, z = info["qpos"][15:17]  # of the block, metres; behind the right edge it must lie in the drawer
        if domain == "scene" and (y >= 0.29 or (y <= -0.3 and not 0.06 < z < 0.08)):
            return


def _oracles(env: Any, domain: str) -> dict[str, Any]:
    """The planner of each kind of target."""
    from ogbench.manipspace.oracles.plan import button_plan, cube_plan, drawer_plan, window_plan

    settings = dict(env=env, **NOISE["play"])
    return {
        "cube": cube_plan.CubePlanOracle(**settings),
        "button": button_plan.ButtonPlanOracle(gripper_always_closed=domain.startswith("puzzle"), **settings),
        "drawer": drawer_plan.DrawerPlanOracle(**settings),
        "window": window_plan.WindowPlanOracle(**settings),
    }


def _navigate(env: Any, domain: str, rng: np.random.Generator, env_seed: int) -> Iterator[dict[str, Any]]:
    """Rows of an episode of noisy shortest paths; a new goal whenever one is reached."""
    maze = env.unwrapped
    walls = maze.maze_map != 0
    up, down, left, right = (np.roll(walls, shift, axis) for axis in (0, 1) for shift in (1, -1))
    is_corridor = (up & down & ~left & ~right) | (left & right & ~up & ~down)
    goals = np.argwhere(~walls & ~is_corridor)
    task = {"init_ij": tuple(rng.choice(np.argwhere(~walls))), "goal_ij": tuple(rng.choice(goals))}
    observation, _ = env.reset(seed=env_seed, options={"task_info": task})
    done = False
    while not done:
        way = maze.get_oracle_subgoal(maze.get_xy(), maze.cur_goal_xy)[0] - maze.get_xy()
        noise = rng.normal(0, NOISE["navigate"]["direction_noise"], 2)
        observation, info, row = _step(env, observation, way / (np.linalg.norm(way) + 1e-6) + noise)
        done = row["terminals"]
        yield row
        if info["success"]:
            maze.set_goal(goal_xy=maze.add_noise(maze.ij_to_xy(rng.choice(goals))))


def _step(env: Any, observation: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """The next observation, the step's info, and the row of the state before it."""
    action = np.clip(action, -1, 1).astype(np.float32)
    following, _, terminated, truncated, info = env.step(action)
    row = {"observations": observation, "actions": action, "terminals": terminated or truncated}
    state = {key: info[f"prev_{key}"] for key in ("qpos", "qvel", "button_states") if f"prev_{key}" in info}
    return following, info, row | state


def _settings(domain: str, episodes: int, seed: int, episode_steps: int) -> dict[str, Any]:
    """The content of provenance; nothing in it depends on the machine or the time."""
    kind = GENERATABLE[domain]
    settings = dict(domain=domain, kind=kind, episodes=episodes, episode_steps=episode_steps, seed=seed)
    versions = {name: importlib.metadata.version(name) for name in ("mujoco", "numpy", "ogbench")}
    return dict(generator="trqam_jax envs.generate", version=VERSION, **settings, noise=NOISE[kind], versions=versions)


def _stem(domain: str) -> str:
    return f"{domain}-{GENERATABLE[domain]}-v0"


def _num_validation(episodes: int) -> int:
    return max(1, episodes // 10)


def _paths(domain: str, out_dir: str | os.PathLike) -> tuple[pathlib.Path, pathlib.Path]:
    """The training and the validation file."""
    folder, stem = expand(out_dir), _stem(domain)
    return folder / f"{stem}.npz", folder / f"{stem}-val.npz"


def _write(files: Mapping[pathlib.Path, list[dict[str, np.ndarray]]], settings: Mapping[str, Any]) -> None:
    """All files or none, without compression, so that equal arrays are equal bytes."""
    with replacing(files, f".{os.getpid()}.tmp") as temporary:
        for path, episodes in files.items():
            arrays: dict[str, Any] = {key: np.concatenate([e[key] for e in episodes]) for key in episodes[0]}
            arrays["provenance"] = np.array(json.dumps(settings, sort_keys=True))
            with temporary[path].open("wb") as file:
                np.savez(file, **arrays)


def main(argv: Sequence[str]) -> None:
    """The command line."""
    from absl import logging

    parser = Parser(prog="python -m envs.generate", description="Make a dataset with OGBench's own oracles.")
    parser.add_argument("--env", required=True, help=f"one of {', '.join(GENERATABLE)}, or OGBench's full name")
    parser.add_argument("--episodes", type=int, required=True, help="training episodes; a tenth more is for validation")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal files (default: %(default)s)")
    parser.add_argument("--out_dir", required=True, help="folder of the two files")
    parser.add_argument("--workers", type=int, help="worker processes (default: one per processor)")
    arguments = vars(parser.parse_args(argv))
    logging.set_verbosity(logging.WARNING)  # dm_control announces MuJoCo's version
    env, begin = arguments.pop("env"), time.time()
    try:
        is_new = not all(path.exists() for path in _paths(parse(env), arguments["out_dir"]))
        path = generate(env, **arguments)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    made, seconds = provenance(path), time.time() - begin
    assert made is not None, "what was generated says how"
    train, val = (n * (made["episode_steps"] - 1) for n in (made["episodes"], _num_validation(made["episodes"])))
    speed = f"{(train + val) / seconds:.0f} steps/s" if is_new else "was there already"
    print(f"{path}: {train} transitions, {val} more for validation, {speed}")
