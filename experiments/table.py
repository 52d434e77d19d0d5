"""The papers' table from the folders of runs, from released results, or as published.

    python experiments/table.py runs/sweep                                  # methods x domains
    python experiments/table.py --published=trqam_paper --format=latex      # a paper's own, through the same code
    python experiments/table.py runs/sweep --released=trqam --per_task      # the authors' own curves, downloaded once
    python experiments/table.py results.pkl --release=qam --statistics      # a file in a released format (export.py)

RUNS are folders that hold config.json and eval.csv, or parents of such. What is missing for a complete cell is said in
the cell; what else should be known is said on stderr.
"""

import pathlib
import sys
from argparse import Namespace
from typing import TextIO

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from experiments.analysis import grid, released, statistics, table
from experiments.analysis.cells import VALUES, Choice
from experiments.analysis.published import PUBLISHED, PUBLISHED_STEPS
from experiments.analysis.rows import Source, name_unfinished, read_runs, sources
from trqam_jax import console
from trqam_jax.errors import UserError


def parse(argv: list[str] | None) -> Namespace:
    """The command line, with combinations that mean nothing refused."""
    parser = console.Parser(description=__doc__)
    add = parser.add_argument
    add("runs", nargs="*", type=pathlib.Path, metavar="RUNS", help="folders, or released FILE.pkl")
    add("--format", choices=[*grid.FORMATS, "csv"], default="markdown", help="default: %(default)s")
    add("--published", type=cli.names("table", PUBLISHED), default=(), metavar="NAME,...", help="a "
        "paper's values, or what others got with its code (trqam_reruns), beside those of RUNS or alone: of "
        f"{', '.join(PUBLISHED)}")  # fmt: skip
    add("--released", type=cli.names("release", released.RELEASES), default=(), metavar="NAME,...", help="every seed's "
        f"curves as a paper's authors released them, downloaded once: of {', '.join(released.RELEASES)}")  # fmt: skip
    add("--release", choices=released.RELEASES, help="whose format FILE.pkl is in")
    add("--phase", choices=PUBLISHED_STEPS, default="offline", help="default: %(default)s")
    add("--step", type=int, help="the last evaluation that counts (default: the last there is); online steps are "
        "counted on from the offline ones")  # fmt: skip
    add("--value", choices=VALUES, default="final", help="of the evaluations up to the step: the final one, each "
        "replica's best, or the mean of the last K (default: %(default)s)")  # fmt: skip
    add("--last", type=int, help="K, how many evaluations --value=last_k takes")
    add("--per_task", action="store_true", help="a row per task and a column per method")
    add("--statistics", action="store_true", help="add IQM, median, mean, optimality gap, probability of improvement "
        "and performance profiles; with --format=csv, instead of the table")  # fmt: skip
    add("--bootstrap_seed", type=int, default=0, help="default: %(default)s")
    add("--mixed", action="store_true", help="allow several protocols or versions in one table")
    arguments = parser.parse_args(argv)
    if not (arguments.runs or arguments.published or arguments.released):
        parser.error("nothing to show: give RUNS, --published or --released")
    if (arguments.value == "last_k") != (arguments.last is not None) or (arguments.last or 1) < 1:
        parser.error("--value=last_k and --last=K (1 or more) belong together")
    if arguments.bootstrap_seed < 0:
        parser.error(f"--bootstrap_seed={arguments.bootstrap_seed}: expected 0 or more")
    if arguments.release is None and any(path.suffix == ".pkl" for path in arguments.runs):
        parser.error(f"say whose format the .pkl is in: --release={' or '.join(released.RELEASES)}")
    if arguments.statistics and not (arguments.runs or arguments.released):
        parser.error("--statistics needs every seed's results, which a published table does not give")
    return arguments


def origins_of(arguments: Namespace) -> tuple[list[Source], list[str]]:
    """The sources of results, and what a reader of the table must know about them."""
    pickles = [path for path in arguments.runs if path.suffix == ".pkl"]
    runs = read_runs(path for path in arguments.runs if path not in pickles)
    others = {str(path): released.RELEASES[arguments.release].protocol for path in pickles}
    others |= {f"--released={name}": released.RELEASES[name].protocol for name in arguments.released}
    others |= {f"--published={paper}": PUBLISHED[paper].protocol for paper in arguments.published}
    problems = table.refuse_mixed(runs, others, mixed=arguments.mixed)
    name_unfinished(runs)
    files = [released.load(path, arguments.release, arguments.phase) for path in pickles]
    for name in arguments.released:
        files.append(released.load(released.fetched(name), name, arguments.phase, f"released, {name}"))
    return [*sources(runs, arguments.phase), *files], problems


def show(arguments: Namespace, file: TextIO) -> None:
    """Everything that the command line asks for."""
    origins, remarks = origins_of(arguments)
    choice, phase = Choice(arguments.value, arguments.last or 1, arguments.step), arguments.phase
    for source in origins:
        table.name_short(source, choice)
    rows, more = table.collect(origins, choice, phase, arguments.published)
    overall = table.over_tasks(origins, choice, rows, arguments.bootstrap_seed) if arguments.statistics else []
    if arguments.format == "csv":
        columns = statistics.COLUMNS if overall else table.COLUMNS
        grid.write_csv(file, columns, overall or table.tidy(rows, choice, phase))
        return
    rows = table.labelled(rows)
    remarks = [*remarks, *more, *table.episode_limits(rows, origins)]
    text = table.caption(rows, choice, phase, remarks, arguments.published)
    grids = [table.as_grid(rows, text, per_task=arguments.per_task), *statistics.grids(overall)]
    print("\n\n".join(map(grid.FORMATS[arguments.format], grids)), file=file)


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    try:
        show(arguments, sys.stdout)
    except (UserError, OSError) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    main()
