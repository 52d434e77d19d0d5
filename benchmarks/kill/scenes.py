"""What is disturbed: small runs, a sweep, a dataset that is generated, a download; and what each must leave."""

import hashlib
import importlib
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.kill.process import ROOT

Content = dict[str, str]  # what must not depend on disturbances: {name: digest}

#: Of all runs. The networks are tiny and everything is due often, because a process mostly traces and compiles.
SETTINGS = {
    **{"protocol": "quick", "num_seeds": 2, "dataset": "generate", "eval_episodes": 2, "log_interval": 40},
    **{"save_interval": 40, "config.online.save_interval": 40, "config.agent.hidden_dims": "8,8"},
    **{"config.agent.flow_steps": 2, "config.train.batch_size": 16, "config.eval.workers": 1},
}
LENGTHS = {"bc_steps": 160, "offline_steps": 240, "online_steps": 160, "start_training": 30, "eval_interval": 80}
POINT = {"env": "point-room", "dataset_episodes": 20}
CUBE = {"env": "cube-single-task1", "dataset_episodes": 1, "episode_limit": 20}


class Scene(NamedTuple):
    """argv(folder): of one process. program: called with it in a fork; None: argv is executed. left_by: see Content."""

    name: str
    argv: Callable[[pathlib.Path], list[str]]
    program: Callable[[Sequence[str]], None] | None
    left_by: Callable[[pathlib.Path], Content]
    share: float  # of the events
    kind: str = "run"


def import_all() -> None:
    """What forked processes need, once; JAX looks for no device yet, so that it starts no thread."""
    import envs

    sys.path.insert(0, str(ROOT / "experiments"))
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import requests  # noqa: F401

    import agents  # noqa: F401
    from experiments.analysis import summary  # noqa: F401
    from experiments.sweeps import launch  # noqa: F401
    from experiments.training import run  # noqa: F401
    from tests import point_suite

    for command in ("main", "sweep"):
        importlib.import_module(command)

    if "point" not in envs.SUITES:
        envs.SUITES["point"] = point_suite.SUITE  # pyright: ignore[reportIndexIssue]
        envs.DOMAINS.update(point_suite.SUITE.domains)  # pyright: ignore[reportAttributeAccessIssue]


def scenes(data: pathlib.Path, server: str) -> dict[str, Scene]:
    """By name. data: where the runs' data lie; server: the URL of one that has the files of a download."""
    return {
        scene.name: scene
        for scene in (
            Scene("fql", _run("fql", data, POINT), _main, _left_by_run, 0.44),
            Scene("trqam", _run("trqam", data, POINT), _main, _left_by_run, 0.12),
            Scene("cube", _executed("fql", data, CUBE), None, _left_by_run, 0.02),
            Scene("sweep", _sweep(data), _sweep_main, _left_by_sweep, 0.03, "sweep"),
            Scene("generate", lambda folder: [str(folder)], _generate, _left_by_files, 0.09, "files"),
            Scene("download", _download(server), _download_main, _left_by_files, 0.30, "files"),
        )
    }


def _flags(settings: dict[str, object]) -> list[str]:
    return [f"--{key}={value}" for key, value in settings.items()]


def _run(agent: str, data: pathlib.Path, task: dict[str, object]) -> Callable[[pathlib.Path], list[str]]:
    settings = {"agent": agent, **task, **SETTINGS, **LENGTHS, "dataset_dir": data}
    return lambda folder: ["experiments/main.py", *_flags({**settings, "out_dir": folder})]


def _executed(agent: str, data: pathlib.Path, task: dict[str, object]) -> Callable[[pathlib.Path], list[str]]:
    argv = _run(agent, data, task)
    return lambda folder: [sys.executable, "-u", *argv(folder)]


def _main(argv: Sequence[str]) -> None:
    from experiments import cli
    from trqam_jax import console

    command = sys.modules["__main__"] = sys.modules["main"]  # what the simulators' processes import
    console.prepare()
    command.main(cli.parse(list(argv)))


