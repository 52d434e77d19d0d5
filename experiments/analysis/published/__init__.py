"""The tables that papers give, as CSV files beside this one, and the cells they hold."""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

import envs
from experiments.analysis.cells import ALL, Cell, Results, parse_scope, rounded, with_alls
from trqam_jax.errors import UserError


class Publication(NamedTuple):
    """A table that a paper gives."""

    title: str
    protocol: str


PUBLISHED = {
    "trqam_paper": Publication("the TRQAM paper, arXiv 2605.27079 (SQAM: arXiv 2610.10437)", "trqam"),
    "qam_paper": Publication("the QAM paper, arXiv 2601.14234", "qam"),
}
PUBLISHED_STEPS = {"offline": 1_000_000, "online": 1_500_000}


def published_rows(name: str) -> list[dict[str, str]]:
    """The file's rows as text: method, scope, step, n_seeds, mean_percent, std_percent_ddof1 (may be empty)."""
    path = pathlib.Path(__file__).parent / f"{name}.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]


def published(name: str, step: int) -> list[Results]:
    """The published cells of domains and tasks at a step; "all" is made from the domains as for any other results."""
    rows = [row for row in published_rows(name) if int(row["step"]) == step]
    if not rows:
        steps = dict.fromkeys(row["step"] for row in published_rows(name))
        raise UserError(f"{name} has nothing at step {step}, only at {', '.join(steps)}")
    by_method: dict[str, dict[str, Cell]] = {}
    for row in rows:
        if row["scope"] != ALL:
            by_method.setdefault(row["method"], {})[row["scope"]] = _cell(row)
    protocol = PUBLISHED[name].protocol
    return [Results(method, "published", protocol, step, cells) for method, cells in by_method.items()]


def _cell(row: dict[str, str]) -> Cell:
    domain, task = parse_scope(row["scope"])
    tasks = envs.DOMAINS[domain].num_tasks if task is None else 1
    seeds = int(row["n_seeds"])
    std = float(row["std_percent_ddof1"]) if row["std_percent_ddof1"] else None
    return Cell(float(row["mean_percent"]), std, {"tasks": (tasks, tasks), "seeds": (seeds, seeds)})


def differing_alls(name: str, step: int, rows: Iterable[Results]) -> list[str]:
    """Where the paper's own "all", rounded, is another number than the convention's: "DAC 36.49"."""
    own = {r["method"]: r["mean_percent"] for r in published_rows(name) if r["scope"] == ALL and int(r["step"]) == step}
    return [
        f"{row.method} {own[row.method]}"
        for row in with_alls(rows)
        if rounded(float(own[row.method])) != row.cells[ALL].percent
    ]
