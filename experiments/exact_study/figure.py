"""The study's figure: six panels, exact values as lines and measured ones as markers."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.analysis.figures.style import COLOURS, PLAIN, STYLE
from experiments.exact_study.budgets import BUDGET_STEPS, KL_BUDGETS
from experiments.exact_study.closed_forms import Target
from experiments.exact_study.flows import Mixture
from experiments.exact_study.measure import Terminal
from experiments.exact_study.planted_error import ERRORS, METHODS, exact_error, exact_value
from experiments.exact_study.results import Panel
from experiments.exact_study.steps import expected

SIZE = (8.4, 5.4)  # inches
BLUE, ORANGE, GREEN = COLOURS[:3]
EXACT = {"color": "black", "linewidth": 1.2, "zorder": 1}
DASHED = {"color": "0.55", "linewidth": 1.0, "linestyle": (0, (4, 2)), "zorder": 0}
POINTS = {"linestyle": "", "markersize": 5, "zorder": 3}
TRQAM = {"label": "TRQAM", "color": BLUE, "marker": "o"}
OTHER = {"color": ORANGE, "marker": "s"}
BEHIND = {**POINTS, "markersize": 6.5, "zorder": 2}  # what TRQAM's markers may lie on
METHOD = {"trqam": TRQAM, "qam": {"label": "QAM, fixed temperature", **OTHER}}
DOTS, PLACES = 1200, 26  # samples in the plane; markers on the line


def save(panels: Mapping[str, Panel], path: pathlib.Path) -> None:
    """Draw all panels into a PNG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.subplots(2, 3).ravel()
        for axis, draw, densities in zip(axes, (line_density, plane_density), panels["a"].drawn.values(), strict=False):
            draw(axis, *densities)
        lambda_of_budget(axes[2], panels["b"].drawn)
        planted_error(axes[3], panels["c"].drawn)
        kl_of_budget(axes[4], panels["d"].drawn)
        steps(axes[5], panels["e"].drawn)
        figure.supxlabel("Lines are exact values, markers are measured.", fontsize=8)
        figure.savefig(path, dpi=200)


def titled(axis: Axes, title: str, x: str, y: str) -> None:
    """The finding above, and what is on the axes."""
    axis.set_title(title, loc="left", fontweight="bold")
    axis.set(xlabel=x, ylabel=y)


def line_density(axis: Axes, base: Mixture, target: Target, policy: Terminal) -> None:
    """(a) on the line: base, exact tilt, fine-tuned."""
    x = np.linspace(-1.15, 1.15, 400, dtype=np.float32)[:, None]
    axis.plot(x, np.exp(base.log_density(x)), label="BC policy", **DASHED)
    axis.plot(x, np.exp(target.log_density(x)), label=r"exact: BC $\times\, e^{Q}$", **EXACT)
    order = np.argsort(policy.x1[:, 0])
    places = np.linspace(-1.1, 1.1, PLACES)
    density = np.interp(places, policy.x1[order, 0], np.exp(policy.log_density[order]))
    axis.plot(places, density, label="fine-tuned", color=BLUE, marker="o", **POINTS)
    axis.legend(loc="upper left", handlelength=1.6)
    axis.set_ylim(0, 1.45 * density.max())
    titled(axis, "(a) The policy is the exact tilt", "action", "density")


def plane_density(axis: Axes, base: Mixture, target: Target, policy: Terminal) -> None:
    """(a) in the plane: contours of the exact tilt and of the base, samples of the policy."""
    line = np.linspace(-1.1, 1.1, 120, dtype=np.float32)
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    image = lambda log_density: np.exp(np.asarray(log_density(points))).reshape(120, 120)
    axis.contour(line, line, image(base.log_density), [0.3], colors="0.55", linewidths=1, linestyles="dashed")
    axis.contour(line, line, image(target.log_density), [0.3, 0.9, 1.8], colors="black", linewidths=0.9)
    chosen = np.random.default_rng(0).choice(len(policy.mass), DOTS, p=policy.mass / policy.mass.sum())
    axis.plot(*policy.x1[chosen].T, linestyle="", marker=".", markersize=2.2, color=BLUE, zorder=0.5)
    axis.text(1.08, -1.06, "dots: fine-tuned\nlines: exact", ha="right", linespacing=1.3)
    axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    titled(axis, "(a) ... and in two dimensions", "action 1", "action 2")