def _sweep(data: pathlib.Path) -> Callable[[pathlib.Path], list[str]]:
    settings = {**CUBE, **SETTINGS, "bc_steps": 80, "offline_steps": 160, "eval_interval": 80, "dataset_dir": data}
    del settings["env"]
    settings |= {"agents": "fql,ifql", "envs": CUBE["env"], "jobs": 2}
    return lambda folder: ["experiments/sweep.py", *_flags({**settings, "out_dir": folder})]


def _sweep_main(argv: Sequence[str]) -> None:
    from experiments import cli
    from trqam_jax import console

    command = sys.modules["__main__"] = sys.modules["sweep"]
    console.prepare()
    sys.exit(command.main(cli.parse(list(argv)), "run"))


def _generate(argv: Sequence[str]) -> None:
    from envs.ogbench.generate import generate
    from experiments import cli
    from trqam_jax.errors import UserError

    sys.modules["__main__"] = sys.modules["main"]
    try:
        generate("pointmaze-medium", episodes=3, out_dir=argv[0], workers=2, episode_steps=20)
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


def _download(server: str) -> Callable[[pathlib.Path], list[str]]:
    return lambda folder: ["--env=cube-single", f"--dataset_dir={folder}", f"--mirror={server}", "--timeout=20"]


def _download_main(argv: Sequence[str]) -> None:
    from envs.commands import hand_over

    sys.argv = ["envs/download.py", *argv]
    hand_over("download")


def digest(path: pathlib.Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _left_by_run(folder: pathlib.Path) -> Content:
    """The tables, DONE, the BC policy and the last checkpoint, both loaded."""
    return _tables(folder) | {
        f"{place.parents[1].name}/{place.name}": arrays(place)
        for one in folder.glob("default/*/*/checkpoints")
        for place in _last(one)
    }


def _left_by_sweep(folder: pathlib.Path) -> Content:
    return _tables(folder)


def _tables(folder: pathlib.Path) -> Content:
    names = ("train.csv", "eval.csv", "DONE")
    return {
        f"{path.parent.name}/{path.name}": digest(path) for path in folder.glob("default/*/*/*") if path.name in names
    }


def _last(checkpoints: pathlib.Path) -> list[pathlib.Path]:
    """The BC policy, where there is one, and the state that a longer run would go on from."""
    from experiments.row_format import PHASES
    from trqam_jax.checkpoint import Checkpoints

    place = (found := Checkpoints(checkpoints, PHASES)).newest()
    policies = sorted(path for path in checkpoints.iterdir() if path.name.isdecimal())
    return [*policies, *([found.path(place)] if place else [])]


def arrays(place: pathlib.Path) -> str:
    """The digest of a checkpoint's arrays, read as a run reads them."""
    import jax
    import numpy as np

    from trqam_jax import checkpoint

    tree = checkpoint.load(place, checkpoint.stored_shapes(place))
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()


def _left_by_files(folder: pathlib.Path) -> Content:
    return {path.name: digest(path) for path in folder.glob("[!.]*.npz*")}


def in_a_fork(function: Callable[[], Content]) -> Content:
    """The function's result, of a fork that may start JAX. RuntimeError with its traceback if it failed."""
    import json
    import traceback

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with os.fdopen(writer, "w") as file:
            try:
                file.write(json.dumps(function()))
            except BaseException:  # told to the parent; a fork must never go on as it
                file.write(json.dumps({"error": traceback.format_exc()}))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = json.loads(file.read())
    os.waitpid(pid, 0)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def leftovers(folder: pathlib.Path) -> list[str]:
    """What a finished run has no business to leave: halves of files and checkpoints, damaged ones."""
    patterns = ("*.tmp", ".*.new", ".*.old", "damaged-*", "*.part", "*.part.json")
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.rglob(pattern))


def locked(folder: pathlib.Path) -> list[str]:
    """The lock files that some process still holds."""
    import fcntl

    held = []
    for path in (*folder.rglob("lock"), *folder.rglob(".*.lock")):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(str(path.relative_to(folder)))
    return held
