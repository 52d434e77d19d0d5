"""A run at a glance, from its rows: BC policy against fine-tuned, and a plot."""

import pathlib
import shlex

import numpy as np
import pandas as pd

from experiments.analysis.rows import Run, groups, read_run
from experiments.row_format import OK


def summarise(folder: pathlib.Path) -> str:
    """The short table; writes summary.png beside it if there is something to plot."""
    run = read_run(folder)
    lines = ["", table(run.eval) if len(run.eval) else "no evaluation was asked for", *path_kl(run.train)]
    if len(run.train) and len(run.eval):
        plot(folder / "summary.png", run)
        lines.append(f"plot: {folder / 'summary.png'}")
    lines.append(f"rows: {folder}")
    if len(run.eval):
        lines.append(f"to look at it: python experiments/report.py {shlex.quote(str(folder))} --out=report.html")
    return "\n".join(lines)


def table(evals: pd.DataFrame) -> str:
    """Success in percent per task (and variant) at the end of every phase: mean over seeds, and the sample standard
    deviation where there are several. Diverged replicas are left out, and counted."""
    ends = evals.groupby("phase", sort=False).step.last()
    titles = [_title(evals.agent.iloc[0], str(phase), step) for phase, step in ends.items()]
    lines = [["task", *titles, "seeds x episodes"]]
    for (task, variant), own in groups(evals.sort_values("task", kind="stable"), ["task", "variant"]):
        at_end = [own[(own.phase == phase) & (own.step == step)] for phase, step in ends.items()]
        name = f"{task}, {variant}" if variant else str(task)
        lines.append([name, *map(_cell, at_end), f"{len(at_end[-1])} x {own.episodes.iloc[0]}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    header, *body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([f"{evals.env.iloc[0]}: success, %", header, rule, *body])


def _title(agent: str, phase: str, step: int) -> str:
    if phase == "bc":
        return "BC policy"
    return f"{agent}, {step:,} {'updates' if phase == 'offline' else 'steps online'}"


def _cell(replicas: pd.DataFrame) -> str:
    success = 100 * replicas.success[replicas.status == OK].to_numpy()
    mean = f"{success.mean():.1f}" if len(success) else "-"
    spread = f" ± {success.std(ddof=1):.1f}" if len(success) > 1 else ""
    diverged = len(replicas) - len(success)
    return mean + spread + (f" ({diverged} of {len(replicas)} diverged)" if diverged else "")


def path_kl(train: pd.DataFrame) -> list[str]:
    """A line per variant of a method with a KL budget: how much of it the last logged updates used."""
    if train.empty or "kl_budget" not in train:
        return []
    phase = train[train.phase == train.phase.iloc[-1]]
    steps = phase.step.unique()
    block = steps[-1] - (steps[-2] if len(steps) > 1 else 0)
    lines = []
    last = phase[(phase.step == steps[-1]) & (phase.status == OK)]
    for _, replicas in groups(last, "variant"):
        kl, budget, multiplier = replicas[["path_kl", "kl_budget", "lambda"]].mean()
        share = f"{kl / budget:.1%} of its budget of {budget:.3g}" if budget else "with a budget of 0"
        lines.append(
            f"path KL over the last {block:,} steps, mean over {len(replicas)} replica(s): "
            f"{kl:.3f}, {share}; lambda {multiplier:.3g}"
        )
    return lines


def plot(path: pathlib.Path, run: Run) -> None:
    """Success, path KL against its budget, and lambda (or the losses of a method without them); a line per replica."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    evals, train = run.eval, run.train
    trust_region = "kl_budget" in train
    losses = ["critic_loss", *(["flow_loss"] if "flow_loss" in train else [])]
    metrics = ["path_kl", "lambda"] if trust_region else losses
    figure, axes = plt.subplots(1, 1 + len(metrics), figsize=(4 * (1 + len(metrics)), 3), constrained_layout=True)
    _plot_replicas(axes, evals, train, metrics)
    axes[0].set(title="success (0: BC policy)", ylim=(-0.03, 1.03), xlabel="updates")
    for axis, metric in zip(axes[1:], metrics, strict=True):
        axis.set(title=metric.replace("_", " "), xlabel="updates", yscale="log")
    if (evals.phase == "online").any():
        for axis in axes:
            axis.axvline(run.offline_steps, color="grey", linewidth=0.8)
        axes[0].set(xlabel="updates | environment steps")
    if trust_region:
        for i, budget in enumerate(sorted(train.kl_budget.unique())):
            axes[1].axhline(budget, color="black", linestyle="--", label=None if i else "budget")
        axes[1].set(title="path KL (nats per action)", yscale="linear", ylim=(0, None))
        axes[1].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _plot_replicas(axes: np.ndarray, evals: pd.DataFrame, train: pd.DataFrame, metrics: list[str]) -> None:
    replica = ["task", "seed", "variant"]
    for (task, seed, variant), own in groups(evals, replica):
        label = f"task {task}, seed {seed}" + (f", {variant}" if variant else "")
        axes[0].plot(own.total_step, own.success, marker="o", label=label)
        logged = train[(train.task == task) & (train.seed == seed) & (train.variant == variant)]
        for axis, metric in zip(axes[1:], metrics, strict=True):
            axis.plot(logged.total_step, logged[metric])
    if len(evals[replica].drop_duplicates()) <= 8:
        axes[0].legend(fontsize="small")
