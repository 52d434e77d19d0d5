"""The papers' table from the folders of runs, from released results, or as published.

    python experiments/table.py runs/sweep                                  # methods x domains
    python experiments/table.py --published=trqam_paper                     # a paper's own, through the same code
    python experiments/table.py runs/sweep --published=trqam_paper --format=latex
    python experiments/table.py results.pkl --release=qam --statistics      # a released file (interchange.py)

RUNS are folders that hold config.json and eval.csv, or parents of such. What is missing for a complete cell is said in
the cell; what else should be known is said on stderr.
"""

import csv
import pathlib
import sys
from argparse import Namespace
from typing import Any, TextIO

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import envs
from experiments import cli, interchange
from experiments.analysis import grid
from experiments.analysis import statistics as aggregates
from experiments.analysis.cells import (
    ALL,
    PUBLISHED,
    PUBLISHED_STEPS,
    SCOPES,
    Cell,
    Choice,
    Results,
    differing_alls,
    parse_scope,
    published,
    results,
    rounded,
    scope,
    step_of,
)
from experiments.analysis.rows import Source, mixtures, name_unfinished, read_runs, sources
from trqam_jax.errors import UserError

FORMATS = ("markdown", "latex", "csv")
VALUES = ("final", "best", "last_k")
COLUMNS = ["method", "scope", "step", "n_seeds", "mean_percent", "std_percent_ddof1"]  # as in published/*.csv
COLUMNS += ["source", "protocol", "phase", "value", "missing"]


def parse(argv: list[str] | None) -> Namespace:
    """The command line, with combinations that mean nothing refused."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=pathlib.Path, metavar="RUNS", help="folders, or released FILE.pkl")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="default: %(default)s")
    parser.add_argument("--published", choices=PUBLISHED, help="a paper's values, beside those of RUNS or alone")
    parser.add_argument("--release", choices=interchange.RELEASES, help="whose format FILE.pkl is in")
    parser.add_argument("--phase", choices=PUBLISHED_STEPS, default="offline", help="default: %(default)s")
    parser.add_argument("--step", type=int, help="the last evaluation that counts (default: the last there is); "
                        "online steps are counted on from the offline ones")  # fmt: skip
    parser.add_argument("--value", choices=VALUES, default="final", help="of the evaluations up to the step: the "
                        "final one, each replica's best, or the mean of the last K (default: %(default)s)")  # fmt: skip
    parser.add_argument("--last", type=int, help="K, how many evaluations --value=last_k takes")
    parser.add_argument("--per_task", action="store_true", help="a row per task and a column per method")
    parser.add_argument("--statistics", action="store_true", help="add IQM, median, mean, optimality gap, probability "
                        "of improvement and performance profiles; with --format=csv, instead of the table")  # fmt: skip
    parser.add_argument("--bootstrap_seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--mixed", action="store_true", help="allow several protocols or versions in one table")
    arguments = parser.parse_args(argv)
    if not (arguments.runs or arguments.published):
        parser.error("nothing to show: give RUNS, or --published")
    if (arguments.value == "last_k") != (arguments.last is not None) or (arguments.last or 1) < 1:
        parser.error("--value=last_k and --last=K (1 or more) belong together")
    if arguments.release is None and any(path.suffix == ".pkl" for path in arguments.runs):
        parser.error(f"say whose format the .pkl is in: --release={' or '.join(interchange.RELEASES)}")
    if arguments.statistics and not arguments.runs:
        parser.error("--statistics needs every seed's results, which a published table does not give")
    return arguments


def collect(arguments: Namespace) -> tuple[list[Source], list[str]]:
    """The sources of results, and what a reader of the table must know about them."""
    pickles = [path for path in arguments.runs if path.suffix == ".pkl"]
    folders = [path for path in arguments.runs if path not in pickles]
    runs = read_runs(folders)
    others = {str(path): interchange.RELEASES[arguments.release].protocol for path in pickles}
    if arguments.published:
        others[f"--published={arguments.published}"] = PUBLISHED[arguments.published].protocol
    problems = mixtures(runs, others)
    if problems and not arguments.mixed:
        raise UserError(f"{'; '.join(problems)}; show them apart, or add --mixed if that is what you want")
    name_unfinished(runs)
    files = [interchange.load(path, arguments.release, arguments.phase) for path in pickles]
    return [*sources(runs, arguments.phase), *files], problems


def name_short(source: Source, choice: Choice) -> None:
    """A line on stderr for every method and domain with curves that do not reach the step."""
    step = step_of(source, choice)
    short: dict[tuple[str, str], list[int]] = {}
    for line, curve in source.curves.items():
        if step not in curve:
            short.setdefault((line.method, line.domain), []).append(max(curve, default=0))
    for (method, domain), ends in short.items():
        print(
            f"{source.name}: {method} on {domain} has {len(ends)} curve(s) without an evaluation at step {step}, "
            f"the first of them ends at {min(ends)}; --step=N takes the values of an earlier one",
            file=sys.stderr,
        )


def labelled(rows: list[Results]) -> list[Results]:
    """With source and protocol in the method's label, where the table has several of them."""
    several = len({row.source for row in rows}) > 1, len({row.protocol for row in rows}) > 1
    if not any(several):
        return rows
    extra = [[row.source] * several[0] + [f"protocol {row.protocol}"] * several[1] for row in rows]
    return [row._replace(method=f"{row.method} ({', '.join(more)})") for row, more in zip(rows, extra, strict=True)]


