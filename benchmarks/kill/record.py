"""The campaign's table: a row for every event."""

import collections
import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

COLUMNS = ("seed", "run", "scene", "kind", "place", "moment", "happened", "outcome", "left", "seconds")
RIGHT, EQUAL = "as it should", "equal to the byte"


class Table:
    """Appended to run by run, by several processes."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._began = time.monotonic()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append([COLUMNS])

    def rows(self) -> list[dict[str, str]]:
        """All."""
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def count(self) -> int:
        """Of events."""
        return len(self.rows())

    def has(self, seed: int, run: int) -> bool:
        """Whether the run's events are there."""
        return any((row["seed"], row["run"]) == (str(seed), str(run)) for row in self.rows())

    def counts(self, column: str) -> collections.Counter[str]:
        """How many events there are by what the column says."""
        return collections.Counter(row[column] for row in self.rows())

    def add(self, seed: int, run: int, scene: str, events: list[list[Any]], wrong: list[str]) -> None:
        """A run's events; wrong: with what it left in the end."""
        seconds = round(time.monotonic() - self._began, 1)
        self._began = time.monotonic()
        left = "; ".join(wrong) or EQUAL
        self._append(
            [seed, run, scene, kind, place, moment, happened, problem or RIGHT, left, round(seconds / len(events), 2)]
            for kind, place, moment, happened, problem in events
        )

    def _append(self, rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[_line(cell) for cell in row] for row in rows])
        with self.path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(text.getvalue())


def _line(cell: Any) -> str:
    return " ".join(str(cell).split())


def once(path: pathlib.Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What the file holds, made by one process if it is not there."""
    with _exclusive(path.with_suffix(".lock")):
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(make(), indent=2))
            os.replace(temporary, path)
    return json.loads(path.read_text())


@contextlib.contextmanager
def _exclusive(path: pathlib.Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def summary(rows: list[dict[str, str]]) -> str:
    """Events by kind and place, and what was not as it should be."""
    places = list(dict.fromkeys(sorted({row["place"] for row in rows})))
    kinds = sorted({row["kind"] for row in rows})
    counts = collections.Counter((row["kind"], row["place"]) for row in rows)
    table = [["kind", *places, "all"]]
    for kind in kinds:
        own = [counts[kind, place] for place in places]
        table.append([kind, *map(str, own), str(sum(own))])
    table.append(["all", *(str(sum(counts[kind, place] for kind in kinds)) for place in places), str(len(rows))])
    bad = [row for row in rows if row["outcome"] != RIGHT or row["left"] != EQUAL]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    changed = sum(row["left"] != EQUAL for row in rows)
    runs = {(row["seed"], row["run"]) for row in rows}
    lines.append(
        f"\n{len(rows)} events in {len(runs)} runs; not as it should be: {len(bad)}; of runs that differ: {changed}"
    )
    return "\n".join(lines)
