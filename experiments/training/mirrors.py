"""Rows shown elsewhere while a run goes on: optional, and allowed to fail without stopping it."""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trqam_jax.files import read_json, write_json


class Mirror(Protocol):
    """Somewhere else that rows are shown."""

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """table: "train" or "eval"."""

    def close(self) -> None:
        """No more rows will come."""


class TensorBoard:
    """TensorBoard event files, one series per replica."""

    def __init__(self, folder: pathlib.Path, **_: Any):
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]  # an extra

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            for key, value in _numbers(row).items():
                self._writer.add_scalar(f"{table}/{row['phase']}/{key}/{_replica(row)}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases, one run for all replicas. Its id is kept in the folder, and moves away with it."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]  # an extra

        # A run that goes on is the same one there. What a kill made it do again is logged again, under the same step.
        before = folder / "wandb.json"
        known = {"id": read_json(before, ("id",))["id"], "resume": "allow"} if before.exists() else {}
        self._run = wandb.init(
            project="trqam_jax", name=folder.name, dir=str(folder), config=dict(config), reinit="create_new", **known
        )
        write_json(before, {"id": self._run.id})

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            prefix = f"{table}/{row['phase']}/{_replica(row)}"
            self._run.log({f"{prefix}/{key}": v for key, v in _numbers(row).items()} | {"step": row["step"]})

    def close(self) -> None:
        self._run.finish()


MIRRORS = {"tensorboard": TensorBoard, "wandb": Wandb}


_ABOUT = ("env", "task", "agent", "seed", "phase", "step", "status", "variant")


def _replica(row: Mapping[str, Any]) -> str:
    return "-".join(filter(None, (f"task{row['task']}-seed{row['seed']}", row.get("variant"))))


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in row.items() if k not in _ABOUT}


class Mirrors:
    """The mirrors a run was asked for. One that fails is named on stderr and dropped; the run goes on."""

    def __init__(self, names: list[str], folder: pathlib.Path, config: Mapping[str, Any]):
        self._mirrors: dict[str, Mirror] = {}
        for name in names:
            self._guarded(name, lambda name=name: self._mirrors.__setitem__(name, MIRRORS[name](folder, config=config)))

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the rows wherever it still works."""
        for name, mirror in list(self._mirrors.items()):
            self._guarded(name, lambda mirror=mirror: mirror.write(table, rows))

    def close(self) -> None:
        """No more rows will come."""
        for name, mirror in list(self._mirrors.items()):
            self._guarded(name, mirror.close)

    def _guarded(self, name: str, action: Any) -> None:
        try:
            action()
        except Exception as error:  # whatever a third party's service does, training must not stop for it
            self._mirrors.pop(name, None)
            print(f"warning: {name} is off, the CSV files go on ({type(error).__name__}: {error})", file=sys.stderr)
