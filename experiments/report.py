"""One HTML file to look at results with: the table, every seed's curves, pairs of methods, settings and costs.

    python experiments/report.py runs/sweep --out=report.html --published=trqam_paper

RUNS are run folders or folders above them. The file needs nothing else: it can be sent, and opened without a network.
Of videos it holds the latest as far as they fit; the others it links, by paths relative to itself.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from experiments.analysis.published import PUBLISHED
from experiments.analysis.report.collect import collect
from experiments.analysis.report.page import MOST_BYTES, page
from experiments.analysis.report.runs import videos
from experiments.analysis.rows import read_runs
from trqam_jax import console
from trqam_jax.errors import UserError
from trqam_jax.files import write_text


def report(arguments: argparse.Namespace) -> str:
    """Write the page; returns what there is to say of it."""
    out, runs = arguments.out, read_runs(arguments.runs)
    data = collect(runs, arguments.published, step=arguments.step, mixed=arguments.mixed)
    room = MOST_BYTES - len(page({**data, "videos": []}).encode())
    filmed = videos(runs, room, out)
    text = page({**data, "videos": filmed})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    linked = sum("link" in video for video in filmed)
    notes = [f"{out}: {len(text.encode()) / 1e6:.2f} MB"]
    notes += [f"{len(filmed) - linked} videos in it, {linked} linked by relative paths"] * bool(filmed)
    notes += [f"curves of training have at most {data['points']} points each"]
    return "; ".join(notes)


def main(argv: Sequence[str] | None = None) -> None:
    parser = console.Parser(description=__doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=pathlib.Path, metavar="RUNS", help="run folders, or folders above them")
    add("--out", required=True, type=pathlib.Path, help="the HTML file to write")
    add("--published", type=cli.names("table", PUBLISHED), default=(), metavar="NAME,...", help="rows of papers, as in "
        "table.py")  # fmt: skip
    add("--step", type=int, help="the last evaluation that counts, as in table.py (default: the last there is, and the "
        "last that all replicas have)")  # fmt: skip
    add("--mixed", action="store_true", help="allow several protocols or versions in one table")
    arguments = parser.parse_args(argv)
    try:
        print(report(arguments))
    except (UserError, OSError) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    main()
