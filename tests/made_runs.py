"""Run folders as a finished run leaves them, with rows made up by a test, and the tables they give."""

import csv
import io
import json

from experiments import table
from experiments.training.csv_rows import CsvWriter

EVAL = ["env", "task", "agent", "seed", "phase", "step", "episodes", "success", "return", "length", "status"]
VERSIONS = {"trqam_jax": "0.1.0", "jax": "0.10.2"}


def write_run(folder, rows=(), *, agent="trqam", env="cube-single", protocol="quick", seeds=(7,), done=True,
              versions=VERSIONS, columns=EVAL, **settings):  # fmt: skip
    """rows: partial rows of eval.csv, filled up by what all share. settings: of the agent. Returns the folder."""
    folder.mkdir(parents=True)
    config = dict(agent_name=agent, env=env, protocol=protocol, tasks=[1], agent=settings)
    config |= dict(run={"seeds": list(seeds)}, train={"offline_steps": 1_000_000, "batch_size": 256}, notes={"x": "y"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "versions.json").write_text(json.dumps(versions))
    common = {"env": env, "agent": agent, "task": 1, "seed": seeds[0], "phase": "offline", "step": 1_000_000}
    common |= {"episodes": 50, "success": 0.5, "return": -1.5, "length": 2.0, "status": "ok"}
    CsvWriter(folder / "eval.csv", columns).write([common | row for row in rows])
    if done:
        (folder / "DONE").write_text("{}")
    return folder


TASKS = range(1, 6)
TRAIN = ["critic_loss", "grad_norm", "q_mean"]
TRUST_REGION = [*TRAIN, "kl_budget", "lambda", "path_kl"]
STEPS = range(50_000, 1_000_001, 50_000)


def write_whole_run(folder, *, agent="trqam", env="cube-double", tasks=(1, 2), seeds=(1, 2, 3), steps=STEPS,
                    diverged=(), **others):  # fmt: skip
    """A run with train.csv and times.csv as well, whose numbers follow from task, seed and step.

    diverged: (task, seed) of replicas that diverge half-way. others: of write_run.
    """
    metrics, half = (TRUST_REGION if agent == "trqam" else TRAIN), steps[len(steps) // 2]
    evals, train = [], []
    for step in (0, *steps):
        for task in tasks:
            for seed in seeds:
                gone = (task, seed) in diverged and step >= half
                row = {"task": task, "seed": seed, "status": "diverged" if gone else "ok"}
                row |= {"phase": "offline", "step": step} if step else {"phase": "bc", "step": 300_000}
                success = (step / steps[-1] + 0.1 * task + 0.03 * seed + 0.2 * (agent == "trqam")) / 2
                evals.append({**row, "success": round(success, 2)})
                if step:
                    values = {name: "nan" if gone else (1 + i) * (1 + seed / step) for i, name in enumerate(metrics)}
                    train.append({"env": env, "agent": agent, **row, **values, **{"kl_budget": 0.5}})
    write_run(folder, evals, agent=agent, env=env, seeds=seeds, **{"protocol": "trqam", **others})
    columns = ["env", "task", "agent", "seed", "phase", "step", "status", *metrics]
    CsvWriter(folder / "train.csv", columns).write([{key: row[key] for key in columns} for row in train])
    times = [{"phase": "offline", "step": step, "updates_per_second": 100.0} for step in steps]
    times.append({"phase": "offline", "step": steps[-1], "eval_seconds": 20.5, "env_steps_per_second": 300.0})
    CsvWriter(folder / "times.csv", TIMES).write(times)
    return folder


TIMES = ["phase", "step", "updates_per_second", "eval_seconds", "env_steps_per_second"]


def shown(*arguments):
    """What table.py prints."""
    file = io.StringIO()
    table.show(table.parse([str(argument) for argument in arguments]), file)
    return file.getvalue()


def read_markdown(text):
    """{method: {column: cell}} of the first table, bold marks kept."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rows = rows[: next((i for i, row in enumerate(rows[1:], 1) if row[0] == "method"), None)]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def read_tidy(text):
    return list(csv.DictReader(io.StringIO(text)))


def runs_of_a_domain(
    root, env="cube-double", *, success=lambda task, seed: 0.5, seeds=(1, 2, 3), tasks=TASKS, **others
):
    """One run with a row per task and seed. others: of write_run."""
    rows = [{"task": task, "seed": seed, "success": success(task, seed)} for task in tasks for seed in seeds]
    return write_run(root, rows, env=env, seeds=seeds, **{"protocol": "trqam", **others})
