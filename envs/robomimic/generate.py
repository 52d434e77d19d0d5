"""Scripted demonstrations in robomimic's layout: data for the three tasks without a download.

    python -m envs.generate --env=robomimic-can --episodes=300 --seed=0 --out_dir=data

They are not the published demonstrations, which people gave: a state machine gives them, in several styles
(`envs.robomimic.demonstrators`), so that what is done in a state varies as it does between people.

Episode e of a file is a function of (task, seed, e, failures) alone, so a longer file begins with the episodes of a
shorter one; workers and what was played before change nothing. Other versions of MuJoCo, or another kind of processor,
may round differently; a file names its versions. An episode ends with the step that solves the task, or with the time.
A demonstration's `dones` are 1 where the task is solved, which a failed attempt never is.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.base import Domain
from envs.generation import Episode, GenerationError, check_at_least, make_once, play_all
from envs.robomimic.demonstrators import STYLES, demonstrate
from envs.robomimic.domains import DOMAINS, OBSERVATION_KEYS, parse
from envs.robomimic.install import require
from envs.robomimic.simulators import RobomimicSimulator, env_args
from envs.vector.workers import cpu_count
from trqam_jax.console import Parser
from trqam_jax.errors import UserError
from trqam_jax.files import expand, replacing

VERSION = 1  # raise it when equal settings no longer give equal numbers
MAX_ATTEMPTS = 100  # at one episode, if failed ones are dropped
FAILURES = ("drop", "keep")


def generate(
    env: str,
    *,
    episodes: int,
    seed: int = 0,
    out_dir: str | os.PathLike,
    failures: str = "drop",
    workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write so many scripted demonstrations as scripted_v15.hdf5 into out_dir; returns the file.

    env: a domain's name or title. failures: drop tries an episode again until it succeeds; keep takes the first
    attempt. workers: one per processor by default; 1 plays in this process. A file that is there already is kept if it
    was made with these settings, by whatever versions; otherwise UserError. Of several processes one makes the file,
    and the others wait for it. A script that calls this needs `if __name__ == "__main__":`, as worker processes import
    it again.
    """
    require()
    if workers is None:
        workers = cpu_count()
    check_at_least(episodes=(episodes, 1), seed=(seed, 0), workers=(workers, 1))
    if failures not in FAILURES:
        raise UserError(f"failures={failures!r}: expected {' or '.join(FAILURES)}")
    domain = parse(env)
    settings = _settings(domain, episodes, seed, failures)
    path = expand(out_dir) / "scripted_v15.hdf5"

    def make() -> None:
        played = play_all(
            f"{domain.name} (scripted)",
            functools.partial(RobomimicSimulator, domain, 1),
            functools.partial(collect, domain=domain.name, seed=seed, failures=failures),
            episodes,
            workers=workers,
            progress=progress,
        )
        _write(path, domain, played, settings)

    make_once([path], settings, provenance, make)
    return path


def collect(simulator: RobomimicSimulator, *, domain: str, seed: int, failures: str, episode: int) -> Episode:
    """One demonstration as a file holds it, with its style. Seeds numpy's global generator."""
    for attempt in range(MAX_ATTEMPTS):
        of_reset, of_hand = np.random.SeedSequence(seed, spawn_key=(episode, attempt)).spawn(2)
        simulator.reset(int(of_reset.generate_state(1)[0]))
        played = play(simulator, domain, np.random.default_rng(of_hand))
        if played["success"] or failures == "keep":
            return played
    raise GenerationError(f"episode {episode} of seed {seed} failed {MAX_ATTEMPTS} times")


def play(simulator: RobomimicSimulator, domain: str, rng: np.random.Generator) -> Episode:
    """From the present state to success, or to the end of the demonstrator's patience or of the time."""
    sim = simulator.env.sim
    style = STYLES[rng.integers(len(STYLES))]
    model = sim.model.get_xml()
    states, actions = [], []
    observations = [simulator.observations]
    success = False
    for action in demonstrate(domain, simulator, style.drawn(rng), rng):
        states.append(sim.get_state().flatten())
        actions.append(action)
        result = simulator.step(action)
        observations.append(simulator.observations)
        success = result.success
        if success or result.truncated:
            break
    return {
        "model_file": model,
        "style": style.name,
        "success": success,
        "states": np.array(states),
        "actions": np.array(actions, np.float64),
        "observations": {key: np.array([one[key] for one in observations]) for key in OBSERVATION_KEYS},
    }


