"""The two sweeps of the small benchmark: one job per method and domain, each domain's BC policy before them."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.small_benchmark.design import (
    COMPARISON,
    FIRST,
    METHODS,
    NUM_SEEDS,
    PROTOCOL,
    TASKS,
    TUNING,
    TUNING_SEEDS,
    Task,
)
from experiments.sweeps import manifest, plan
from experiments.sweeps.manifest import Job, Sweep

MAIN = pathlib.Path(__file__).parents[1] / "main.py"

Values = Mapping[str, str]  # {name of an agent's setting: text of its value or values}


def tuning(out_dir: str, flags: Mapping[str, Any]) -> Sweep:
    """Every method at its four values, which are replicas of one process, under the tuning seeds.

    flags: values of main.py's flags that every job is given besides. The policy is evaluated at the end alone.
    """
    jobs: dict[str, Job] = {}
    for task in TASKS:
        own = {"eval_bc": False, "eval_interval": 10**9, "eval_episodes": task.tuning_episodes, **flags}
        for agent, values in METHODS.items():
            request = _request(task, agent, TUNING, out_dir, values, own)
            jobs |= plan.expand(request._replace(tasks=task.tuned_on, seeds=list(TUNING_SEEDS)))
    return _sweep(out_dir, TUNING, jobs)


def comparison(out_dir: str, flags: Mapping[str, Any], chosen: Mapping[tuple[str, str], Values]) -> Sweep:
    """Every method at the value that was chosen for the domain, chosen[env, agent], under the protocol's seeds.

    All start from one BC policy, which the runs of one method evaluate.
    """
    jobs: dict[str, Job] = {}
    for task in TASKS:
        for agent in METHODS:
            own = {"eval_bc": agent == FIRST, **flags}
            request = _request(task, agent, COMPARISON, out_dir, chosen[task.env, agent], own)
            jobs |= plan.expand(request._replace(tasks=task.compared_on, num_seeds=NUM_SEEDS))
    return _sweep(out_dir, COMPARISON, jobs)


def _request(
    task: Task, agent: str, group: str, out_dir: str, values: Values, flags: Mapping[str, Any]
) -> plan.Request:
    folder = manifest.folder_of(out_dir, group)
    data = {"dataset": "generate", "dataset_episodes": task.dataset_episodes}
    return plan.Request(
        agents=[agent],
        envs=[task.env],
        tasks=None,
        seeds=None,
        num_seeds=None,
        protocol=PROTOCOL,
        flags={**data, **flags, "out_dir": str(folder.parents[1]), "group": folder.parent.name},
        overrides={f"agent.{key}": text for key, text in values.items()},
        max_replicas=None,
    )


def _sweep(out_dir: str, group: str, jobs: Mapping[str, Job]) -> Sweep:
    return Sweep(manifest.folder_of(out_dir, group), str(MAIN), os.getcwd(), _bc_first(jobs.values()))


def _bc_first(jobs: Iterable[Job]) -> dict[str, Job]:
    """BC jobs, for which others wait, before all; then methods in their order, on each domain."""
    order = ["bc", *METHODS]
    return {job.name: job for job in sorted(jobs, key=lambda job: order.index(job.agent))}
