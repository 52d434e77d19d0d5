"""Tables of rows as CSV files that a crash cannot tear. Imports no JAX."""

import csv
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trqam_jax.errors import UserError
from trqam_jax.files import append, read_bytes, write_text


class CsvWriter:
    """Appends rows with a fixed header; each call reaches the disk before it returns, or leaves the file as it was."""

    def __init__(self, path: pathlib.Path, columns: list[str]):
        self._path, self._columns = path, columns
        if not path.exists():
            write_text(path, ",".join(columns) + "\n")
        found = read_bytes(path).decode(errors="replace").partition("\n")[0].split(",")
        if found != columns:
            raise UserError(f"{path}: has the columns {', '.join(found)}, not {', '.join(columns)}; move it away")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Missing columns are left empty; an unknown one is an error."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writerows([{key: _text(value) for key, value in row.items()} for row in rows])
        append(self._path, text.getvalue().encode())


def cut_csv(path: pathlib.Path, keep: Callable[[dict[str, str]], bool], group: int) -> list[dict[str, str]]:
    """Atomically drop the rows that are not to be kept, and at the end what a crash tore: a line without its end, and a
    group with fewer than `group` rows. Kept lines stay as they are to the byte, but for line ends as other programs
    write them; they are returned, read."""
    if not path.exists():
        return []
    # No value holds a line break, so a line is a row.
    stored = read_bytes(path)
    content = stored.replace(b"\r\n", b"\n")
    header, *lines = content.decode(errors="replace").split("\n")[:-1] or [""]
    columns = header.split(",")
    rows = list(csv.DictReader(lines, columns))
    whole = len(rows) - len(rows) % group
    for number, row in enumerate(rows[:whole], start=2):
        if None in row or None in row.values():
            raise UserError(f"{path}: line {number} is damaged; move the file away or mend it")
    try:
        kept = [(line, row) for line, row in zip(lines[:whole], rows[:whole], strict=True) if keep(row)]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged, {error} in its columns {header!r:.200}; move it away or mend it") from error
    if not header:
        path.unlink()
    elif len(kept) < len(lines) or not stored.endswith(b"\n") or content != stored:
        write_text(path, "".join(f"{line}\n" for line in [header, *(line for line, _ in kept)]))
    return [row for _, row in kept]


def _text(value: Any) -> Any:
    """Floats by their shortest text that reads back the same float32 or float64."""
    return value if isinstance(value, (str, int)) else str(value)


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    """All rows, as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def last_rows(path: pathlib.Path, most: int) -> list[dict[str, str]]:
    """The rows, as text, that the last `most` bytes of the file hold whole; none before there is a file."""
    try:
        with path.open("rb") as file:
            columns = file.readline().decode(errors="replace").strip().split(",")
            begin = file.tell()
            start = max(begin, file.seek(0, io.SEEK_END) - most)
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return []
    first = 0 if start == begin else data.find(b"\n") + 1
    lines = data[first : data.rfind(b"\n") + 1].decode(errors="replace").splitlines()
    return [dict(zip(columns, fields, strict=True)) for fields in csv.reader(lines) if len(fields) == len(columns)]
