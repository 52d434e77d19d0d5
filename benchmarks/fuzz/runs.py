"""Folders as runs leave them, small, with numbers that follow from seed and step."""

import json
import pathlib
from typing import Any

from experiments.training.csv_rows import CsvWriter

ENV, SEEDS, STEPS = "cube-single", (1, 2), (0, 50_000, 100_000)
EVAL = ["env", "task", "agent", "seed", "phase", "step", "episodes", "success", "return", "length", "status"]
TRAIN = ["env", "task", "agent", "seed", "phase", "step", "status", "critic_loss", "grad_norm", "lambda", "path_kl"]
TIMES = ["phase", "step", "updates_per_second", "eval_seconds", "env_steps_per_second"]
FILES = ("eval.csv", "train.csv", "times.csv", "config.json", "versions.json", "DONE")


def write_run(folder: pathlib.Path, *, agent: str = "trqam") -> pathlib.Path:
    """A finished run of two seeds on one task."""
    from experiments import config as configuration

    folder.mkdir(parents=True)
    config = configuration.resolve(
        agent=agent, env=f"{ENV}-task1", protocol="quick", seeds=[str(seed) for seed in SEEDS]
    )
    config = configuration.with_fingerprints(config, data="0123456789abcdef", checkpoint="")
    content: dict[str, Any] = {**config.to_dict(), "notes": {"agent.kl_budget": "made up"}}
    (folder / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    (folder / "versions.json").write_text(json.dumps({"trqam_jax": "0.5.0", "jax": "0.10.2"}) + "\n")
    common = {"env": ENV, "task": 1, "agent": agent, "status": "ok", "phase": "offline"}
    evals, train, times = [], [], []
    for step in STEPS:
        for seed in SEEDS:
            own = {**common, "seed": seed, "step": step or 20_000, "phase": "offline" if step else "bc"}
            success = step / 200_000 + seed / 10
            evals.append({**own, "episodes": 50, "success": success, "return": -1.5, "length": 20.0})
            if step:
                train.append({**own, "critic_loss": 1 / seed, "grad_norm": 1e-3, "lambda": 0.1, "path_kl": 1.0})
        times.append({"phase": "offline", "step": step, "updates_per_second": 100.0})
    for name, columns, rows in (("eval", EVAL, evals), ("train", TRAIN, train), ("times", TIMES, times)):
        CsvWriter(folder / f"{name}.csv", columns).write(rows)
    (folder / "DONE").write_text("{}\n")
    return folder
