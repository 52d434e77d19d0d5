"""What tells runs apart, what they cost, and their videos."""

import base64
import csv
import os
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis.rows import Run
from trqam_jax.errors import UserError


def about(run: Run) -> dict[str, Any]:
    """What it is, and what it cost."""
    replicas = set(zip(*(run.eval[column] for column in ("task", "seed", "variant")), strict=True))
    identity = {"agent": run.agent, "env": run.config["env"], "finished": run.finished}
    return {**identity, "replicas": len(replicas), "cost": cost(read_times(run.folder / "times.csv"))}


def folder_names(runs: Sequence[Run]) -> list[str]:
    """Each run's folder, below the folder that holds them all."""
    folders = [run.folder.resolve() for run in runs]
    above = pathlib.Path(os.path.commonpath([folder.parent for folder in folders]))
    return [str(folder.relative_to(above)) for folder in folders]


def settings(runs: Sequence[Run]) -> dict[str, Any]:
    """The settings and versions that all runs share, and of each run those that not all have alike, as text."""
    own = [{**{key: _text(value) for key, value in run.config.items()}, **_versions(run)} for run in runs]
    shared = {key: value for key, value in own[0].items() if all(other.get(key) == value for other in own)}
    different = [{key: value for key, value in one.items() if key not in shared} for one in own]
    return {"shared": shared, "own": different}


def _versions(run: Run) -> dict[str, str]:
    return {f"version of {name}": _text(value) for name, value in run.versions.items()}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# ---- cost


class Times(NamedTuple):
    """The columns of times.csv; nan where a field is empty."""

    phase: np.ndarray
    step: np.ndarray
    updates_per_second: np.ndarray
    eval_seconds: np.ndarray
    env_steps_per_second: np.ndarray


def read_times(path: pathlib.Path) -> Times:
    """A run's times.csv; no rows where there is none. A last line that is being written is left out."""
    data = path.read_bytes() if path.exists() else b""
    try:
        header, *lines = csv.reader(data[: data.rfind(b"\n") + 1].decode().splitlines() or [",".join(Times._fields)])
        fields = dict(zip(header, zip(*lines, strict=True) if lines else [()] * len(header), strict=True))
        numbers = (np.array([float(x or "nan") for x in fields[name]]) for name in Times._fields[1:])
        return Times(np.array(fields["phase"], str), *numbers)
    except (KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def cost(times: Times) -> dict[str, float]:
    """Steps, seconds and steps per second of training, of all replicas together, and the seconds of evaluation."""
    steps = seconds = 0.0
    for phase in sorted({*times.phase}):
        own = (times.phase == phase) & (times.updates_per_second > 0)
        lengths = np.diff(times.step[own], prepend=0.0)
        steps += float(lengths.sum())
        seconds += float((lengths / times.updates_per_second[own]).sum())
    evaluation = round(float(np.nansum(times.eval_seconds)), 1)
    result = {"steps": steps, "train_seconds": round(seconds, 1), "eval_seconds": evaluation}
    if seconds:
        result["updates_per_second"] = round(steps / seconds, 3)
    played = times.env_steps_per_second[~np.isnan(times.env_steps_per_second)]
    if len(played):
        result["env_steps_per_second"] = round(float(np.median(played)), 1)
    return result


# ---- videos


def videos(runs: Sequence[Run], room: int, page: pathlib.Path) -> list[dict[str, Any]]:
    """The GIFs of the runs, the latest first: each itself as long as there is room (in bytes), else a link to it."""
    found = [(i, path) for i, run in enumerate(runs) for path in sorted((run.folder / "videos").glob("*.gif"))]
    result = []
    for i, path in sorted(found, key=lambda one: -_step(one[1])):
        video: dict[str, Any] = {"run": i, "name": path.stem}
        size = -(-path.stat().st_size // 3) * 4 + 200  # in base 64, with what stands around it
        if size <= room:
            room -= size
            video["data"] = "data:image/gif;base64," + base64.b64encode(path.read_bytes()).decode()
        else:
            video["link"] = link(path, page)
        result.append(video)
    return result


def link(path: pathlib.Path, page: pathlib.Path) -> str:
    """The file's address relative to the page's folder. No character in it can begin another scheme."""
    return urllib.parse.quote(os.path.relpath(path.resolve(), page.resolve().parent), safe="/")


def _step(path: pathlib.Path) -> int:
    """offline-250000-task1-seed7-0.gif"""
    _, _, rest = path.stem.partition("-")
    step = rest.partition("-")[0]
    return int(step) if step.isdigit() else 0
