"""The tables that papers and others give, as CSV files beside this one, and the cells they hold."""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

import envs
from experiments.analysis.cells import ALL, Cell, Results, parse_scope, rounded, scope, with_alls
from trqam_jax.errors import UserError

#: What tables call the source of a paper's own numbers, of what others got with its code, and of a later paper that
#: used an earlier one's protocol.
PAPER, RERUN, RQL_PAPER = "published", "third-party rerun", "published, RQL paper"
UNKNOWN = "?"  # in the files
FOLDER = pathlib.Path(__file__).parent


class Publication(NamedTuple):
    """A table that a paper, or someone who ran its code again, gives."""

    title: str
    protocol: str
    source: str = PAPER


PUBLISHED = {
    "trqam_paper": Publication("the TRQAM paper, arXiv 2605.27079 (SQAM: arXiv 2610.10437)", "trqam"),
    "qam_paper": Publication("the QAM paper, arXiv 2601.14234", "qam"),
    "rql_paper": Publication(
        "the RQL paper, arXiv 2606.17551, as two others transcribed it (it says 2M steps, its commands 1M)",
        "qam",
        RQL_PAPER,
    ),
    "trqam_reruns": Publication(
        "not the paper's own numbers, but the TRQAM paper's released code run again by others, who do not say what "
        "their ± is; ?: unknown",
        "trqam",
        RERUN,
    ),
}
#: The sources of all of them; what else is in a table was read from runs or released files.
PUBLISHED_SOURCES = frozenset(publication.source for publication in PUBLISHED.values())
PUBLISHED_STEPS = {"offline": 1_000_000, "online": 1_500_000}


def published_rows(name: str) -> list[dict[str, str]]:
    """The file's rows as text: method, scope, step, n_seeds, mean_percent, std_percent_ddof1.

    n_seeds may be UNKNOWN, the deviation also empty, where a paper gives none.
    """
    path = FOLDER / f"{name}.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
        for row in rows:
            _check(row)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); get this file of the checkout again") from error
    return rows


def _check(row: dict[str, str]) -> None:
    """KeyError or ValueError unless the row has what is read of it."""
    _ = row["method"], int(row["step"])
    if row["scope"] != ALL:
        _cells(row)
    float(row["mean_percent"])


def published(name: str, step: int) -> list[Results]:
    """The published cells of domains and tasks at a step; "all" is made from the domains as for any other results."""
    rows = [row for row in published_rows(name) if int(row["step"]) == step]
    if not rows:
        steps = dict.fromkeys(row["step"] for row in published_rows(name))
        raise UserError(f"{name} has nothing at step {step}, only at {', '.join(steps)}")
    by_method: dict[str, dict[str, Cell]] = {}
    for row in rows:
        if row["scope"] != ALL:
            by_method.setdefault(row["method"], {}).update(_cells(row))
    _, protocol, source = PUBLISHED[name]
    return [Results(method, source, protocol, step, cells) for method, cells in by_method.items()]


def _cells(row: dict[str, str]) -> dict[str, Cell]:
    """The row's cell by scope: a domain of one task is that task as well."""
    domain, task = parse_scope(row["scope"])
    tasks = envs.DOMAINS[domain].num_tasks if task is None else 1
    scopes = {row["scope"], scope(domain, 1)} if tasks == 1 and task is None else {row["scope"]}
    return dict.fromkeys(sorted(scopes), _cell(row, tasks))


def _cell(row: dict[str, str], tasks: int) -> Cell:
    counts = {"tasks": (tasks, tasks)}
    if row["n_seeds"] != UNKNOWN:
        counts["seeds"] = (int(row["n_seeds"]), int(row["n_seeds"]))
    spread = row["std_percent_ddof1"]
    std = None if spread in ("", UNKNOWN) else float(spread)
    return Cell(float(row["mean_percent"]), std, counts)


def differing_alls(name: str, step: int, rows: Iterable[Results]) -> list[str]:
    """Where the paper's own "all", rounded, is another number than the convention's: "DAC 36.49"."""
    own = {r["method"]: r["mean_percent"] for r in published_rows(name) if r["scope"] == ALL and int(r["step"]) == step}
    complete = [row for row in with_alls(rows) if row.method in own and row.cells[ALL].mean is not None]
    return [
        f"{row.method} {own[row.method]}"
        for row in complete
        if rounded(float(own[row.method])) != row.cells[ALL].percent
    ]
