"""Several agents under the same seeds, compared seed by seed: statistics, text and plot."""

import sys
from typing import BinaryIO

import numpy as np

from experiments.analysis.rows import Run, groups
from experiments.row_format import OK
from trqam_jax.errors import UserError
from trqam_jax.stats import paired_difference, probability_of_improvement

COLUMNS = ["agent", "seeds", "mean", "std", "difference", "low", "high", "p_improvement"]

Success = dict[str, dict[int, float]]  # {agent: {seed: fraction}}


def final_success(run: Run) -> dict[int, float]:
    """{seed: success at the last evaluation, averaged over tasks}, of the seeds of which no replica has diverged."""
    end = run.eval.iloc[-1]
    last = run.eval[(run.eval.phase == end.phase) & (run.eval.step == end.step)]
    return {
        seed: float(replicas.success.mean()) for seed, replicas in groups(last, "seed") if (replicas.status == OK).all()
    }


def paired(success: Success) -> Success:
    """The seeds that every agent has; what is left out is named on stderr."""
    shared = set.intersection(*map(set, success.values()))
    missing = sorted(set.union(*map(set, success.values())) - shared)
    if missing:
        print(f"left out, because a replica of theirs diverged: seeds {missing}", file=sys.stderr)
    if not shared:
        raise UserError(f"{', '.join(success)}: no seed of which no replica diverged, nothing can be compared")
    return {agent: {seed: x for seed, x in by_seed.items() if seed in shared} for agent, by_seed in success.items()}


def comparison(success: Success) -> list[dict[str, str]]:
    """A row of COLUMNS per agent, in percent: mean and sample std over seeds; for all but the first, the first's mean
    lead over it, paired by seed, with a 95 % bootstrap interval, and the probability that one of its runs beats the
    other's. One seed has neither deviation nor interval."""
    first, *_ = success
    rows = []
    for agent, by_seed in success.items():
        if by_seed.keys() != success[first].keys():
            raise UserError(
                f"{agent} has seeds {list(by_seed)}, {first} has {list(success[first])}: they cannot be paired"
            )
        ours = 100 * np.array([success[first][seed] for seed in by_seed])
        theirs = 100 * np.array([success[agent][seed] for seed in by_seed])
        row = dict.fromkeys(COLUMNS, "")
        row |= {"agent": agent, "seeds": str(len(theirs)), "mean": f"{theirs.mean():.1f}"}
        if len(theirs) > 1:
            row["std"] = f"{theirs.std(ddof=1):.1f}"
        rows.append(row if agent == first else row | _lead(ours, theirs))
    return rows


def _lead(ours: np.ndarray, theirs: np.ndarray) -> dict[str, str]:
    difference, low, high = (f"{x:.1f}" for x in paired_difference(ours, theirs))
    interval = {"low": low, "high": high} if len(theirs) > 1 else {}
    return {"difference": difference, "p_improvement": f"{probability_of_improvement(ours, theirs):.2f}", **interval}


def as_text(rows: list[dict[str, str]]) -> str:
    """The rows as an aligned table."""
    first = rows[0]["agent"]
    table = [["agent", "success, %", "std", "seeds", f"{first} minus it", "95 % interval", f"P({first} better)"]]
    for row in rows:
        interval = f"[{row['low']}, {row['high']}]" if row["low"] else ""
        start = [row[key] for key in ("agent", "mean", "std", "seeds", "difference")]
        table.append([*start, interval, row["p_improvement"]])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in table)


def plot(file: BinaryIO, success: Success) -> None:
    """Every seed's success per agent, as a PNG; lines join a seed's runs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(success)
    figure, axis = plt.subplots(figsize=(1.2 * len(names) + 2, 3.2), constrained_layout=True)
    for seed in success[names[0]]:
        axis.plot(names, [100 * success[name][seed] for name in names], color="0.75", linewidth=0.8, zorder=1)
    for i, name in enumerate(names):
        values = [100 * value for value in success[name].values()]
        axis.scatter([i] * len(values), values, s=18, zorder=2)
        axis.hlines(sum(values) / len(values), i - 0.25, i + 0.25, color="black", zorder=3)
    axis.set(ylabel="success, %", ylim=(-3, 103), title="one grey line per seed, black bars are means")
    figure.savefig(file, dpi=150, format="png")
    plt.close(figure)
