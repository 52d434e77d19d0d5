"""What tells runs apart, what they cost, and their videos."""

import base64
import io
import os
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.analysis.rows import Run
from trqam_jax.errors import UserError

_TIMES = {"step": "int64"} | dict.fromkeys(("updates_per_second", "eval_seconds", "env_steps_per_second"), "float64")


def about(run: Run) -> dict[str, Any]:
    """What it is, and what it cost."""
    replicas = run.eval[["task", "seed", "variant"]].drop_duplicates()
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


def read_times(path: pathlib.Path) -> pd.DataFrame:
    """A run's times.csv; no rows where there is none. A last line that is being written is left out."""
    if not path.exists():
        return pd.DataFrame(columns=["phase", *_TIMES])
    data = path.read_bytes()
    whole = io.BytesIO(data[: data.rfind(b"\n") + 1])
    try:
        return pd.read_csv(whole, usecols=["phase", *_TIMES], dtype={"phase": "str", **_TIMES})
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def cost(times: pd.DataFrame) -> dict[str, float]:
    """Steps, seconds and steps per second of training, of all replicas together, and the seconds of evaluation."""
    steps = seconds = 0.0
    for _, own in times[times.updates_per_second > 0].groupby("phase"):
        lengths = own.step.diff().fillna(own.step)
        steps += float(lengths.sum())
        seconds += float((lengths / own.updates_per_second).sum())
    result = {"steps": steps, "train_seconds": round(seconds, 1), "eval_seconds": round(times.eval_seconds.sum(), 1)}
    if seconds:
        result["updates_per_second"] = round(steps / seconds, 3)
    if len(played := times.env_steps_per_second.dropna()):
        result["env_steps_per_second"] = round(float(played.median()), 1)
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
