"""The papers' table: results laid out as a grid or as tidy rows, with a caption that says what the numbers are."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import envs
from experiments.analysis import grid, statistics
from experiments.analysis.cells import (
    Cell,
    Choice,
    Results,
    is_all,
    parse_scope,
    results,
    rounded,
    scope,
    step_of,
    values,
    with_alls,
)
from experiments.analysis.published import (
    PUBLISHED,
    PUBLISHED_SOURCES,
    PUBLISHED_STEPS,
    RERUN,
    UNKNOWN,
    differing_alls,
    published,
)
from experiments.analysis.rows import MISSING, Run, Source, groups, mixtures
from trqam_jax.errors import UserError

COLUMNS = ["method", "scope", "step", "n_seeds", "mean_percent", "std_percent_ddof1"]  # as in published/*.csv
COLUMNS += ["source", "protocol", "phase", "value", "missing"]


def refuse_mixed(runs: list[Run], others: Mapping[str, str], *, mixed: bool) -> list[str]:
    """What a reader must know of several protocols or versions; a UserError unless mixed says that they are wanted.

    others: {where: protocol} of results that are no runs.
    """
    problems = mixtures(runs, others)
    if problems and not mixed:
        raise UserError(f"{'; '.join(problems)}; show them apart, or add --mixed if that is what you want")
    return problems


def collect(
    origins: Sequence[Source], choice: Choice, phase: str, papers: Sequence[str]
) -> tuple[list[Results], list[str]]:
    """The rows of the table, published ones among them, and what a reader must know about the latter."""
    rows = [row for source in origins for row in results(source, choice)]
    remarks = []
    for paper in papers:
        step = PUBLISHED_STEPS[phase] if choice.step is None else choice.step
        own = published(paper, step)
        rows += own
        if differing := differing_alls(paper, step, own):
            remarks.append(f'the paper\'s own "all", without rounding in between, differs for {", ".join(differing)}')
    return with_alls(rows), remarks


def name_short(source: Source, choice: Choice) -> None:
    """A line on stderr for every method and domain with curves that do not reach the step."""
    counted = values(source, choice)
    short = counted[counted.status == MISSING]
    for (method, env), replicas in groups(short, ["method", "env"]):
        print(
            f"{source.name}: {method} on {env} has {len(replicas)} curve(s) without an evaluation at step "
            f"{step_of(source, choice)}, the first of them ends at {replicas.end.min()}; --step=N takes the values of "
            "an earlier one",
            file=sys.stderr,
        )


def labelled(rows: Sequence[Results]) -> list[Results]:
    """With source and protocol in the method's label, where the table has several of them; a rerun always says so."""
    several_sources = len({row.source for row in rows}) > 1
    several_protocols = len({row.protocol for row in rows}) > 1
    result = []
    for row in rows:
        extra = [row.source] * (several_sources or row.source == RERUN) + [
            f"protocol {row.protocol}"
        ] * several_protocols
        result.append(row._replace(method=f"{row.method} ({', '.join(extra)})") if extra else row)
    return result


def caption(
    rows: Sequence[Results], choice: Choice, phase: str, remarks: Sequence[str], papers: Sequence[str] = ()
) -> str:
    """What the numbers are: convention, value, phase, step, protocol and source. papers: whose tables are published."""
    titles = {(PUBLISHED[paper].source, PUBLISHED[paper].protocol): PUBLISHED[paper].title for paper in papers}
    words = {
        "final": "the evaluation at",
        "best": "each replica's best evaluation up to",
        "last_k": f"the mean of each replica's last {choice.last} evaluations up to",
    }
    convention = (
        "Success in percent, mean ± sample standard deviation over seeds. A domain's tasks are averaged per seed; "
        "all: the mean of the rounded means of a suite's benchmark domains."
    )
    parts = []
    for source, protocol, step in dict.fromkeys((row.source, row.protocol, row.step) for row in rows):
        own = [row for row in rows if (row.source, row.protocol) == (source, protocol)]
        where = f"step {step:,} of the {phase} phase; protocol {protocol}; seeds: {_seeds(own)}"
        what = words[choice.value]
        if (source, protocol) in titles:
            what = f"{titles[source, protocol]}, at"
        parts.append(f"{source}: {what} {where}")
    parts.append("bold: the best complete cell" + " of a protocol" * (len({row.protocol for row in rows}) > 1))
    if any(cell.marks for row in rows for cell in row.cells.values()):
        parts.append("in brackets: how much is there of a complete cell; diverged replicas are left out")
    return " ".join([convention, *(f"{part[0].upper()}{part[1:]}." for part in [*parts, *remarks])])


def _seeds(rows: Sequence[Results]) -> str:
    """How many a complete cell has, and UNKNOWN if some cells do not say."""
    counts = [cell.counts.get("seeds") for row in rows for cell in row.cells.values()]
    known = [str(max(count[1] for count in counts if count))] if any(counts) else []
    return " or ".join(known + [UNKNOWN] * (None in counts))


