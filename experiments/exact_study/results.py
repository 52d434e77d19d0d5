"""The study's rows, and the table that they make."""

import csv
import itertools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

NO_GRID = float("nan")


class Row(NamedTuple):
    """One number beside its exact value."""

    panel: str  # a to e
    case: str
    quantity: str
    exact: float  # in continuous time
    on_grid: float  # for K steps, where it is known; otherwise NaN
    measured: float


class Panel(NamedTuple):
    """One experiment: its rows, and what only the figure needs."""

    rows: list[Row]
    drawn: dict[str, Any]


def write_csv(rows: Iterable[Row], path: pathlib.Path) -> None:
    """All digits that a repetition must give again."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows([*row[:3], *(f"{value:.9g}" for value in row[3:])] for row in rows)


def table(rows: Sequence[Row]) -> str:
    """Aligned plain text, a blank line between panels."""
    head = ["panel", "case", "quantity", "exact", "K steps", "measured", "off by"]
    lines = [head, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = []
    for _, group in itertools.groupby(lines, key=lambda line: line[0]):
        texts += ["".join(aligned(line, widths)).rstrip() for line in group] + [""]
    return "\n".join(texts[:-1])


def aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    words = [cell.ljust(width + 2) for cell, width in zip(line[:3], widths[:3], strict=True)]
    numbers = [cell.rjust(width + 2) for cell, width in zip(line[3:], widths[3:], strict=True)]
    return words + numbers


def cells(row: Row) -> list[str]:
    """`off by` is relative to what K steps give where that is known, otherwise to the exact value, if that is not 0."""
    reference = row.exact if np.isnan(row.on_grid) else row.on_grid
    known = abs(reference) > 0  # neither zero nor NaN
    off = f"{round(100 * (row.measured / reference - 1), 1) + 0.0:+.1f} %" if known else ""  # + 0.0: no "-0.0"
    return [*row[:3], *("" if np.isnan(value) else f"{value:.3f}" for value in row[3:]), off]
