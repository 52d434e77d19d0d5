"""What the jobs of a sweep would take, from measurements of the speed of updates."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import agents
from experiments.sweeps.manifest import Job
from experiments.training.csv_rows import read_csv
from trqam_jax.errors import UserError
from trqam_jax.settings import value_type

#: What benchmarks/update.py measures with: everything but this and the widths is the agent's default.
_BATCH_SIZE = 256
#: The columns of its file that are read here.
_COLUMNS = ("agent", "loop", "replicas", "hidden_dims", "updates_per_second", "device")


class Cost(NamedTuple):
    """What a job takes on the device that was measured: seconds of training, evaluation not counted."""

    seconds: float
    device: str


def costs(jobs: Iterable[Job], benchmark: pathlib.Path) -> dict[str, Cost]:
    """Of the jobs that the file, written by benchmarks/update.py, has a measurement for: agent, sizes and minibatch.

    Of several the one with the most replicas that the job has, too, counts, else the one with the fewest.
    """
    rows = read_csv(benchmark)
    missing = [column for column in _COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise UserError(f"--benchmark={benchmark}: has no {', '.join(missing)}; benchmarks/update.py --csv writes it")
    result = {}
    for job in jobs:
        alike = [row for row in rows if row["loop"] == "now" and _is_measured(job, row)]
        if alike:
            row = _nearest(job, alike)
            result[job.name] = Cost(job.updates * job.replicas / float(row["updates_per_second"]), row["device"])
    return result


def _nearest(job: Job, rows: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    count = lambda row: int(row["replicas"])
    not_more = [row for row in rows if count(row) <= job.replicas]
    return max(not_more, key=count) if not_more else min(rows, key=count)


def _is_measured(job: Job, row: Mapping[str, str]) -> bool:
    """Whether a row is of the job's agent and sizes: numbers of networks, steps and candidates, and widths."""
    widths = "x".join(map(str, job.settings["agent.hidden_dims"]))
    if (job.agent, widths) != (row["agent"], row["hidden_dims"]) or job.settings["train.batch_size"] != _BATCH_SIZE:
        return False
    declared = agents.settings(job.agent)
    sizes = [key for key, setting in declared.items() if value_type(setting) in (int, tuple) and key != "hidden_dims"]
    return all(job.settings[f"agent.{key}"] == declared[key].default for key in sizes)
