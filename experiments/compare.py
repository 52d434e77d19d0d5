"""Train several agents under identical seeds and compare them, seed by seed.

    python experiments/compare.py --agents=trqam,qam,fql --env=cube-single-task1 --num_seeds=8 --protocol=quick

Takes the flags of main.py. All start from the same cloned policy, see the same minibatches and start their evaluations
from the same states, so a difference between two of them is a difference of the methods. A --config.agent.KEY reaches
the agents that have the key. Worker processes import this file again, so it imports JAX only inside its functions.
"""

import csv
import pathlib
import sys

from absl import app, flags, logging

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from trqam_jax.errors import UserError

AGENTS = flags.DEFINE_list("agents", ["trqam", "qam", "fql"], "Algorithms; the others are compared with the first.")
flags.adopt_module_key_flags(cli)

COLUMNS = ["agent", "seeds", "mean", "std", "difference", "low", "high", "p_improvement"]


def final_success(folder: pathlib.Path) -> dict[int, float]:
    """{seed: success at the last evaluation, averaged over tasks}, of the seeds of which no replica is frozen."""
    from experiments.training.csv_rows import read_csv

    rows = read_csv(folder / "eval.csv")
    last = [row for row in rows if (row["phase"], row["step"]) == (rows[-1]["phase"], rows[-1]["step"])]
    frozen = {row["seed"] for row in last if row["status"] != "ok"}
    seeds = dict.fromkeys(int(row["seed"]) for row in last if row["seed"] not in frozen)
    success = {seed: [float(row["success"]) for row in last if int(row["seed"]) == seed] for seed in seeds}
    return {seed: sum(values) / len(values) for seed, values in success.items()}


def paired(success: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    """The seeds that every agent has; what is left out is named on stderr."""
    shared = set.intersection(*map(set, success.values()))
    missing = sorted(set.union(*map(set, success.values())) - shared)
    if missing:
        print(f"left out, because a replica of theirs is frozen: seeds {missing}", file=sys.stderr)
    if not shared:
        raise UserError(f"{', '.join(success)}: no seed of which all finished unfrozen, nothing can be compared")
    return {agent: {seed: x for seed, x in by_seed.items() if seed in shared} for agent, by_seed in success.items()}


def comparison(success: dict[str, dict[int, float]]) -> list[dict[str, str]]:
    """A row per agent, in percent: mean and sample std over seeds; for all but the first, the first's mean lead
    over it, paired by seed, with a 95 % bootstrap interval, and the probability that one of its runs beats the other's.
    One seed has neither deviation nor interval."""
    import numpy as np

    from trqam_jax.stats import paired_difference, probability_of_improvement

    first, *_ = success
    rows = []
    for agent, by_seed in success.items():
        if by_seed.keys() != success[first].keys():
            raise UserError(
                f"{agent} has seeds {list(by_seed)}, {first} has {list(success[first])}: they cannot be paired"
            )
        ours, theirs = (100 * np.array([success[name][seed] for seed in by_seed]) for name in (first, agent))
        row = {"agent": agent, "seeds": str(len(theirs)), "mean": f"{theirs.mean():.1f}"}
        row["std"] = f"{theirs.std(ddof=1):.1f}" if len(theirs) > 1 else ""
        if agent != first:
            difference, low, high = (f"{x:.1f}" for x in paired_difference(ours, theirs))
            row |= {"difference": difference} | ({"low": low, "high": high} if len(theirs) > 1 else {})
            row["p_improvement"] = f"{probability_of_improvement(ours, theirs):.2f}"
        rows.append({column: row.get(column, "") for column in COLUMNS})
    return rows


def as_text(rows: list[dict[str, str]]) -> str:
    """The rows as an aligned table."""
    first = rows[0]["agent"]
    header = ["agent", "success, %", "std", "seeds", f"{first} minus it", "95 % interval", f"P({first} better)"]
    body = []
    for row in rows:
        interval = f"[{row['low']}, {row['high']}]" if row["low"] else ""
        start = [row[key] for key in ("agent", "mean", "std", "seeds", "difference")]
        body.append([*start, interval, row["p_improvement"]])
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *body]]
    return "\n".join(lines)


def plot(path: pathlib.Path, success: dict[str, dict[int, float]]) -> None:
    """Every seed's success per agent; lines join a seed's runs."""
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
    figure.savefig(path, dpi=150)
    plt.close(figure)


def configurations(names: list[str], argv: list[str]) -> list:
    """One configuration per agent. A setting that only some of the agents have is given to those."""
    import agents
    from experiments.config import budgets
    from trqam_jax.errors import suggest

    if cli.SHARED["eval_episodes"].value == 0:
        raise UserError("--eval_episodes=0: there would be nothing to compare")
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"--agents={','.join(names)}: expected at least two different ones")
    for name in names:
        if name not in agents.AGENTS:
            raise UserError(f"Unknown agent {name!r}.{suggest(name, agents.AGENTS)}")
    result, used = [], set()
    for name in names:
        own = {f"--config.agent.{key}" for key in agents.default_config(name)}
        fitting = [a for a in argv[1:] if not a.startswith("--config.agent.") or a.split("=")[0] in own]
        used |= set(fitting)
        result.append(cli.resolve(name, [argv[0], *fitting]))
        if len(budgets(result[-1])) > 1:
            several = ",".join(map(str, budgets(result[-1])))
            raise UserError(f"--config.agent.kl_budget={several}: expected one value; sweep.py takes several")
    unused = [argument for argument in argv[1:] if argument not in used]
    if unused:
        raise UserError(f"{unused[0]}: none of {', '.join(names)} has this setting")
    return result


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    from experiments.analysis.summary import summarise
    from experiments.config import as_text as config_text
    from experiments.training.run import run
    from trqam_jax import backend

    try:
        configs = configurations(AGENTS.value, argv)
        backend.keep_compiled_programs()
        backend.prepare_process()
        success, folders = {}, []
        for config in configs:
            print(f"\n== {config.agent_name}\n{config_text(config)}", flush=True)
            folder = run(config)
            print(summarise(folder), flush=True)
            success[config.agent_name] = final_success(folder)
            folders.append(folder)
        success = paired(success)
        rows = comparison(success)
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)
    place = folder.parent / ("comparison-" + "-".join(folder.name for folder in folders))
    with place.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot(place.with_suffix(".png"), success)
    print(f"\n{as_text(rows)}\n{place}.csv, {place}.png")


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse)