def episode_limits(rows: Sequence[Results], origins: Sequence[Source]) -> list[str]:
    """What a caption must say of episode limits: those that the papers' benchmark does not fix, or runs set.

    What others published is taken to have the domain's own.
    """
    limits: dict[str, set[int | None]] = {env: set() for row in rows for env in _envs(row)}
    for row in rows:
        if row.source in PUBLISHED_SOURCES:
            for env in _envs(row):
                limits[env].add(None)
    for source in origins:
        for env in limits.keys() & source.limits.keys():
            limits[env] |= source.limits[env]
    texts = []
    for domain in envs.DOMAINS.values():
        own = limits.get(domain.name, set()) or {None}
        if domain.name in limits and (not domain.benchmark or own != {None}):
            steps = sorted({limit or domain.episode_limit for limit in own})
            texts.append(f"{domain.name} {' and '.join(map(str, steps))}")
    return [f"episode limits in steps: {', '.join(texts)}"] if texts else []


def _envs(row: Results) -> set[str]:
    """The domains that a row has results of."""
    return {parse_scope(name)[0] for name in row.cells if not is_all(name)}


def as_grid(rows: Sequence[Results], text: str, *, per_task: bool) -> grid.Grid:
    """Methods x domains and "all"; or tasks x methods. text: the caption."""
    scopes = task_scopes(rows) if per_task else domain_scopes(rows)
    if not scopes:
        raise UserError("there is no result of a single task" if per_task else "there is no result of a domain")
    rows = with_some(rows, scopes)
    body = [[row.method, *own] for row, own in zip(rows, texts(rows, scopes), strict=True)]
    table = [["method", *map(heading, scopes)], *body]
    if per_task:
        table = [list(column) for column in zip(*table, strict=True)]
        table[0][0] = "task"
    return grid.Grid(text, table[0], table[1:])


def with_some(rows: Sequence[Results], scopes: Sequence[str]) -> list[Results]:
    """The rows that have a cell of one of the scopes."""
    return [row for row in rows if row.cells.keys() & set(scopes)]


def texts(rows: Sequence[Results], scopes: Sequence[str]) -> list[list[str]]:
    """Every row's cells of the scopes as they are printed; a `grid.Bold` is the best complete one of a protocol."""
    best = {name: _best(rows, name) for name in scopes}
    return [[_text(row, name, best[name]) for name in scopes] for row in rows]


def domain_scopes(rows: Sequence[Results]) -> list[str]:
    """The scopes of domains that some row has, in the suites' order, and every "all"."""
    present = dict.fromkeys(name for row in rows for name in row.cells)
    return [name for name in map(scope, envs.DOMAINS) if name in present] + [name for name in present if is_all(name)]


def task_scopes(rows: Sequence[Results]) -> list[str]:
    """The scopes of tasks that some row has, in the suites' order."""
    present = {name for row in rows for name in row.cells}
    tasks = [scope(domain.name, task) for domain in envs.DOMAINS.values() for task in range(1, domain.num_tasks + 1)]
    return [name for name in tasks if name in present]


def heading(name: str) -> str:
    """What stands above a scope's column."""
    if is_all(name):
        return name
    domain, task = parse_scope(name)
    return domain if task is None or envs.DOMAINS[domain].num_tasks == 1 else f"{domain}-task{task}"


def _best(rows: Sequence[Results], name: str) -> dict[str, int]:
    """{protocol: the highest rounded mean of its complete cells}."""
    best: dict[str, int] = {}
    for row in rows:
        if name in row.cells and row.cells[name].complete:
            mean = row.cells[name].percent
            best[row.protocol] = max(mean, best.get(row.protocol, mean))
    return best


def _text(row: Results, name: str, best: dict[str, int]) -> str:
    """45 ± 3 (3/8 seeds), with a dash for what is not there."""
    cell: Cell | None = row.cells.get(name)
    if cell is None:
        return "-"
    spread = "" if cell.std is None else f" ± {rounded(cell.std)}"
    marks = f" ({', '.join(cell.marks)})" if cell.marks else ""
    text = ("-" if cell.mean is None else f"{cell.percent}{spread}") + marks
    return grid.Bold(text) if cell.complete and cell.percent == best[row.protocol] else text


def tidy(rows: Sequence[Results], choice: Choice, phase: str) -> list[dict[str, Any]]:
    """A row of COLUMNS per method and scope; means and deviations in percent, unrounded, empty where there is none."""
    return [
        {
            "method": row.method,
            "scope": name,
            "step": row.step,
            "n_seeds": cell.counts["seeds"][0] if "seeds" in cell.counts else UNKNOWN,
            "mean_percent": _number(cell.mean),
            "std_percent_ddof1": _number(cell.std),
            "source": row.source,
            "protocol": row.protocol,
            "phase": phase,
            "value": "final" if row.source in PUBLISHED_SOURCES else choice.value,
            "missing": ", ".join(cell.marks),
        }
        for row in rows
        for name, cell in row.cells.items()
    ]


def _number(x: float | None) -> float | str:
    return "" if x is None else round(x, 4)


def over_tasks(origins: Sequence[Source], choice: Choice, rows: Sequence[Results], seed: int) -> list[dict[str, Any]]:
    """The statistics over all tasks of the methods of `origins`, called as in the table. seed: of the bootstrap."""
    names = {(row.source, row.protocol, row.method): own.method for row, own in zip(rows, labelled(rows), strict=True)}
    scores, seeds = {}, {}
    for source in origins:
        for method, own in statistics.scores_of(source, choice).items():
            name = names[source.name, source.protocol, method]
            scores[name] = own
            seeds[name] = source.num_seeds
    return statistics.aggregates(scores, seeds, seed)
