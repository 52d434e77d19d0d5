"""The figures, one file each. A new one is a file with a function of a `Study`, and a line in FIGURES."""

import pathlib
import sys
from collections.abc import Callable, Sequence

import matplotlib

from experiments.analysis.figures.budget import budget
from experiments.analysis.figures.collapse import collapse
from experiments.analysis.figures.curves import curves
from experiments.analysis.figures.kl import kl
from experiments.analysis.figures.path_kl import path_kl
from experiments.analysis.figures.study import Drawing, Missing, Study
from experiments.analysis.figures.style import STYLE
from experiments.analysis.figures.sweep import sweep
from experiments.analysis.released import ReleasedRun
from experiments.analysis.rows import Run
from trqam_jax.errors import UserError

FIGURES: dict[str, Callable[[Study], Drawing]] = {
    "curves": curves,
    "kl": kl,
    "path_kl": path_kl,
    "collapse": collapse,
    "budget": budget,
    "sweep": sweep,
}


def draw(
    runs: Sequence[Run | ReleasedRun], out: pathlib.Path, names: Sequence[str] = tuple(FIGURES)
) -> dict[str, Drawing]:
    """Write the figures that the runs have data for; say what the others lack. A UserError if none can be drawn."""
    study, drawings, lacking = Study(runs), {}, []
    for name in names:
        try:
            with matplotlib.rc_context(STYLE):
                drawing = drawings[name] = FIGURES[name](study)
                out.mkdir(parents=True, exist_ok=True)
                # Without a date, equal rows leave equal files.
                about = {"Title": name, "Subject": drawing.caption, "CreationDate": None}
                drawing.figure.savefig(out / f"{name}.pdf", metadata=about)
                drawing.figure.savefig(out / f"{name}.png", metadata={"Description": drawing.caption}, dpi=300)
        except Missing as error:
            lacking.append(f"{name}: skipped, {error}")
            print(lacking[-1], file=sys.stderr)
            continue
        print(f"{out / name}.pdf, .png: {drawing.caption}")
    if not drawings:
        raise UserError(f"There is nothing to draw. {'; '.join(lacking)}")
    return drawings
