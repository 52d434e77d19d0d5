"""Figures for print, from the rows that runs leave behind.

    python experiments/figures.py runs/default --out=figures --only=curves,kl

RUNS are run folders or folders above them. Each figure becomes NAME.pdf and NAME.png, one column (3.3 in) or two
(6.8 in) wide. Its caption is printed, and lies in the metadata of both files.
"""

import argparse
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from experiments.analysis.rows import Row, RunData, method, read_runs, read_train
from trqam_jax import stats
from trqam_jax.errors import UserError, suggest

SINGLE, DOUBLE = 3.3, 6.8  # inches
STYLE = {
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
# Okabe and Ito's palette without yellow and black. Line and marker alone, in grey, tell 28 methods apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (4, 2)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1)))
REFERENCE = {"color": "black", "linestyle": (0, (2, 2)), "linewidth": 0.8}  # the cloned policy, the budget
ONLINE = {"facecolor": "0.93", "linewidth": 0, "zorder": 0}
RESAMPLES = 2_000  # at every step of every curve
CLONED, BUDGET, AVERAGE = "cloned policy", "KL budget", "running average"
PLAIN = FuncFormatter(lambda x, _: f"{x:g}")
THIN = {"linestyle": "-", "linewidth": 0.6, "marker": ""}


class Missing(UserError):
    """The runs do not have what a figure is made of."""


class Drawing(NamedTuple):
    """A figure and the text that belongs under it."""

    figure: Figure
    caption: str


class Series(NamedTuple):
    """A metric of one method's R replicas in one domain, at the S steps that all of them have."""

    label: str
    env: str
    budget: float | None  # nats per action
    steps: np.ndarray  # (S,) updates since cloning; 0 is the cloned policy
    values: np.ndarray  # (S, R)
    tasks: np.ndarray  # (R,)
    longest: int  # the last step of the replica that is furthest

    def of_task(self, task: int) -> "Series":
        """The replicas of one task."""
        return self._replace(values=self.values[:, self.tasks == task], tasks=self.tasks[self.tasks == task])

    def at(self, step: int) -> list[np.ndarray]:
        """Of every task, its seeds' values at a step."""
        (row,) = self.values[self.steps == step]
        return [row[self.tasks == task] for task in np.unique(self.tasks)]


class Study:
    """All runs of one call: the rows without frozen replicas, and which line each row belongs to."""

    def __init__(self, runs: Sequence[RunData]):
        protocols = sorted({str(run.config["protocol"]) for run in runs})
        if len(protocols) > 1:
            raise UserError(f"The runs follow the protocols {', '.join(protocols)}, whose numbers must not be mixed")
        self._runs, self._trained = runs, {}
        rows = [(run, row) for run in runs for row in run.eval]
        self._frozen = {_replica(run, row) for run, row in rows if row["status"] == "frozen"}
        self.notes = self._say_frozen(rows)
        lines = {(row["agent"], row["env"], *_variant(run, row)) for run, row in rows}
        self._swept = {line[0] for line in lines if len({o[2] for o in lines if o[:2] == line[:2]}) > 1}
        self._varied = {line[0] for line in lines if len({o[3] for o in lines if o[0] == line[0]}) > 1}
        order = list(dict.fromkeys(row["agent"] for _, row in rows))
        ordered = sorted(lines, key=lambda line: (order.index(line[0]), line[3], line[2] or 0))
        labels = dict.fromkeys(self._label(agent, budget, other) for agent, _, budget, other in ordered)
        without = dict.fromkeys(self._label(agent, None, other) for agent, _, _, other in ordered)
        # A label with a budget and one without never stand in one figure.
        self._looks = {label: i for some in (without, labels) for i, label in enumerate(some)}

    def _say_frozen(self, rows: list[tuple[RunData, Row]]) -> list[str]:
        notes = []
        for agent in dict.fromkeys(row["agent"] for _, row in rows):
            replicas = {_replica(run, row) for run, row in rows if row["agent"] == agent}
            if count := len(replicas & self._frozen):
                notes.append(f"{method(agent)}: {count} of {len(replicas)} replicas were frozen and are left out.")
        return notes

    def _label(self, agent: str, budget: float | None, other: str) -> str:
        parts = [method(agent), other if agent in self._varied else ""]
        parts.append(f"budget {budget:g}" if agent in self._swept and budget is not None else "")
        return ", ".join(part for part in parts if part)

    def look(self, label: str) -> dict[str, Any]:
        """Colour, line and marker of a method, the same in all figures of a call."""
        i = self._looks[label]
        cycles = {"color": COLOURS, "linestyle": LINES, "marker": MARKERS}
        return {key: cycle[i % len(cycle)] for key, cycle in cycles.items()}

    def border(self) -> int | None:
        """How many offline updates come before the online phase; None if no run has one."""
        online = [run for run in self._runs if any(row["phase"] == "online" for row in run.eval)]
        borders = sorted({run.config["train.offline_steps"] for run in online})
        if len(borders) > 1:
            raise UserError(f"The online phases begin after {borders} updates: draw those runs in separate calls")
        return borders[0] if borders else None

    def success(self, *, by_budget: bool = True) -> list[Series]:
        """Success in percent. by_budget: a method's budgets have different labels."""
        return self._series("success", lambda run: run.eval, 100.0, by_budget)

    def train(self, metric: str) -> list[Series]:
        """A column of train.csv, of the methods that have it."""
        return self._series(metric, self._train_rows, 1.0, True)

    def _train_rows(self, run: RunData) -> list[Row]:
        if run.folder not in self._trained:
            self._trained[run.folder] = read_train(run.folder)
        return self._trained[run.folder]

    def _series(
        self, metric: str, rows_of: Callable[[RunData], list[Row]], scale: float, by_budget: bool
    ) -> list[Series]:
        lines: dict[tuple, dict[tuple, dict[int, float]]] = {}
        origin: dict[tuple, pathlib.Path] = {}
        for run in self._runs:
            for row in rows_of(run):
                if metric not in row or _replica(run, row) in self._frozen:
                    continue
                budget, other = _variant(run, row)
                line = (self._label(row["agent"], budget if by_budget else None, other), row["env"], budget)
                replica = (row["task"], row["seed"])
                if origin.setdefault((line, replica), run.folder) != run.folder:
                    raise UserError(
                        f"{origin[line, replica]} and {run.folder} both hold {line[0]} on {row['env']}, "
                        f"task {row['task']}, seed {row['seed']}: draw them in separate calls"
                    )
                lines.setdefault(line, {}).setdefault(replica, {})[_updates(run, row)] = scale * row[metric]
        return [_joined(line, replicas) for line, replicas in lines.items()]


def _joined(line: tuple, replicas: dict[tuple, dict[int, float]]) -> Series:
    common = set.intersection(*(set(values) for values in replicas.values()))
    steps = sorted(common)
    values = np.array([[by_step[step] for by_step in replicas.values()] for step in steps])
    tasks = np.array([task for task, _ in replicas])
    longest = max(max(by_step) for by_step in replicas.values())
    return Series(*line, np.array(steps, int), values.reshape(len(steps), len(tasks)), tasks, longest)


def _variant(run: RunData, row: Row) -> tuple[float | None, str]:
    """The KL budget of a row (None: its method has none), and what else its variant says."""
    variant = row.get("variant") or ""
    found = re.search(r"(?:agent\.)?kl_budget=([^,; ]+)[,; ]*", variant)
    if found:
        return float(found[1]), variant.replace(found[0], "").strip(",; ")
    return run.config.get("agent.kl_budget"), variant


def _replica(run: RunData, row: Row) -> tuple:
    return run.folder, row["task"], row["seed"], row.get("variant") or ""


def _updates(run: RunData, row: Row) -> int:
    """Updates since cloning: the online phase goes on where the offline phase ends."""
    before = {"bc": -row["step"], "offline": 0, "online": run.config["train.offline_steps"]}
    return before[row["phase"]] + row["step"]


# ---- the four figures


def curves(study: Study) -> Drawing:
    """Success against updates per domain, and over all domains: mean and 95 % stratified bootstrap band."""
    everything = study.success()
    drawn = [one for one in everything if one.longest > 0]
    if not drawn:
        raise Missing("no evaluation after cloning (eval.csv has no row of phase offline or online)")
    domains, labels, notes = _by_env(drawn), _labels(drawn), [*study.notes, *_cuts(drawn)]
    cloned = {env: _cloned(own) for env, own in _by_env(everything).items()}
    total = f"mean of {len(domains)} domains"
    figure, panels = _grid([*domains, *([total] if len(domains) > 1 else [])], rows=1)
    for title, (axis,) in panels.items():
        envs = list(domains) if title == total else [title]
        for i, label in enumerate(labels):
            own = [one for env in envs for one in domains[env] if one.label == label]
            if len(own) == len(envs):
                steps = _common_steps(own)
                values = np.array([_interval(own, step) for step in steps]).reshape(-1, 3).T
                _line(axis, steps, *values, study.look(label), label, every=(i, 6))
            elif title == total:
                notes.append(f"{label} has not run on all domains and is not in their mean.")
        _reference(axis, np.mean([cloned[env] for env in envs]), CLONED)
        axis.set(ylim=(-3, 103))
    border = study.border()
    _updates_axes(figure, panels, border)
    _left(panels, 0, "success, %", shared=True)
    _legend(figure, study, labels, [CLONED] if np.isfinite([*cloned.values()]).any() else [], border)
    text = "Success, mean over tasks and seeds, with a 95 % bootstrap interval over seeds, stratified by task"
    return Drawing(figure, " ".join([f"{text} ({_count(drawn)}).", *notes]))


def kl(study: Study) -> Drawing:
    """Path KL against its budget, and lambda: mean and range over replicas."""
    budgets = study.train("kl_budget")
    if not budgets:
        raise Missing("no run of a method with a KL budget (train.csv has no column kl_budget)")
    names = _labels(budgets)
    figure, panels = _grid(list(_by_env(budgets)), rows=2)
    for metric, row in (("path_kl", 0), ("kl_average", 0), ("lambda", 1)):
        for one in study.train(metric):
            if one.label not in names:  # a method without a budget, whose path KL is not held against anything
                continue
            axis, look, mean = panels[one.env][row], study.look(one.label), one.values.mean(1)
            if metric == "kl_average":
                axis.plot(one.steps, mean, label=f"{one.label}, {AVERAGE}", **look | THIN)
            else:
                _line(axis, one.steps, mean, *_range(one), look, one.label, every=(names.index(one.label), 6))
    for title, (upper, lower) in panels.items():
        for budget in sorted({float(value) for one in budgets if one.env == title for value in one.values.flat}):
            _reference(upper, budget, BUDGET)
        upper.set_ylim(bottom=-0.04 * upper.get_ylim()[1])  # markers at zero stay whole
        upper.yaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
        upper.yaxis.set_major_formatter(PLAIN)
        _log_axis(lower)
    border = study.border()
    _updates_axes(figure, panels, border)
    _left(panels, 0, "path KL,\nnats per action")
    _left(panels, 1, r"$\lambda_\mathrm{eff}$")
    _legend(figure, study, names, [BUDGET, AVERAGE], border)
    text = "Path KL (thin: the dual step's clipped running average) and lambda_eff, mean and range over replicas"
    return Drawing(figure, " ".join([f"{text} ({_count(budgets)}).", *study.notes, *_cuts(budgets)]))


def collapse(study: Study) -> Drawing:
    """The adjoint loss, median and range over replicas, above success, mean and range."""
    losses = study.train("adjoint_loss")
    success = [one for one in study.success() if one.longest > 0]
    both = {(one.label, one.env) for one in losses} & {(one.label, one.env) for one in success}
    if not both:
        raise Missing("no run with both adjoint_loss (train.csv) and evaluations after cloning (eval.csv)")
    losses, success = ([one for one in some if (one.label, one.env) in both] for some in (losses, success))
    figure, panels = _grid(list(_by_env(losses)), rows=2)
    names = _labels(losses)
    for title, (upper, lower) in panels.items():
        for axis, some, centre in ((upper, losses, np.median), (lower, success, np.mean)):
            for one in some:
                if one.env == title:
                    look, every = study.look(one.label), (names.index(one.label), 6)
                    _line(axis, one.steps, centre(one.values, 1), *_range(one), look, one.label, every=every)
        _log_axis(upper)
        lower.set(ylim=(-3, 103))
    border = study.border()
    _updates_axes(figure, panels, border)
    _left(panels, 0, "adjoint loss")
    _left(panels, 1, "success, %")
    _legend(figure, study, names, [], border)
    notes = [*study.notes, *_cuts([*losses, *success])]
    if any(not np.isfinite(one.values).all() for one in losses):
        notes.append("A line of the loss ends where it is no longer finite.")
    text = "Adjoint loss (median) and success (mean), with their range over replicas"
    return Drawing(figure, " ".join([f"{text} ({_count(success)}).", *notes]))


def budget(study: Study) -> Drawing:
    """Final success against the KL budget, per domain and task: mean and 95 % stratified bootstrap interval."""
    points = [one for one in study.success(by_budget=False) if one.budget is not None and one.longest > 0]
    points = [one for one in points if sum(one[:2] == other[:2] for other in points) > 1]  # same label and domain
    if not points:
        raise Missing("no method with several KL budgets on one domain, evaluated after cloning")
    last = max(one.steps.max(initial=0) for one in points)
    behind = [one for one in points if last not in one.steps]
    points = [one for one in points if last in one.steps]
    views: dict[str, list[Series]] = {}
    for env, own in _by_env(points).items():
        tasks = sorted({task for one in own for task in one.tasks})
        if len(tasks) > 1:
            views[f"{env}\nmean of {len(tasks)} tasks"] = own
        views |= {f"{env}\ntask {task}": [one.of_task(task) for one in own if task in one.tasks] for task in tasks}
    figure, panels = _grid(list(views), rows=1)
    for title, (axis,) in panels.items():
        for label in _labels(views[title]):
            own = sorted((one for one in views[title] if one.label == label), key=lambda one: one.budget)
            mean, low, high = np.array([_interval([one], last) for one in own]).T
            error = np.maximum([mean - low, high - mean], 0)
            axis.errorbar([one.budget for one in own], mean, error, label=label, capsize=2, **study.look(label))
        _reference(axis, _cloned(views[title]), CLONED)
        axis.set(ylim=(-3, 103))
        _budget_axis(axis, sorted({one.budget for one in views[title]}), 8 if len(views) == 1 else 6)
    figure.supxlabel("KL budget, nats per action", fontsize=8)
    figure.supylabel(f"success after {_short(last)} updates, %", fontsize=8)
    _left(panels, 0, "", shared=True)
    _legend(figure, study, _labels(points), [CLONED], None)
    notes = [*study.notes, *(f"{one.label} on {one.env} at {one.budget:g} has not got so far." for one in behind)]
    text = f"Success after {_short(last)} updates, mean over tasks and seeds, with a 95 % bootstrap interval over seeds"
    return Drawing(figure, " ".join([f"{text}, stratified by task ({_count(points)}).", *notes]))


FIGURES: dict[str, Callable[[Study], Drawing]] = {"curves": curves, "kl": kl, "collapse": collapse, "budget": budget}


# ---- what they are made of


def _by_env(series: Iterable[Series]) -> dict[str, list[Series]]:
    result: dict[str, list[Series]] = {}
    for one in series:
        result.setdefault(one.env, []).append(one)
    return result


def _labels(series: Iterable[Series]) -> list[str]:
    return list(dict.fromkeys(one.label for one in series))


def _cloned(series: Sequence[Series]) -> float:
    """The cloned policy's success, mean over methods; NaN where nothing was cloned."""
    return float(np.mean([stats.mean(one.at(0)) if 0 in one.steps else np.nan for one in series]))


def _interval(domains: Sequence[Series], step: int) -> tuple[float, float, float]:
    """Mean over domains of their tasks' means, and the ends of its 95 % interval: NaN if no task has two seeds."""
    by_domain = [one.at(step) for one in domains]
    tasks = [runs for own in by_domain for runs in own]
    weights = [1 / len(own) for own in by_domain for _ in own]
    average = lambda tasks: np.average([runs.mean(-1) for runs in tasks], axis=0, weights=weights)
    if max(map(len, tasks)) == 1:
        return float(average(tasks)), np.nan, np.nan
    # One seed for all steps: a resample keeps a run's steps together.
    return tuple(stats.stratified_bootstrap(average, tasks, resamples=RESAMPLES))


def _range(one: Series) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest replica at each step."""
    return one.values.min(1), one.values.max(1)


def _common_steps(series: Sequence[Series]) -> list[int]:
    return sorted(set.intersection(*(set(one.steps.tolist()) for one in series)))


def _cuts(series: Iterable[Series]) -> list[str]:
    """Which lines end before their longest replica does."""
    ends = {(one.label, one.env): one.steps.max(initial=0) for one in series if one.longest not in one.steps}
    text = "{} on {} is drawn to {}, as far as all its replicas go."
    return [text.format(label, env, _short(end)) for (label, env), end in ends.items()]


def _count(series: Sequence[Series]) -> str:
    counts = sorted({len(one.tasks) for one in series})
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} replicas per method and domain"


def _short(number: float) -> str:
    """400, 250K, 1.5M."""
    size, unit = next(pair for pair in ((1e6, "M"), (1e3, "K"), (1, "")) if abs(number) >= pair[0] or pair[0] == 1)
    return f"{number / size:g}{unit}"


# ---- drawing


def _grid(titles: Sequence[str], rows: int) -> tuple[Figure, dict[str, list[Axes]]]:
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


def _line(
    axis: Axes,
    x: Sequence[int] | np.ndarray,
    centre: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    look: dict[str, Any],
    label: str,
    *,
    every: tuple[int, int],
) -> None:
    """A line with its band. every: (which, about how many) markers, so that those of different lines are apart."""
    stride = max(1, len(x) // every[1])
    axis.plot(x, centre, label=label, markevery=(every[0] % stride, stride), **look)
    axis.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)


def _reference(axis: Axes, y: float, label: str) -> None:
    if np.isfinite(y):
        axis.axhline(y, label=label, **REFERENCE)


def _updates_axes(figure: Figure, panels: Mapping[str, list[Axes]], border: int | None) -> None:
    """The same axis of updates for all panels, the online phase shaded."""
    axes = [axis for own in panels.values() for axis in own]
    end = max(axis.dataLim.x1 for axis in axes)
    for axis in axes:
        axis.set_xlim(-0.02 * end, 1.02 * end)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
        if border is not None and border < end:
            axis.axvspan(border, 1.02 * end, **ONLINE)
            axis.axvline(border, color="0.5", linewidth=0.6)
    for own in panels.values():
        for axis in own[:-1]:
            axis.tick_params(labelbottom=False)
    figure.supxlabel("updates", fontsize=8)


def _log_axis(axis: Axes) -> None:
    """Logarithmic, with room for at least one labelled tick."""
    axis.set_yscale("log")
    low, high = axis.dataLim.minposy, axis.dataLim.y1
    if high < 20 * low:
        axis.set_ylim(low / 2, high * 2)
    if high < 1e4 * low:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
        axis.yaxis.set_major_formatter(PLAIN)
    else:
        axis.yaxis.set_major_locator(LogLocator(numticks=5))
    axis.yaxis.set_minor_locator(NullLocator())


def _budget_axis(axis: Axes, budgets: Sequence[float], most: int) -> None:
    """A tick at every budget, or at `most` of many; logarithmic if they span more than a decade."""
    if budgets[0] > 0 and budgets[-1] > 10 * budgets[0]:
        axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(budgets[:: -(-len(budgets) // most)]))
    axis.xaxis.set_major_formatter(PLAIN)
    axis.xaxis.set_minor_locator(NullLocator())


def _left(panels: Mapping[str, list[Axes]], row: int, text: str, *, shared: bool = False) -> None:
    """Label the first column's axes; shared: the others need no numbers."""
    for own in panels.values():
        if own[row].get_subplotspec().is_first_col():
            own[row].set_ylabel(text)
        elif shared:
            own[row].tick_params(labelleft=False)


def _legend(figure: Figure, study: Study, labels: Sequence[str], references: Sequence[str], border: int | None) -> None:
    """Above the panels, where no data are."""
    handles: list[Any] = [Line2D([], [], label=label, **study.look(label)) for label in labels]
    looks = {AVERAGE: THIN | {"color": "black"}}
    handles += [Line2D([], [], label=label, **looks.get(label, REFERENCE)) for label in references]
    handles += [] if border is None else [Patch(label="online phase", **ONLINE)]
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(len(handles), max(1, int(figure.get_figwidth() * 15 / (widest + 7))))
    figure.set_figheight(figure.get_figheight() + 0.17 * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=2.6)


# ---- the command


def draw(runs: Sequence[RunData], out: pathlib.Path, names: Sequence[str] = tuple(FIGURES)) -> dict[str, Drawing]:
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}; see --help")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="run folders, or folders above them")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the folder to write to")
    parser.add_argument("--only", default=",".join(FIGURES), help="which figures (default: %(default)s)")
    arguments = parser.parse_args(argv)
    names = arguments.only.split(",")
    try:
        for name in names:
            if name not in FIGURES:
                raise UserError(f"--only={arguments.only}: no figure is called {name!r}.{suggest(name, FIGURES)}")
        draw(read_runs(arguments.runs), arguments.out, names)
    except (UserError, OSError) as error:
        cli.fail(error)


if __name__ == "__main__":
    main()
