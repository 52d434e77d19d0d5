"""Run folders as a finished run leaves them, with rows made up by a test."""

import json

from trqam_jax.logging import CsvWriter

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
