"""The folder a run leaves behind (docs/resume.md)."""

import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import envs
from experiments.config import flatten, notes
from experiments.row_format import DIVERGED, OK
from experiments.training import lock
from experiments.training.csv_rows import CsvWriter, cut_csv
from experiments.training.mirrors import Mirrored, Mirrors, in_order
from experiments.training.replica import Replica
from experiments.training.schedule import Keep
from trqam_jax.errors import UserError
from trqam_jax.evaluation import Episodes
from trqam_jax.files import read_json, write_json
from trqam_jax.update_loop import Totals
from trqam_jax.versions import versions

REPLICA_COLUMNS = ["env", "task", "agent", "seed", "phase", "step"]
EVAL_COLUMNS = [*REPLICA_COLUMNS, "episodes", "success", "return", "length", "status"]
TIME_COLUMNS = ["phase", "step", "updates_per_second", "eval_seconds", "env_steps_per_second"]


class Diverged(UserError):
    """No replica is left whose losses are finite."""


Row = dict[str, str]


class Recorder:
    """Writes the tables of one run into its folder, which is no longer DONE.

    keep("train" or "eval", phase, step): whether rows that are there already stay. They are not written again, and
    what a crash tore goes.
    """

    def __init__(self, folder: pathlib.Path, config: ConfigDict, replicas: list[Replica], keep: Keep):
        self.folder, self._config, self._replicas = folder, config, replicas
        self._status = [OK] * len(replicas)  # or DIVERGED
        self._more = ["variant"] * any(replica.variant for replica in replicas)  # columns of what else tells them apart
        (folder / "DONE").unlink(missing_ok=True)
        write_json(folder / "config.json", {**config.to_dict(), "notes": notes(config)})
        self._write_versions()
        kept = {
            table: self._cut(table, len(replicas), lambda row, table=table: table, keep) for table in ("train", "eval")
        }
        self._has = {(table, row["phase"], int(row["step"])) for table, rows in kept.items() for row in rows}
        self._cut("times", 1, lambda row: "eval" if row["eval_seconds"] else "train", keep)
        self._eval = CsvWriter(folder / "eval.csv", [*EVAL_COLUMNS, *self._more])
        self._times = CsvWriter(folder / "times.csv", TIME_COLUMNS)
        identities = [self._identity(replica) for replica in replicas]
        before = in_order(kept, len(replicas)) if config.run.mirrors else []
        self._mirrors = Mirrors(config.run.mirrors, Mirrored(folder, config.to_dict(), identities), before)
        self._train: CsvWriter | None = None

    def _cut(self, table: str, group: int, about: Callable[[Row], str], keep: Keep) -> list[Row]:
        """The rows of a table that stay, about(row) being the table that a row of it speaks of."""
        path = self.folder / f"{table}.csv"
        return cut_csv(path, lambda row: keep(about(row), row["phase"], int(row["step"])), group)

    def has(self, table: str, phase: str, step: int | None = None) -> bool:
        """Whether the rows of that place, or any of the phase, were there when the run was started again."""
        if step is None:
            return any(place[:2] == (table, phase) for place in self._has)
        return (table, phase, step) in self._has

    def _write_versions(self) -> None:
        path, found = self.folder / "versions.json", versions(envs.suite_of(envs.DOMAINS[self._config.env]).packages)
        if path.exists():
            before = read_json(path)
            changed = [
                f"{key} {before.get(key)} -> {value}" for key, value in found.items() if before.get(key) != value
            ]
            if changed:
                print(f"warning: {path}: going on with {', '.join(changed)}; numbers may differ", file=sys.stderr)
        write_json(path, found)

    def _row(self, r: int, phase: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        own = {"env": self._config.env, "agent": self._config.agent_name, "phase": phase, "step": step}
        return {**own, **self._identity(self._replicas[r]), "status": self._status[r], **values}

    def _identity(self, replica: Replica) -> dict[str, Any]:
        """What tells a replica's rows from others."""
        return {"task": replica.task, "seed": replica.seed, **dict.fromkeys(self._more, replica.variant)}

    def train(self, phase: str, step: int, totals: Totals, updates_per_second: float) -> None:
        """One row per replica: its means, of the updates that count. Diverged, after the rows, if all have diverged."""
        lock.check(self.folder)
        means, frozen_at = totals.means(), np.asarray(totals.frozen_at)
        for r, update in enumerate(frozen_at):
            if update >= 0 and self._status[r] == OK:
                self._status[r] = DIVERGED
                replica = self._replicas[r]
                print(f"warning: {replica} diverged: {phase} update {update} was not finite", file=sys.stderr)
        idle = not np.asarray(totals.count).any() and (frozen_at < 0).all()  # online, before the first update
        if not idle and not self.has("train", phase, step):
            self._write_train(phase, step, means, updates_per_second)
        if (frozen_at >= 0).all():
            raise Diverged(
                f"{self._replicas[int(frozen_at.argmax())]}: {phase} update {frozen_at.max()} was not finite, and no "
                f"replica is left that goes on; the rows so far are in {self.folder}"
            )

    @property
    def flat_config(self) -> dict[str, Any]:
        """The run's configuration, by flat key."""
        return flatten(self._config)

    def sound(self) -> list[int]:
        """The indices of the replicas that have not diverged."""
        return [r for r, status in enumerate(self._status) if status == OK]

    def diverged(self) -> list[str]:
        """The replicas whose updates have not stayed finite."""
        statuses = zip(self._replicas, self._status, strict=True)
        return [str(replica) for replica, status in statuses if status == DIVERGED]

    def _write_train(self, phase: str, step: int, means: Mapping[str, np.ndarray], updates_per_second: float) -> None:
        if self._train is None:
            self._train = CsvWriter(
                self.folder / "train.csv", [*REPLICA_COLUMNS, "status", *sorted(means), *self._more]
            )
        rows = [
            self._row(r, phase, step, {name: values[r] for name, values in means.items()})
            for r in range(len(self._replicas))
        ]
        self._train.write(rows)
        self._times.write([{"phase": phase, "step": step, "updates_per_second": round(updates_per_second, 3)}])
        self._mirrors.write("train", rows)

    def eval(self, phase: str, step: int, episodes: Episodes, seconds: float) -> None:
        """One row per replica: means over its episodes."""
        lock.check(self.folder)
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
        lock.check(self.folder)
        self._mirrors.close(finished=True)
        write_json(self.folder / "DONE", {})

    def close(self) -> None:
        """No more rows will come; unless they are `done`, they are to be continued."""
        self._mirrors.close(finished=False)
