"""What runs left behind, read back as typed rows."""

import csv
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from experiments.config import flatten
from trqam_jax.errors import UserError
from trqam_jax.logging import read_csv, read_json

Row = dict[str, Any]


class RunData(NamedTuple):
    """One run's folder. config is flat, {"section.key": value}, without the notes on sources."""

    folder: pathlib.Path
    config: dict[str, Any]
    versions: dict[str, str]
    finished: bool
    eval: list[Row]  # typed; `variant` is "" where the file has no such column


def read_runs(paths: Iterable[pathlib.Path]) -> list[RunData]:
    """The runs in these folders or below them, each once, in the order of their paths; a UserError if there is none.

    Cloning stages are left out: they hold no evaluation.
    """
    folders: dict[pathlib.Path, pathlib.Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder; expected a run's folder or a parent of some")
        found = [file.parent for file in sorted(path.rglob("config.json")) if (file.parent / "eval.csv").exists()]
        found = [folder for folder in found if not folder.name.startswith("cloned-")]
        if not found:
            raise UserError(f"{path}: no run there; a run's folder holds config.json and eval.csv")
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    return [_read_run(folder) for folder in folders.values()]


def read_train(folder: pathlib.Path) -> list[Row]:
    """The typed rows of train.csv; none if the run has not got that far. Cloning's task is the empty text."""
    return _read_rows(folder, "train.csv") if (folder / "train.csv").exists() else []


def _read_run(folder: pathlib.Path) -> RunData:
    config = read_json(folder / "config.json", ("agent_name", "env", "protocol", "tasks", "run"))
    config.pop("notes", None)
    rows = [{"variant": "", **row} for row in _read_rows(folder, "eval.csv")]
    versions = read_json(folder / "versions.json", ("trqam_jax", "jax"))
    return RunData(folder, flatten(config), versions, (folder / "DONE").exists(), rows)


_TEXTS = ("env", "agent", "phase", "status", "variant")
_WHOLE = ("task", "seed", "step", "episodes")


def _read_rows(folder: pathlib.Path, name: str) -> list[Row]:
    """Typed rows. While a run goes on its last line may be half written: it is left out."""
    path = folder / name
    try:
        rows = read_csv(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: damaged, no CSV ({error})") from None
    if rows and not (folder / "DONE").exists() and not path.read_bytes().endswith(b"\n"):
        rows.pop()
    typed = []
    for number, row in enumerate(rows, start=2):
        try:
            typed.append({key: _typed(key, text) for key, text in row.items()})
        except (TypeError, ValueError):
            raise UserError(f"{path}: damaged in line {number}: {','.join(map(str, row.values()))!r:.120}") from None
    return typed


def _typed(key: str, text: str) -> Any:
    """A number left empty is nan; the empty task stays."""
    if key in _TEXTS or (key == "task" and not text):
        return text + ""  # TypeError for a column that the line lacks
    read: Callable[[str], Any] = int if key in _WHOLE else float
    return read(text) if text else float("nan")
