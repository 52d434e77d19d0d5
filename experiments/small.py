"""A fair comparison that two cores can make: every method tuned with the same effort, then compared on fresh seeds.

    python experiments/small.py tune        # four values of each method's settings, two seeds: about an hour
    python experiments/small.py compare     # the best value of each, four other seeds: about an hour
    python experiments/small.py show        # both tables, and the figures with --out=FOLDER

A command that was stopped goes on when it is given again; `sweep.py status --group=small-tuning` says how far it is.
The methods, their values, tasks and seeds stand in experiments/small_benchmark/design.py; the protocol is "small".
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from trqam_jax import console
from trqam_jax.errors import UserError

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


def show(out_dir: pathlib.Path, out: pathlib.Path | None) -> None:
    """Print the tables of the rows that lie there, and draw the figures."""
    from experiments.analysis import figures
    from experiments.analysis.grid import markdown
    from experiments.analysis.rows import read_runs
    from experiments.small_benchmark import design, results

    print(markdown(results.tuning_grid(results.tuned(read_runs([out_dir / design.TUNING])))))
    compared = out_dir / design.COMPARISON
    if not compared.exists():
        return
    runs = [run for run in read_runs([compared]) if run.finished]
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
        from experiments.analysis.rows import read_runs
        from experiments.small_benchmark import design, plan, results
        from experiments.sweeps import launch

        flags = {"dataset_dir": arguments.dataset_dir}
        if arguments.command == "tune":
            sweep = plan.tuning(arguments.out_dir, flags)
        else:
            runs = [run for run in read_runs([out_dir / design.TUNING]) if run.finished]
            chosen = results.settings(results.choose(results.tuned(runs)))
            sweep = plan.comparison(arguments.out_dir, flags, chosen)
        return launch.on_this_machine(sweep, arguments.jobs, [])
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    sys.exit(main())
