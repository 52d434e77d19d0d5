"""Figures for print, from the rows that runs leave behind.

    python experiments/figures.py runs/default --out=figures --only=curves,kl
    python experiments/figures.py runs/sweep --released=trqam --out=figures --only=curves

RUNS are run folders or folders above them. Each figure becomes NAME.pdf and NAME.png, one column (3.3 in) or two
(6.8 in) wide. Its caption is printed, and lies in the metadata of both files.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from experiments.analysis import released
from experiments.analysis.figures import FIGURES, draw
from experiments.analysis.released import RELEASES
from experiments.analysis.rows import read_runs
from trqam_jax import console
from trqam_jax.errors import UserError, suggest


def main(argv: Sequence[str] | None = None) -> None:
    parser = console.Parser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=pathlib.Path, help="run folders, or folders above them")
    parser.add_argument(
        "--released",
        type=cli.names("release", RELEASES),
        default=(),
        metavar="NAME,...",
        help=f"learning curves as a paper's authors released them, downloaded once: of {', '.join(RELEASES)}",
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the folder to write to")
    parser.add_argument("--only", default=",".join(FIGURES), help="which figures (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if not (arguments.runs or arguments.released):
        parser.error("nothing to draw: give RUNS or --released")
    names = arguments.only.split(",")
    try:
        for name in names:
            if name not in FIGURES:
                raise UserError(f"--only={arguments.only}: no figure is called {name!r}.{suggest(name, FIGURES)}")
        runs = read_runs(arguments.runs) if arguments.runs else []
        others = [run for name in arguments.released for run in released.curves(released.fetched(name), name)]
        draw([*runs, *others], arguments.out, names)
    except (UserError, OSError) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    main()
