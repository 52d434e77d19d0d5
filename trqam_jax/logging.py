"""What a run leaves behind: CSV rows, JSON files, and optional mirrors that may fail without stopping a run."""

import csv
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Mapping
from typing import Any, Protocol


class CsvWriter:
    """Appends rows with a fixed header; each call reaches the disk before it returns."""

    def __init__(self, path: pathlib.Path, columns: list[str]):
        self._path, self._columns = path, columns
        if not path.exists():
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(columns)

    def write(self, rows: list[Mapping[str, Any]]) -> None:
        """Missing columns are left empty; an unknown one is an error."""
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            writer.writerows([{key: _text(value) for key, value in row.items()} for row in rows])
            file.flush()
            os.fsync(file.fileno())


def _text(value: Any) -> Any:
    """Floats by their shortest text that reads back the same float32 or float64."""
    return value if isinstance(value, (str, int)) else str(value)


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    """All rows, as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Atomically, with sorted keys."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)


PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "ogbench",
    "mujoco",
    "gymnasium",
    "ml-collections",
)


def versions() -> dict[str, str]:
    """Python, platform, device and the packages a result may depend on."""
    import jax

    import trqam_jax

    device = jax.devices()[0]
    return {
        "trqam_jax": trqam_jax.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


class Mirror(Protocol):
    """Somewhere else that rows are shown."""

    def write(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        """table: "train" or "eval"."""


class TensorBoard:
    """TensorBoard event files, one series per replica."""

    def __init__(self, folder: pathlib.Path, **_: Any):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            for key, value in _numbers(row).items():
                name = f"{table}/{row['phase']}/{key}/task{row['task']}-seed{row['seed']}"
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()


class Wandb:
    """Weights & Biases, one run for all replicas."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any]):
        import wandb

        self._run = wandb.init(project="trqam_jax", dir=str(folder), config=dict(config))

    def write(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            prefix = f"{table}/{row['phase']}/task{row['task']}-seed{row['seed']}"
            self._run.log({f"{prefix}/{key}": v for key, v in _numbers(row).items()} | {"step": row["step"]})


MIRRORS = {"tensorboard": TensorBoard, "wandb": Wandb}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in row.items() if k not in ("env", "task", "agent", "seed", "phase", "step", "status")}


class Mirrors:
    """The mirrors a run was asked for. One that fails is named on stderr and dropped; the run goes on."""

    def __init__(self, names: list[str], folder: pathlib.Path, config: Mapping[str, Any]):
        self._mirrors: dict[str, Mirror] = {}
        for name in names:
            self._guarded(name, lambda name=name: self._mirrors.__setitem__(name, MIRRORS[name](folder, config=config)))

    def write(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        """Show the rows wherever it still works."""
        for name, mirror in list(self._mirrors.items()):
            self._guarded(name, lambda mirror=mirror: mirror.write(table, rows))

    def _guarded(self, name: str, action: Any) -> None:
        try:
            action()
        except Exception as error:  # whatever a third party's service does, training must not stop for it
            self._mirrors.pop(name, None)
            print(f"warning: {name} is off, the CSV files go on ({type(error).__name__}: {error})", file=sys.stderr)
