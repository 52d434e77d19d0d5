"""Files of rows as typed pandas frames, many files at once."""

import csv
import io
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from experiments.row_format import DIVERGED, NO_TASK, PHASES, parse_variant
from trqam_jax.errors import UserError

_EARLIER = {"frozen": DIVERGED}  # as the column `status` of version 0.1 has it

_TEXTS = ("env", "agent", "phase", "status", "variant")
_INTEGERS = ("task", "seed", "step", "episodes")
_NEEDED = {
    "train.csv": ("task", "seed", "phase", "step"),
    "eval.csv": ("env", "task", "agent", "seed", "phase", "step", "success", "status"),
}


class Table(NamedTuple):
    """Files with the same columns as one frame."""

    files: list[int]  # their numbers
    sizes: list[int]  # how many rows each has
    rows: pd.DataFrame

    def parts(self, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Of each file its part of `rows`, which are the table's, perhaps with further columns."""
        start = 0
        for size in self.sizes:
            yield rows.iloc[start : start + size].reset_index(drop=True)
            start += size


def read_tables(files: Iterable[tuple[pathlib.Path, bool]]) -> list[Table]:
    """The typed rows of files, which need not be there yet. files: (path, whether its run is finished).

    Those with the same columns are parsed in one go. A UserError names a file and the line in it that is damaged.
    """
    texts = [_Text.of(path, finished) for path, finished in files]
    alike: dict[tuple[str, ...], list[int]] = {}
    for number, text in enumerate(texts):
        alike.setdefault(text.columns, []).append(number)
    return [_parsed(numbers, [texts[number] for number in numbers]) for numbers in alike.values()]


class _Text(NamedTuple):
    """A file's rows as text, each with as many fields as there are columns."""

    path: pathlib.Path
    columns: tuple[str, ...]
    size: int
    body: str

    @classmethod
    def of(cls, path: pathlib.Path, finished: bool) -> "_Text":
        try:
            header, _, body = _whole_lines(path, finished).partition("\n")
            columns = next(csv.reader([header or ",".join(_NEEDED[path.name])]))
            if missing := [column for column in _NEEDED[path.name] if column not in columns]:
                raise UserError(f"{path}: damaged, it has no column {', '.join(missing)}")
            size = 0
            for number, fields in _lines(body):
                if len(fields) != len(columns):  # pandas would fill up a line that is too short
                    raise _damaged(path, number, fields)
                size += 1
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: damaged, no CSV ({error})") from None
        return cls(path, tuple(columns), size, body if body.endswith("\n") or not body else body + "\n")

    def parsed(self) -> pd.DataFrame:
        """The typed rows, or a UserError that names the line that is damaged."""
        for number, fields in _lines(self.body):
            if not _is_sound(self.columns, fields):
                raise _damaged(self.path, number, fields)
        rows = _typed(self.body, self.columns)
        if rows is None or len(rows) != self.size:
            raise UserError(f"{self.path}: damaged, no CSV")
        return rows


def _lines(body: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line of a file below its first one, with the line's number."""
    return ((number, fields) for number, fields in enumerate(csv.reader(io.StringIO(body)), start=2) if fields)


def _parsed(numbers: list[int], texts: Sequence[_Text]) -> Table:
    sizes = [text.size for text in texts]
    rows = _typed("".join(text.body for text in texts), texts[0].columns)
    if rows is None or len(rows) != sum(sizes) or not rows.phase.isin(PHASES).all():
        rows = pd.concat([text.parsed() for text in texts], ignore_index=True)
    return Table(numbers, sizes, rows)


def _damaged(path: pathlib.Path, number: int, fields: Sequence[str]) -> UserError:
    return UserError(f"{path}: damaged in line {number}: {','.join(fields)!r:.120}")


def _whole_lines(path: pathlib.Path, finished: bool) -> str:
    """While a run goes on its last line may be half written: it is left out."""
    data = path.read_bytes() if path.exists() else b""
    return (data if finished else data[: data.rfind(b"\n") + 1]).decode()


def _typed(text: str, columns: Sequence[str]) -> pd.DataFrame | None:
    """None if a number is none. A float that was left empty is nan; others are exact (as pandas reads since 3.1)."""
    types = {column: "str" if column in _TEXTS else "Int64" if column in _INTEGERS else "float64" for column in columns}
    try:
        rows = pd.read_csv(
            io.StringIO(f"{','.join(columns)}\n{text}"),
            dtype=types,
            index_col=False,
            keep_default_na=False,  # a text may be "None"
            na_values={column: ["", "nan"] for column in columns if column not in _TEXTS},
        )
        rows["task"] = rows.task.fillna(NO_TASK)
        if "status" in columns:
            rows["status"] = rows.status.replace(_EARLIER)
        for variant in rows.variant.unique() if "variant" in rows else ():
            parse_variant(variant)
        return rows.astype({column: "int64" for column in columns if column in _INTEGERS})
    except (ValueError, OverflowError):  # the latter of an infinite one
        return None


def _is_sound(columns: Sequence[str], fields: Sequence[str]) -> bool:
    """Whether a line can be read: the slow way, for the message."""
    row = dict(zip(columns, fields, strict=True))
    if row["phase"] not in PHASES:
        return False
    try:
        for column, field in row.items():
            if column in _INTEGERS and not (column == "task" and not field):
                int(field)
            elif column == "variant":
                parse_variant(field)
            elif column not in (*_TEXTS, "task") and field:
                float(field)
    except ValueError:
        return False
    return True
