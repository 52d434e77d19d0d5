"""What a run leaves behind: CSV rows, JSON files, and optional mirrors that may fail without stopping a run."""

import contextlib
import csv
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from trqam_jax.errors import UserError


class CsvWriter:
    """Appends rows with a fixed header; each call reaches the disk before it returns, or leaves the file as it was."""

    def __init__(self, path: pathlib.Path, columns: list[str]):
        self._path, self._columns = path, columns
        if not path.exists():
            write_text(path, ",".join(columns) + "\n")
        found = path.read_text().partition("\n")[0].split(",")
        if found != columns:
            raise UserError(f"{path}: has the columns {', '.join(found)}, not {', '.join(columns)}; move it away")

    def write(self, rows: list[Mapping[str, Any]]) -> None:
        """Missing columns are left empty; an unknown one is an error."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writerows([{key: _text(value) for key, value in row.items()} for row in rows])
        data = text.getvalue().encode()
        with _named(self._path), self._path.open("ab", buffering=0) as file:
            size = self._path.stat().st_size
            try:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # half a row would break every reader
                raise


def cut_csv(path: pathlib.Path, keep: Callable[[dict[str, str]], bool], group: int) -> list[dict[str, str]]:
    """Atomically drop the rows that are not to be kept, and at the end what a crash tore: a line without its end, and a
    group with fewer than `group` rows. Kept lines stay as they are to the byte; they are returned, read."""
    if not path.exists():
        return []
    # No value holds a line break, so a line is a row.
    header, *lines = path.read_bytes().decode(errors="replace").split("\n")[:-1] or [""]
    columns = header.split(",")
    rows = list(csv.DictReader(lines, columns))
    whole = len(rows) - len(rows) % group
    for number, row in enumerate(rows[:whole], start=2):
        if None in row or None in row.values():
            raise UserError(f"{path}: line {number} is damaged; move the file away or mend it")
    kept = [(line, row) for line, row in zip(lines[:whole], rows[:whole], strict=True) if keep(row)]
    if not header:
        path.unlink()
    elif len(kept) < len(lines) or not path.read_bytes().endswith(b"\n"):
        write_text(path, "".join(f"{line}\n" for line in [header, *(line for line, _ in kept)]))
    return [row for _, row in kept]


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
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Atomically: whatever happens, the file has its old content or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with _named(path):
        try:
            with temporary.open("w", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


#: What to do about a full disk, at the end of an error message.
MAKE_ROOM = "what was written before is intact; make room and start the same command again"


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """The system's errors name no file where a disk is full: this one does."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); {MAKE_ROOM}") from error


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
                self._writer.add_scalar(f"{table}/{row['phase']}/{key}/{_replica(row)}", value, row["step"])
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
