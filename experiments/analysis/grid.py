"""A table of texts, as markdown or LaTeX, and rows as CSV."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO


class Bold(str):
    """A text to be set in bold."""

    __slots__ = ()


class Grid(NamedTuple):
    """header and body: texts, as many in every row."""

    caption: str
    header: list[str]
    body: list[list[str]]


def markdown(grid: Grid) -> str:
    """The caption and an aligned table."""
    rows = [[_bar(f"**{text}**" if isinstance(text, Bold) else text) for text in row] for row in _rows(grid)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([grid.caption, "", f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def _bar(text: str) -> str:
    return text.replace("|", r"\|")


PACKAGES = "booktabs, adjustbox"
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    '"': "''",
}


def escape(text: str) -> str:
    """The text for LaTeX, in any font encoding."""
    quoted = re.sub('"([^"]*)"', r"``\1''", text)
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], quoted)


def latex(grid: Grid) -> str:
    """A table environment; a document that holds it needs PACKAGES."""
    rows = [[rf"\textbf{{{escape(t)}}}" if isinstance(t, Bold) else escape(t) for t in row] for row in _rows(grid)]
    lines = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            f"% needs the packages {PACKAGES}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(grid.caption)}}}",
            r"\begin{adjustbox}{max width=\linewidth}",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            r"\end{table}",
        ]
    )


FORMATS = {"markdown": markdown, "latex": latex}


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """The rows, {column: value}, under a header."""
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _rows(grid: Grid) -> list[list[str]]:
    return [grid.header, *grid.body]