def provenance(path: str | os.PathLike) -> dict[str, Any] | None:
    """How a file was made, or None if it does not say (published ones do not)."""
    import h5py  # pyright: ignore[reportMissingImports]

    try:
        with h5py.File(path, "r") as file:
            text = file["data"].attrs.get("provenance") if "data" in file else None
            return None if text is None else json.loads(text)
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # all that HDF5 raises of what is damaged, and JSON
        raise UserError(f"{path}: not a readable HDF5 file, truncated or damaged ({error}); remove it") from error


def _settings(domain: Domain, episodes: int, seed: int, failures: str) -> dict[str, Any]:
    """The content of provenance; nothing in it depends on the machine or the time."""
    versions = {name: importlib.metadata.version(name) for name in ("mujoco", "numpy", "robosuite")}
    return {
        "generator": "trqam_jax envs.generate, scripted demonstrator",
        "version": VERSION,
        "domain": domain.name,
        "episodes": int(episodes),
        "seed": int(seed),
        "failures": failures,
        "episode_limit": domain.episode_limit,
        "styles": [style._asdict() for style in STYLES],
        "versions": versions,
    }


def _write(path: pathlib.Path, domain: Domain, played: Sequence[Episode], settings: Mapping[str, Any]) -> None:
    """The whole file or none."""
    import h5py  # pyright: ignore[reportMissingImports]

    with replacing([path], f".{os.getpid()}.tmp") as temporary, h5py.File(temporary[path], "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(len(episode["actions"]) for episode in played)
        data.attrs["env_args"] = json.dumps(env_args(domain), sort_keys=True)
        data.attrs["provenance"] = json.dumps(settings, sort_keys=True)
        for number, episode in enumerate(played):
            _write_demo(data.create_group(f"demo_{number}"), episode)


def _write_demo(group: Any, episode: Episode) -> None:
    length = len(episode["actions"])
    solved = np.zeros(length)
    solved[-1] = episode["success"]
    group.attrs["num_samples"] = length
    group.attrs["model_file"] = episode["model_file"]
    group.attrs["style"] = episode["style"]
    group["states"], group["actions"] = episode["states"], episode["actions"]
    group["rewards"], group["dones"] = solved, solved.astype(np.int64)
    for key, values in episode["observations"].items():
        group[f"obs/{key}"], group[f"next_obs/{key}"] = values[:-1], values[1:]


def main(argv: Sequence[str]) -> None:
    """The command line."""
    parser = Parser(prog="python -m envs.generate", description="Make scripted demonstrations of a Robomimic task.")
    parser.add_argument("--env", required=True, help=f"one of {', '.join(DOMAINS)}")
    parser.add_argument("--episodes", type=int, required=True, help="demonstrations")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal data (default: %(default)s)")
    parser.add_argument("--out_dir", required=True, help="folder of the file")
    parser.add_argument(
        "--failures", choices=FAILURES, default="drop", help="what becomes of failed attempts (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, help="worker processes (default: one per processor)")
    arguments = vars(parser.parse_args(argv))
    env, begin = arguments.pop("env"), time.time()
    try:
        path = generate(env, **arguments)
        print(f"{path}: {_summary(path)}, {time.time() - begin:.0f} s")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


def _summary(path: pathlib.Path) -> str:
    """What the file holds, by style."""
    import h5py  # pyright: ignore[reportMissingImports]

    with h5py.File(path, "r") as file:
        data = file["data"]
        lengths: dict[str, list[int]] = {style.name: [] for style in STYLES}
        failed = 0
        for group in data.values():
            lengths[group.attrs["style"]].append(int(group.attrs["num_samples"]))
            failed += not group["dones"][-1]
        styles = ", ".join(f"{name} {len(own)} x {np.mean(own):.0f}" for name, own in lengths.items() if own)
        return f"{len(data)} demonstrations ({failed} failed), {data.attrs['total']} transitions; {styles} steps"
