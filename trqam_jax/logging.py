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

from trqam_jax.errors import UserError


class CsvWriter:
    """Appends rows with a fixed header; each call reaches the disk before it returns."""

    def __init__(self, path: pathlib.Path, columns: list[str]):
        self._path, self._columns = path, columns
        if not path.exists():
            with path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(columns)

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


def read_json(path: pathlib.Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object with at least these keys; a UserError if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error})") from error
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else ["object"]
    if missing:
        raise UserError(f"{path}: damaged, it has no {', '.join(missing)}")
    return content


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

    def close(self) -> None:
        """No more rows will come."""


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

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases, one run for all replicas."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any]):
        import wandb

        self._run = wandb.init(
            project="trqam_jax", name=folder.name, dir=str(folder), config=dict(config), reinit="create_new"
        )

    def write(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            prefix = f"{table}/{row['phase']}/task{row['task']}-seed{row['seed']}"
            self._run.log({f"{prefix}/{key}": v for key, v in _numbers(row).items()} | {"step": row["step"]})

    def close(self) -> None:
        self._run.finish()


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