def caption(rows: list[Results], arguments: Namespace, remarks: list[str]) -> str:
    """What the numbers are: convention, value, phase, step, protocol and source."""
    values = {
        "final": "the evaluation at",
        "best": "each replica's best evaluation up to",
        "last_k": f"the mean of each replica's last {arguments.last} evaluations up to",
    }
    parts = []
    for source, protocol, step in dict.fromkeys((row.source, row.protocol, row.step) for row in rows):
        what = f"{PUBLISHED[arguments.published].title}, at" if source == "published" else values[arguments.value]
        own = [row for row in rows if (row.source, row.protocol) == (source, protocol)]
        seeds = max(cell.counts["seeds"][1] for row in own for cell in row.cells.values())
        where = f"step {step:,} of the {arguments.phase} phase; protocol {protocol}; seeds: {seeds}"
        parts.append(f"{source}: {what} {where}")
    convention = (
        "Success in percent, mean ± sample standard deviation over seeds. A domain's five tasks are averaged per seed; "
        "all: the mean of the ten domains' rounded means."
    )
    parts.append("bold: the best complete cell" + " of a protocol" * (len({row.protocol for row in rows}) > 1))
    if any(cell.marks for row in rows for cell in row.cells.values()):
        parts.append(
            "in brackets: how much is there of a complete cell; frozen replicas have diverged and are left out"
        )
    return " ".join([convention, *(f"{part[0].upper()}{part[1:]}." for part in [*parts, *remarks])])


def as_grid(rows: list[Results], text: str, *, per_task: bool) -> grid.Grid:
    """Methods x domains and "all"; or tasks x methods."""
    present = {name for row in rows for name in row.cells}
    tasks = [scope(domain.name, task) for domain in envs.DOMAINS.values() for task in range(1, domain.num_tasks + 1)]
    scopes = [name for name in (tasks if per_task else [*SCOPES, ALL]) if name in present]
    if not scopes:
        raise UserError("there is no result of a single task" if per_task else "there is no result of a domain")
    best = {name: _best(rows, name) for name in scopes}
    body = [[row.method, *(_text(row, name, best[name]) for name in scopes)] for row in rows]
    table = [["method", *map(_heading, scopes)], *body]
    if per_task:
        table = [list(column) for column in zip(*table, strict=True)]
        table[0][0] = "task"
    return grid.Grid(text, table[0], table[1:])


def _heading(name: str) -> str:
    if name == ALL:
        return ALL
    domain, task = parse_scope(name)
    return domain if task is None else f"{domain}-task{task}"


def _best(rows: list[Results], name: str) -> dict[str, int]:
    """{protocol: the highest rounded mean of its complete cells}."""
    best: dict[str, int] = {}
    for row in rows:
        if name in row.cells and row.cells[name].complete:
            mean = rounded(row.cells[name].mean)
            best[row.protocol] = max(mean, best.get(row.protocol, mean))
    return best


def _text(row: Results, name: str, best: dict[str, int]) -> str:
    """45 ± 3 (3/8 seeds), with a dash for what is not there."""
    cell: Cell | None = row.cells.get(name)
    if cell is None:
        return "-"
    spread = "" if cell.std is None else f" ± {rounded(cell.std)}"
    marks = f" ({', '.join(cell.marks)})" if cell.marks else ""
    text = ("-" if cell.mean is None else f"{rounded(cell.mean)}{spread}") + marks
    return grid.Bold(text) if cell.complete and rounded(cell.mean) == best[row.protocol] else text


def tidy(rows: list[Results], arguments: Namespace) -> list[dict[str, Any]]:
    """A row of COLUMNS per method and scope; means and deviations in percent, unrounded, empty where there is none."""
    number = lambda x: "" if x is None else round(x, 4)
    return [
        {
            **{"method": row.method, "scope": name, "step": row.step, "n_seeds": cell.counts["seeds"][0]},
            **{"mean_percent": number(cell.mean), "std_percent_ddof1": number(cell.std)},
            **{"source": row.source, "protocol": row.protocol, "phase": arguments.phase},
            **{"value": "final" if row.source == "published" else arguments.value, "missing": ", ".join(cell.marks)},
        }
        for row in rows
        for name, cell in row.cells.items()
    ]


def show(arguments: Namespace, file: TextIO) -> None:
    """Everything that the command line asks for."""
    origins, remarks = collect(arguments)
    choice = Choice(arguments.value, arguments.last or 1, arguments.step)
    for source in origins:
        name_short(source, choice)
    rows = [row for source in origins for row in results(source, choice)]
    if arguments.published:
        step = PUBLISHED_STEPS[arguments.phase] if arguments.step is None else arguments.step
        papers = published(arguments.published, step)
        rows += papers
        if differing := differing_alls(arguments.published, step, papers):
            remarks.append(f'the paper\'s own "all", without rounding in between, differs for {", ".join(differing)}')
    named = labelled(rows)
    statistics: list[dict[str, Any]] = []
    if arguments.statistics:
        label = {(row.source, row.protocol, row.method): name.method for row, name in zip(rows, named, strict=True)}
        scores, seeds = {}, {}
        for source in origins:
            for method, own in aggregates.scores_of(source, choice).items():
                name = label[source.name, source.protocol, method]
                scores[name], seeds[name] = own, source.num_seeds
        statistics = aggregates.aggregates(scores, seeds, arguments.bootstrap_seed)
    if arguments.format == "csv":
        columns, lines = (aggregates.COLUMNS, statistics) if statistics else (COLUMNS, tidy(rows, arguments))
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return
    grids = [as_grid(named, caption(rows, arguments, remarks), per_task=arguments.per_task)]
    render = {"markdown": grid.markdown, "latex": grid.latex}[arguments.format]
    print("\n\n".join(map(render, [*grids, *aggregates.grids(statistics)])), file=file)


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    try:
        show(arguments, sys.stdout)
    except (UserError, OSError) as error:
        cli.fail(error)


if __name__ == "__main__":
    main()
