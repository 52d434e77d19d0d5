"""A fair comparison that two cores can make: every method tuned with the same effort, then compared on fresh seeds.

    python experiments/small.py tune        # four values of each method's settings, two seeds: 80 minutes
    python experiments/small.py compare     # the best value of each, four other seeds: 75 minutes
    python experiments/small.py show        # their tables, and the figures with --out=FOLDER

A command that was stopped goes on when it is given again; `sweep.py status --group=small-tuning` says how far it is.
The methods, their values, tasks and seeds stand in experiments/small_benchmark/design.py; the protocol is "small".
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from trqam_jax import console
from trqam_jax.errors import UserError

if TYPE_CHECKING:
    from experiments.analysis.rows import Run

FIGURES = ("curves", "kl")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(description=__doc__)
    add = parser.add_argument
    add("command", choices=["tune", "compare", "show"])
    add("--out_dir", default="runs", help="where runs leave their folders (default: %(default)s)")
    add("--dataset_dir", default="data", help="where generated data are kept (default: %(default)s)")
    add(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        help="processes at a time, which share the cores; default: one a core",
    )
    add("--out", type=pathlib.Path, help="of show: the folder to write figures to")
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        parser.error(f"--jobs={arguments.jobs}: expected at least 1")
    return arguments


def finished(folder: pathlib.Path) -> "list[Run]":
    """The group's runs of methods that came to their end; a line names how many did not."""
    from experiments.analysis.rows import read_runs
    from experiments.small_benchmark import design

    runs = [run for run in read_runs([folder]) if run.agent in design.METHODS]  # not those that trained BC policies
    done = [run for run in runs if run.finished]
    if len(done) < len(runs):
        print(f"{folder}: {len(runs) - len(done)} of {len(runs)} runs are not finished and left out", file=sys.stderr)
    return done


def show(out_dir: pathlib.Path, out: pathlib.Path | None) -> None:
    """Print the tables of the rows that lie there, and draw the figures."""
    from experiments.analysis import figures
    from experiments.analysis.grid import markdown
    from experiments.small_benchmark import design, results

    tuning = finished(out_dir / design.TUNING)
    print(markdown(results.tuning_grid(results.tuned(tuning))))
    print(f"\n{markdown(results.trust_region_grid(tuning))}")
    compared = out_dir / design.COMPARISON
    runs = finished(compared) if compared.exists() else []
    if not runs:
        return
    for grid in results.comparison_grids(runs):
        print(f"\n{markdown(grid)}")
    if out is not None:
        figures.draw(runs, out, FIGURES)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    out_dir = pathlib.Path(arguments.out_dir)
    try:
        if arguments.command == "show":
            show(out_dir, arguments.out)
            return 0
        from experiments.small_benchmark import design, plan, results
        from experiments.sweeps import launch

        flags = {"dataset_dir": arguments.dataset_dir}
        if arguments.command == "tune":
            sweep = plan.tuning(arguments.out_dir, flags)
        else:
            tuned = results.tuned(finished(out_dir / design.TUNING))
            chosen = results.settings(results.choose(tuned))
            sweep = plan.comparison(arguments.out_dir, flags, chosen)
        return launch.on_this_machine(sweep, arguments.jobs, [])
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    sys.exit(main())