def lambda_of_budget(axis: Axes, drawn: Mapping[str, Any]) -> None:
    """(b) lambda at eight budgets."""
    budgets = np.geomspace(KL_BUDGETS[0], KL_BUDGETS[-1], 50)
    axis.plot(budgets, (drawn["at_one"] / budgets) ** 0.5, label=r"exact, $K\to\infty$", **DASHED)
    axis.plot(budgets, (drawn["on_grid"] / budgets) ** 0.5, label=f"exact, K = {BUDGET_STEPS}", **EXACT)
    axis.plot(KL_BUDGETS, drawn["trqam"][1], **TRQAM, **POINTS)
    log_log(axis, (0.1, 0.5, 1, 2, 4), (1, 2, 5, 10))
    axis.legend(loc="lower left")
    titled(axis, r"(b) $\lambda$ finds its closed form", "KL budget, nats per action", r"$\lambda_{\mathrm{eff}}$")


def kl_of_budget(axis: Axes, drawn: Mapping[str, Any]) -> None:
    """(b) and (d): the realised path KL, inside the dynamics and outside."""
    axis.plot(KL_BUDGETS, KL_BUDGETS, label="budget", **EXACT)
    axis.plot(KL_BUDGETS, drawn["trqam"][0], **{**TRQAM, "label": r"TRQAM: $\lambda$ inside"}, **POINTS)
    axis.plot(KL_BUDGETS, drawn["expected"], color=ORANGE, linewidth=0.9)
    axis.plot(KL_BUDGETS, drawn["trqam_external"][0], label="KL as a penalty: outside", **OTHER, **BEHIND)
    log_log(axis, (0.1, 0.5, 1, 2, 4), (0.1, 0.5, 1, 2, 4, 8))
    axis.set_ylim(0.07, 60)
    axis.legend(loc="upper left")
    titled(axis, "(d) KL inside: on its budget", "KL budget, nats per action", "realised path KL")


def planted_error(axis: Axes, drawn: Mapping[str, Any]) -> None:
    """(c) true value against the size of the error, with the KL at its ends."""
    slopes = np.linspace(ERRORS[0], ERRORS[-1], 60)
    axis.axhline(drawn["base"], **DASHED)
    axis.annotate("BC policy", (ERRORS[0], drawn["base"]), (-2, -10), textcoords="offset points", color="0.4")
    for method in METHODS:
        exact = [exact_value(exact_error(slope, method, drawn["budget"])) for slope in slopes]
        axis.plot(slopes, exact, color=METHOD[method]["color"], linewidth=1.2)
        _, kl, value = np.array(drawn[method]).T
        axis.plot(ERRORS, value, **METHOD[method], **POINTS)
        place = (-8, -12) if method == "trqam" else (-9, 2)
        text = f"KL {kl[-1]:.1f} nats"
        end = ERRORS[-1], value[-1]
        axis.annotate(text, end, place, textcoords="offset points", ha="right", color=METHOD[method]["color"])
    axis.legend(loc="lower left")
    titled(axis, "(c) Critic errors: QAM collapses", "size of the critic's error", "true value")


def steps(axis: Axes, drawn: Mapping[str, Any]) -> None:
    """(e) the bias of K steps: closed form as lines, measured as markers."""
    looks = {"path KL": (BLUE, "o"), "shift of the mean": (ORANGE, "s"), "total variation": (GREEN, "^")}
    places = drawn["counts"]
    counts = np.unique(np.geomspace(places[0], places[-1], 40).astype(int))
    curves = np.array([expected(int(count)) for count in counts])
    exact, measured = np.array(drawn["exact"]), np.array(drawn["measured"])
    for i, (name, (colour, marker)) in enumerate(looks.items()):
        scale = exact[i] or 1.0  # total variation has no scale but its own
        axis.plot(counts, 100 * np.abs(curves[:, i] - exact[i]) / scale, color=colour, linewidth=1.2)
        bias = 100 * np.abs(measured[:, i] - exact[i]) / scale
        axis.plot(places, bias, label=name, color=colour, marker=marker, **POINTS)
    log_log(axis, places, (1, 10, 100))
    axis.legend(loc="lower left")
    titled(axis, "(e) The bias of K steps", "K", "bias, %")


def log_log(axis: Axes, x: tuple[float, ...], y: tuple[float, ...]) -> None:
    """Both axes logarithmic, with plain numbers at these places."""
    axis.set(xscale="log", yscale="log")
    for one, ticks in ((axis.xaxis, x), (axis.yaxis, y)):
        one.set_major_locator(FixedLocator(ticks))
        one.set_major_formatter(PLAIN)
        one.set_minor_locator(NullLocator())
