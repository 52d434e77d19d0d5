"""What came out: success at every tuned value, the value chosen, and the methods compared seed by seed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from experiments.analysis import compare
from experiments.analysis.grid import Bold, Grid
from experiments.analysis.rows import OK, Run, groups, label
from experiments.row_format import parse_variant, variant_text
from experiments.small_benchmark.design import FIRST, METHODS, TASKS
from trqam_jax.errors import UserError

COST = ["value", "updates/s", "training, s", "evaluation, s"]  # columns of a task's table, after the success


class Tuned(NamedTuple):
    """One value of a method on a domain, and what it came to under the tuning seeds."""

    env: str
    agent: str
    variant: str  # as the rows name it: "kl_budget=0.3"
    success: float  # at the end, mean over seeds, in percent; a replica that diverged counts as 0
    by_seed: tuple[float, ...]


def tuned(runs: Iterable[Run]) -> list[Tuned]:
    """Every value of the runs of the tuning, in the runs' order."""
    result = []
    for run in runs:
        last = run.eval[run.eval.step == run.eval.step.iloc[-1]]
        for variant, rows in groups(last, "variant"):
            percent = 100 * rows.success.where(rows.status == OK, 0.0)
            by_seed = tuple(percent.groupby(rows.seed).mean())
            result.append(Tuned(run.config["env"], run.agent, variant, float(percent.mean()), by_seed))
    return result


def choose(values: Iterable[Tuned]) -> dict[tuple[str, str], Tuned]:
    """By (env, agent) the value with the greatest success; of equals the first."""
    best: dict[tuple[str, str], Tuned] = {}
    for value in values:
        before = best.get((value.env, value.agent))
        if before is None or value.success > before.success:
            best[value.env, value.agent] = value
    return best


def settings(chosen: Mapping[tuple[str, str], Tuned]) -> dict[tuple[str, str], dict[str, str]]:
    """The same as texts of settings, {"kl_budget": "0.3"}; a UserError where a method was not tuned to the end."""
    missing = [f"{agent} on {task.env}" for task in TASKS for agent in METHODS if (task.env, agent) not in chosen]
    if missing:
        raise UserError(f"not tuned to the end: {', '.join(missing)}; tune first, the same command goes on")
    texts = {}
    for key, value in chosen.items():
        texts[key] = {name: str(number) for name, number in parse_variant(value.variant).items()}
    return texts


def tuning_grid(values: Sequence[Tuned]) -> Grid:
    """A row per method and value and a column per domain; what is chosen is bold."""
    chosen = choose(values)
    envs = [task.env for task in TASKS]
    found = {(value.agent, value.variant, value.env): value for value in values}
    body = []
    for agent in METHODS:
        for variant in dict.fromkeys(value.variant for value in values if value.agent == agent):
            cells = [_tuned_cell(found.get((agent, variant, env)), chosen) for env in envs]
            body.append([label(agent, {}), variant, *cells])
    caption = "Tuning: success at the end in percent, mean over the tuning seeds (each seed's). Bold: chosen."
    return Grid(caption, ["method", "value", *envs], body)


def _tuned_cell(value: Tuned | None, chosen: Mapping[tuple[str, str], Tuned]) -> str:
    if value is None:
        return ""
    text = f"{value.success:.1f} ({', '.join(f'{x:.0f}' for x in value.by_seed)})"
    return Bold(text) if chosen[value.env, value.agent] is value else text


