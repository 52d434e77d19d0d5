"""The folder a run leaves behind (README, "What a run leaves behind")."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.config import PLACES, digest, flatten, notes
from trqam_jax import logging
from trqam_jax.errors import UserError
from trqam_jax.evaluation import Episodes

REPLICA_COLUMNS = ["env", "task", "agent", "seed", "phase", "step"]
EVAL_COLUMNS = [*REPLICA_COLUMNS, "episodes", "success", "return", "length", "status"]
TIME_COLUMNS = ["phase", "step", "updates_per_second", "eval_seconds", "env_steps_per_second"]


class Diverged(UserError):
    """A loss is no longer finite."""


class Replica(NamedTuple):
    """What tells one replica from another. Cloning uses no reward: its task is the empty text."""

    task: int | str
    seed: int


def folder_of(config: ConfigDict, *, of_cloning: bool = False) -> pathlib.Path:
    """{out_dir}/{group}/{env}/{agent}-{digest}, or cloned-{digest} for the cloning stage."""
    root = pathlib.Path(config.run.out_dir).expanduser() / config.run.group / config.env
    return root / f"{'cloned' if of_cloning else config.agent_name}-{digest(config, of_cloning=of_cloning)}"


def is_finished(folder: pathlib.Path, config: ConfigDict) -> bool:
    """Whether this very run is there. A UserError if the folder holds an unfinished or a different one."""
    if not folder.exists():
        return False
    if not (folder / "DONE").exists():
        raise UserError(
            f"{folder}: a run is going on there, or was interrupted and cannot be resumed yet; "
            "if no process writes to it, move it away; or choose another --group"
        )
    # Through JSON, so that tuples compare as what was written.
    wanted = flatten(json.loads(json.dumps(config.to_dict())))
    stored = flatten(logging.read_json(folder / "config.json", tuple(config.keys())))
    for key, value in wanted.items():
        if key not in _NO_DIFFERENCE and stored.get(key) != value:
            raise UserError(
                f"{folder}: holds a finished run with {key} = {stored.get(key)}, not {value}; choose another --group"
            )
    return True


_NO_DIFFERENCE = (*PLACES, "run.out_dir", "run.group", "run.mirrors", "eval.workers", "train.replicas_per_pass")


class Recorder:
    """Writes the tables of one run; creating it creates the folder."""

    def __init__(self, folder: pathlib.Path, config: ConfigDict, replicas: list[Replica]):
        self.folder, self._config, self._replicas = folder, config, replicas
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise UserError(f"{folder}: another process has just started this very run") from None
        logging.write_json(folder / "config.json", {**config.to_dict(), "notes": notes(config)})
        logging.write_json(folder / "versions.json", logging.versions())
        self._eval = logging.CsvWriter(folder / "eval.csv", EVAL_COLUMNS)
        self._times = logging.CsvWriter(folder / "times.csv", TIME_COLUMNS)
        self._mirrors = logging.Mirrors(list(config.run.mirrors), folder, config.to_dict())
        self._train: logging.CsvWriter | None = None

    def _row(self, r: int, phase: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        own = {"env": self._config.env, "agent": self._config.agent_name, "phase": phase, "step": step}
        return {**own, **self._replicas[r]._asdict(), **values}

    def train(self, phase: str, step: int, means: Mapping[str, np.ndarray], updates_per_second: float) -> None:
        """One row per replica; means: {metric: (R,)}. Diverged if one is not finite, once the rows are written."""
        if self._train is None:
            self._train = logging.CsvWriter(self.folder / "train.csv", [*REPLICA_COLUMNS, *sorted(means)])
        rows = [
            self._row(r, phase, step, {name: values[r] for name, values in means.items()})
            for r in range(len(self._replicas))
        ]
        self._train.write(rows)
        self._times.write([{"phase": phase, "step": step, "updates_per_second": round(updates_per_second, 3)}])
        self._mirrors.write("train", rows)
        for row in rows:
            for name in sorted(means):
                if not np.isfinite(row[name]):
                    raise Diverged(
                        f"task {row['task']}, seed {row['seed']}: {name} is {row[name]} by {phase} update {step}; "
                        f"the rows so far are in {self.folder}"
                    )

    def eval(self, phase: str, step: int, episodes: Episodes, seconds: float) -> None:
        """One row per replica: means over its episodes."""
        rows = [
            self._row(
                r,
                phase,
                step,
                {
                    "episodes": episodes.success.shape[1],
                    "success": episodes.success[r].mean(),
                    "return": episodes.returns[r].mean(),
                    "length": episodes.lengths[r].mean(),
                    "status": "ok",
                },
            )
            for r in range(len(self._replicas))
        ]
        self._eval.write(rows)
        speed = episodes.lengths.sum() / seconds
        times = {"eval_seconds": round(seconds, 3), "env_steps_per_second": round(speed, 1)}
        self._times.write([{"phase": phase, "step": step, **times}])
        self._mirrors.write("eval", rows)

    def done(self) -> None:
        """Mark the folder as complete; the last thing that is written."""
        self._mirrors.close()
        logging.write_json(self.folder / "DONE", {})
