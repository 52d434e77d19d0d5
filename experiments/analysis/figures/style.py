"""What figures share: sizes, colours, panels, axes, legends, intervals, and the sentences of captions."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.analysis.figures.study import Series, Study, value_range
from trqam_jax import stats

SINGLE, DOUBLE = 3.3, 6.8  # inches
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 8),
    **dict.fromkeys(("pdf.fonttype", "ps.fonttype"), 42),  # TrueType, embedded: text stays text
    **dict.fromkeys(("axes.linewidth", "grid.linewidth", "xtick.major.width", "ytick.major.width"), 0.5),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    "grid.color": "0.88",
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
}
# Okabe and Ito's palette, with wine and grey for yellow and black. Line and marker alone tell 28 methods apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (4, 2)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1)))
REFERENCE = {"color": "black", "linestyle": (0, (2, 2)), "linewidth": 0.8}  # the BC policy, the budget
ONLINE = {"facecolor": "0.93", "linewidth": 0, "zorder": 0}
CROSS = {"linestyle": "", "marker": "x", "markersize": 5, "markeredgewidth": 1.3}  # a replica diverged
DIVERGED_LINE = {"linestyle": (0, (3, 1)), "linewidth": 0.6, "marker": ""}
THIN = {"linestyle": "-", "linewidth": 0.6, "marker": ""}
PLAIN = FuncFormatter(lambda x, _: f"{x:g}")
RESAMPLES = 2_000  # at every step of every curve
BC_POLICY = "BC policy"
DIVERGED_REPLICA = "replica diverged"
MARKERS_PER_LINE = 6
FEW_LINES = 4  # beyond, bands that lie on one another are paler
MAX_EXPONENT = 308  # of a float
MOST_DECADES = 5  # of ticks on a logarithmic axis


def look(study: Study, label: str) -> dict[str, Any]:
    """Colour, line and marker of a method, the same in all figures of a call."""
    return look_of(study.look(label))


def look_of(i: int) -> dict[str, Any]:
    """Of the i-th method. A round of the colours begins three further on, so that lines of a colour differ as well."""
    colour = COLOURS[(i + 3 * (i // len(COLOURS))) % len(COLOURS)]
    return {"color": colour, "linestyle": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)]}


# ---- numbers


def bc_success(series: Sequence[Series]) -> float:
    """The BC policy's success, mean over the methods that evaluated it; NaN where none did."""
    found = [float(stats.mean(one.at(0))) for one in series if 0 in one.steps]
    return float(np.mean(found)) if found else float("nan")


def interval(domains: Sequence[Series], step: int) -> stats.Interval:
    """Mean over domains of their tasks' means, and the ends of its 95 % interval: NaN if no task has two seeds."""
    by_domain = [one.at(step) for one in domains]
    tasks = [runs for own in by_domain for runs in own]
    weights = [1 / len(own) for own in by_domain for _ in own]
    average = lambda tasks: np.average([runs.mean(-1) for runs in tasks], axis=0, weights=weights)
    if max(map(len, tasks)) == 1:
        return stats.Interval(float(average(tasks)), np.nan, np.nan)
    # One seed for all steps: a resample keeps a run's steps together.
    return stats.stratified_bootstrap(average, tasks, resamples=RESAMPLES)


# ---- sentences


def cuts(series: Iterable[Series]) -> list[str]:
    """Which lines end before their longest replica does."""
    ends = {(one.label, one.env): one.steps.max(initial=0) for one in series if one.longest not in one.steps}
    text = "{} on {} is drawn to {}, as far as all its replicas go."
    return [text.format(label, env, short(end)) for (label, env), end in ends.items()]


def divergences(series: Iterable[Series]) -> list[str]:
    """How many replicas of which method diverged, and when."""
    sentences = []
    for one in series:
        steps = one.diverged[np.isfinite(one.diverged)]
        if len(steps):
            when = " to ".join(dict.fromkeys([short(steps.min()), short(steps.max())]))
            have = f"{len(steps)} of {len(one.diverged)} replicas diverged"
            sentences.append(f"{one.label} on {one.env}: {have}, by update {when}.")
    return sentences


def finite_notes(series: Sequence[Series]) -> list[str]:
    """What a reader must know where a replica's value is infinite."""
    if all(np.isfinite(one.values).all() for one in series):
        return []
    return [
        "A replica counts as infinite from where it is no longer finite: a band ends with the first of them, a median "
        "with half."
    ]


def count(series: Sequence[Series]) -> str:
    """How many replicas the series have."""
    counts = sorted({len(one.tasks) for one in series})
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} replicas per method and domain"


def short(number: float) -> str:
    """400, 250K, 1.5M."""
    size, unit = next(pair for pair in ((1e6, "M"), (1e3, "K"), (1, "")) if abs(number) >= pair[0] or pair[0] == 1)
    return f"{number / size:g}{unit}"


# ---- drawing


