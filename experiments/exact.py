"""The exact study: TRQAM, QAM and the ablation on problems whose answers are known, in minutes on two cores.

    python experiments/exact.py --out=figures

Prints a table of exact and measured values. --out: the folder for exact.csv and exact.png. Needs no simulator and no
data; two runs give equal rows. What is shown and why it is exact: docs/exact.md.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from experiments.exact_study import run
from experiments.exact_study.figure import save
from experiments.exact_study.results import table, write_csv
from trqam_jax import console
from trqam_jax.backend import check_modes, keep_compiled_programs
from trqam_jax.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    parser = console.Parser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, help="the folder to write to; default: the table alone")
    arguments = parser.parse_args(argv)
    keep_compiled_programs()
    try:
        check_modes()
        panels = run()
        rows = [row for panel in panels.values() for row in panel.rows]
        print(table(rows))
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            write_csv(rows, arguments.out / "exact.csv")
            save(panels, arguments.out / "exact.png")
            print(f"\n{arguments.out / 'exact.csv'}, {arguments.out / 'exact.png'}")
    except (UserError, OSError) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    main()