def trust_region_grid(runs: Iterable[Run]) -> Grid:
    """How far from the BC policy each value of the methods that know their path KL ended."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        if "path_kl" not in run.train:
            continue
        last = run.train[run.train.step == run.train.step.iloc[-1]]
        for variant, rows in groups(last, "variant"):
            key = run.agent, variant, run.config["env"]
            found[key] = [
                f"{rows[name].mean():.3g}" if name in rows else "" for name in ("path_kl", "lambda", "q_mean")
            ]
    envs = [task.env for task in TASKS]
    body = [
        [label(agent, {}), variant, *(text for env in envs for text in found.get((agent, variant, env), [""] * 3))]
        for agent in METHODS
        for variant in dict.fromkeys(variant for name, variant, _ in found if name == agent)
    ]
    columns = [f"{env}: {name}" for env in envs for name in ("path KL", "lambda", "Q")]
    caption = (
        "Tuning: path KL to the BC policy in nats per action, lambda, and the critics' mean value of the "
        "data, over the last updates and the tuning seeds."
    )
    return Grid(caption, ["method", "value", *columns], body)


def comparison_grids(runs: Sequence[Run]) -> list[Grid]:
    """A table per task, and one over all of them, that the first method has finished: success, its lead, cost."""
    rows = pd.concat([run.eval.assign(env=run.config["env"]) for run in runs], ignore_index=True)
    costs = {(run.config["env"], run.agent): _cost(run) for run in runs}
    values = {(run.config["env"], run.agent): _value(run) for run in runs}
    tasks = [(task.env, int(number)) for task in TASKS for number in task.compared_on.split(",")]
    by_task = {task: _success(rows, [task]) for task in tasks}
    grids = []
    for (env, number), success in by_task.items():
        if not success:
            continue
        extra = {agent: [values[env, agent], *costs[env, agent]] for agent in success if agent != "bc"}
        grids.append(_comparison_grid(f"{env}, task {number}", success, extra))
    if over_all := _success(rows, tasks):
        grids.append(_comparison_grid("All tasks, each seed's mean over them", over_all, {}))
    return grids


def _success(rows: pd.DataFrame, tasks: Sequence[tuple[str, int]]) -> compare.Success:
    """{agent: {seed: success at the end}}, means over the tasks, of seeds of which no replica has diverged.

    The BC policy is one of the agents. Those that have not finished all of the tasks are left out.
    """
    result: compare.Success = {}
    wanted = rows[[pair in tasks for pair in zip(rows.env, rows.task, strict=True)]]
    wanted = wanted.assign(agent=wanted.agent.where(wanted.phase != "bc", "bc"))
    for agent in sorted(wanted.agent.unique(), key=lambda name: (name != FIRST, name == "bc")):
        own = wanted[wanted.agent == agent]
        if set(zip(own.env, own.task, strict=True)) != set(tasks):
            continue
        last = own[own.step == own.groupby("env").step.transform("last")]
        by_seed = {seed: r for seed, r in groups(last, "seed") if len(r) == len(tasks) and (r.status == OK).all()}
        result[agent] = {seed: float(replicas.success.mean()) for seed, replicas in by_seed.items()}
    return compare.paired(result) if FIRST in result else {}


def _comparison_grid(title: str, success: compare.Success, extra: Mapping[str, list[str]]) -> Grid:
    table = compare.comparison(success)
    body = []
    for row in sorted(table, key=lambda row: -float(row["mean"])):
        interval = f"[{row['low']}, {row['high']}]" if row["low"] else ""
        cells = [label(row["agent"], {}), f"{row['mean']} ± {row['std']}", row["difference"], interval]
        body.append([*cells, *extra.get(row["agent"], [""] * len(COST) if extra else [])])
    header = ["method", "success, %", f"{label(FIRST, {})} minus it", "95 % interval"]
    header += COST if extra else []
    seeds = len(next(iter(success.values())))
    return Grid(f"{title}: mean and sample standard deviation over {seeds} seeds, paired differences.", header, body)


def _value(run: Run) -> str:
    """The tuned settings of a run of the comparison."""
    return variant_text({key: run.config[f"agent.{key}"] for key in METHODS[run.agent]})


def _cost(run: Run) -> list[str]:
    """Updates per second of all replicas, and seconds of training and of evaluation: of the run's process, one core."""
    times = pd.read_csv(run.folder / "times.csv")
    own = times[times.phase != "bc"]
    timed = own.dropna(subset="updates_per_second")
    steps = timed.step.diff().fillna(timed.step)
    seconds = float((steps / timed.updates_per_second).sum())
    replicas = len(run.config["run.seeds"]) * len(run.config["tasks"])
    rate = replicas * float(timed.step.iloc[-1]) / seconds
    return [f"{rate:.0f}", f"{seconds:.0f}", f"{own.eval_seconds.sum():.0f}"]
