"""A run at a glance, from its rows: cloned policy against fine-tuned, and a plot."""

import pathlib

import numpy as np

from experiments.training.csv_rows import read_csv

Rows = list[dict[str, str]]


def summarise(folder: pathlib.Path) -> str:
    """The short table; writes summary.png beside it if there is something to plot."""
    evals = read_csv(folder / "eval.csv")
    train = read_csv(folder / "train.csv") if (folder / "train.csv").exists() else []
    lines = ["", table(evals) if evals else "no evaluation was asked for"]
    if train and "kl_budget" in train[0]:
        train_phase = [row for row in train if row["phase"] == train[-1]["phase"]]
        finished = [row for row in train_phase if row["step"] == train[-1]["step"] and row["status"] == "ok"]
        for variant in dict.fromkeys(row.get("variant", "") for row in finished):
            last = [row for row in finished if row.get("variant", "") == variant]
            kl, budget, lam = (np.mean([float(row[key]) for row in last]) for key in ("path_kl", "kl_budget", "lambda"))
            lines.append(
                f"path KL over the last {_block(train_phase):,} steps, mean over {len(last)} replica(s): "
                f"{kl:.3f}, {kl / budget:.1%} of its budget of {budget:.3g}; lambda {lam:.3g}"
            )
    if train and evals:
        plot(folder / "summary.png", evals, train)
        lines.append(f"plot: {folder / 'summary.png'}")
    return "\n".join([*lines, f"rows: {folder}"])


def table(evals: Rows) -> str:
    """Success in percent per task (and variant) at the end of every phase: mean over seeds, and the sample standard
    deviation where there are several. Frozen replicas are left out, and counted."""
    last = {row["phase"]: row["step"] for row in evals}  # of every phase
    shown = list(last.items())
    header = ["task", *(_title(evals[0]["agent"], *phase) for phase in shown), "seeds x episodes"]
    body = []
    kind = lambda row: ", ".join(filter(None, (row["task"], row.get("variant"))))
    for task in sorted({kind(row) for row in evals}):
        cells = []
        for phase in shown:
            rows = [row for row in evals if kind(row) == task and (row["phase"], row["step"]) == phase]
            success = 100 * np.array([float(row["success"]) for row in rows if row["status"] == "ok"])
            spread = f" ± {success.std(ddof=1):.1f}" if len(success) > 1 else ""
            frozen = f" ({len(rows) - len(success)} of {len(rows)} frozen)" if len(success) < len(rows) else ""
            cells.append((f"{success.mean():.1f}{spread}" if len(success) else "-") + frozen)
        body.append([task, *cells, f"{len(rows)} x {rows[0]['episodes']}"])
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *body]]
    return "\n".join(
        [f"{evals[0]['env']}: success, %", lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
    )


def _block(train: Rows) -> int:
    """How many updates the last row averages over."""
    steps = [int(step) for step in dict.fromkeys(row["step"] for row in train)]
    return steps[-1] - (steps[-2] if len(steps) > 1 else 0)


def _title(agent: str, phase: str, step: str) -> str:
    if phase == "bc":
        return "cloned policy"
    return f"{agent}, {int(step):,} {'updates' if phase == 'offline' else 'steps online'}"


def plot(path: pathlib.Path, evals: Rows, train: Rows) -> None:
    """Success, path KL against its budget, and lambda (or the losses of a method without them); a line per replica."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    trust_region = "kl_budget" in train[0]
    metrics = ["path_kl", "lambda"] if trust_region else ["critic_loss", "flow_loss"]
    figure, axes = plt.subplots(1, 1 + len(metrics), figsize=(4 * (1 + len(metrics)), 3), constrained_layout=True)
    axes = np.atleast_1d(axes)
    offline = max((int(row["step"]) for row in evals + train if row["phase"] == "offline"), default=0)
    first = {"bc": lambda step: 0, "offline": int, "online": lambda step: offline + int(step)}
    at = lambda row: first[row["phase"]](row["step"])
    name = lambda row: (row["task"], row["seed"], row.get("variant", ""))
    replicas = list(dict.fromkeys(map(name, evals)))
    for replica in replicas:
        own = [row for row in evals if name(row) == replica]
        steps = [at(row) for row in own]
        label = "task {}, seed {}, {}".format(*replica).removesuffix(", ")
        axes[0].plot(steps, [float(row["success"]) for row in own], marker="o", label=label)
        logged = [row for row in train if name(row) == replica]
        for axis, metric in zip(axes[1:], metrics, strict=True):
            axis.plot([at(row) for row in logged], [float(row[metric]) for row in logged])
    axes[0].set(title="success (0: cloned policy)", ylim=(-0.03, 1.03), xlabel="updates")
    for axis, metric in zip(axes[1:], metrics, strict=True):
        axis.set(title=metric.replace("_", " "), xlabel="updates", yscale="log")
    if any(row["phase"] == "online" for row in evals):
        for axis in axes:
            axis.axvline(offline, color="grey", linewidth=0.8)
        axes[0].set(xlabel="updates | environment steps")
    if trust_region:
        for i, budget in enumerate(sorted({float(row["kl_budget"]) for row in train})):
            axes[1].axhline(budget, color="black", linestyle="--", label=None if i else "budget")
        axes[1].set(title="path KL (nats per action)", yscale="linear", ylim=(0, None))
        axes[1].legend()
    if len(replicas) <= 8:
        axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