def grid(titles: Sequence[str], rows: int) -> tuple[Figure, dict[str, list[Axes]]]:
    """Small multiples: for each title, `rows` axes below one another."""
    blocks = -(-len(titles) // 4)
    columns = -(-len(titles) // blocks)
    height = (1.55 if columns > 1 else 2.1) if rows == 1 else 1.25 * rows
    figure = Figure((SINGLE if columns == 1 else DOUBLE, blocks * height + 0.3), layout="constrained")
    axes = figure.subplots(blocks * rows, columns, squeeze=False)
    panels = {}
    for i in range(blocks * columns):
        own = [axes[i // columns * rows + row, i % columns] for row in range(rows)]
        if i < len(titles):
            panels[titles[i]] = own
            own[0].set_title(titles[i])
        else:
            for axis in own:
                axis.remove()
    return figure, panels


def line(
    axis: Axes,
    x: Sequence[int] | np.ndarray,
    centre: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    label: str,
    study: Study,
    which: int,
) -> None:
    """A line with its band. which: the line's number, so that markers of different lines are apart."""
    own = look(study, label)
    stride = max(1, len(x) // MARKERS_PER_LINE)
    axis.plot(x, centre, label=label, markevery=(which % stride, stride), **own)
    alpha = 0.18 if study.lines <= FEW_LINES else 0.08
    axis.fill_between(x, low, high, color=own["color"], alpha=alpha, linewidth=0)


def median_line(axis: Axes, study: Study, one: Series, which: int) -> None:
    """Median and range, as far as they are finite, and every diverged replica."""
    finite = lambda values: np.where(np.isfinite(values), values, np.nan)
    middle, (low, high) = np.median(one.values, 1), value_range(one)
    line(axis, one.steps, finite(middle), finite(low), finite(high), label=one.label, study=study, which=which)
    diverged_replicas(axis, study, one)


def diverged_replicas(axis: Axes, study: Study, one: Series) -> None:
    """Each diverged replica by itself, thin, with a cross at its last finite value."""
    colour = look(study, one.label)["color"]
    for i in np.flatnonzero(np.isfinite(one.diverged)):
        shown = (one.steps <= one.diverged[i]) & np.isfinite(one.values[:, i])
        steps, values = one.steps[shown], one.values[shown, i]
        axis.plot(steps, values, label=f"{one.label}, {DIVERGED_REPLICA}", color=colour, **DIVERGED_LINE)
        axis.plot(steps[-1:], values[-1:], color=colour, zorder=3, **CROSS)


def diverged_reference(series: Iterable[Series]) -> dict[str, dict[str, Any]]:
    """The cross for `legend`, if a replica of the series diverged."""
    found = any(np.isfinite(one.diverged).any() for one in series)
    return {DIVERGED_REPLICA: {"color": "black", **CROSS}} if found else {}


def reference(axis: Axes, y: float, label: str) -> None:
    """A level to compare with, if there is one."""
    if np.isfinite(y):
        axis.axhline(y, label=label, **REFERENCE)


def updates_axes(figure: Figure, panels: Mapping[str, list[Axes]], border: int | None) -> None:
    """The same axis of updates for all panels, the online phase shaded."""
    axes = [axis for own in panels.values() for axis in own]
    end = max(axis.dataLim.x1 for axis in axes)
    for axis in axes:
        axis.set_xlim(-0.02 * end, 1.02 * end)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
        if border is not None and border < end:
            axis.axvspan(border, 1.02 * end, **ONLINE)
            axis.axvline(border, color="0.5", linewidth=0.6)
    for own in panels.values():
        for axis in own[:-1]:
            axis.tick_params(labelbottom=False)
    figure.supxlabel("updates", fontsize=8)


def log_axis(axis: Axes) -> None:
    """Logarithmic, with room for at least one labelled tick."""
    axis.set_yscale("log")
    low, high = axis.dataLim.minposy, axis.dataLim.y1
    if high < 20 * low:
        axis.set_ylim(low / 2, high * 2)
    if high < 1e4 * low:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
        axis.yaxis.set_major_formatter(PLAIN)
    else:
        axis.yaxis.set_major_locator(FixedLocator(_decades(low, high)))
    axis.yaxis.set_minor_locator(NullLocator())


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten around low to high: 1, 1e10, 1e20, 1e30 and 1e40, say."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200) if (last - first) // n < MOST_DECADES)
    return [10.0**n for n in range(first // stride * stride, min(last, MAX_EXPONENT) + 1, stride)]


def values_axis(axis: Axes, values: Sequence[float], most: int) -> None:
    """A tick at every value of a setting, or at `most` of many; logarithmic if they span more than a decade."""
    if values[0] > 0 and values[-1] > 10 * values[0]:
        axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(values[:: -(-len(values) // most)]))
    axis.xaxis.set_major_formatter(PLAIN)
    axis.xaxis.set_minor_locator(NullLocator())


def left(panels: Mapping[str, list[Axes]], row: int, text: str, *, shared: bool = False) -> None:
    """Label the first column's axes; shared: the others need no numbers."""
    for own in panels.values():
        place = own[row].get_subplotspec()
        assert place is not None  # panels are made by `grid`
        if place.is_first_col():
            own[row].set_ylabel(text)
        elif shared:
            own[row].tick_params(labelleft=False)


def legend(
    figure: Figure,
    study: Study,
    labels: Sequence[str],
    references: Mapping[str, Mapping[str, Any]],
    border: int | None = None,
) -> None:
    """Above the panels, where no data are. references: {label: look} of lines that belong to no method."""
    handles: list[Any] = [Line2D([], [], label=label, **look(study, label)) for label in labels]
    handles += [Line2D([], [], label=label, **own) for label, own in references.items()]
    handles += [] if border is None else [Patch(label="online phase", **ONLINE)]
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(len(handles), max(1, int(figure.get_figwidth() * 15 / (widest + 7))))
    figure.set_figheight(figure.get_figheight() + 0.17 * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=2.6)
