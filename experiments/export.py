"""Results of runs in the papers' released format, a pickle of {(scope, method): success (evaluations, seeds)}.

    python experiments/export.py RUNS... --out=results.pkl --release=trqam

`table.py results.pkl --release=trqam` reads such a file, of anyone (experiments/analysis/released.py says what it
holds). What a run has not evaluated is nan.
"""

import pathlib
import pickle
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from experiments.analysis.released import RELEASES, export
from experiments.analysis.rows import read_runs
from trqam_jax import console
from trqam_jax.errors import UserError


def main(argv: list[str] | None = None) -> None:
    parser = console.Parser(description=__doc__)
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, metavar="RUNS", help="folders of runs, or parents of some"
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the file to write")
    parser.add_argument("--release", choices=RELEASES, default="trqam", help="whose shape (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        content = export(read_runs(arguments.runs), arguments.release)
        with arguments.out.open("xb") as file:
            pickle.dump(content, file)
    except (UserError, OSError) as error:
        cli.fail(error)
    rows, seeds = next(iter(content.values())).shape
    print(f"{arguments.out}: {len(content)} arrays of {rows} evaluations and {seeds} seeds")


if __name__ == "__main__":
    console.prepare()
    main()
