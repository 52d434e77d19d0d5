"""Start the jobs of a sweep that are not done and not under way: on this machine, or on Slurm."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.sweeps import local, manifest, slurm
from experiments.sweeps.manifest import Sweep
from experiments.sweeps.merge import merged
from experiments.sweeps.report import progress
from experiments.sweeps.states import State, all_states
from experiments.training import lock


def on_this_machine(sweep: Sweep, jobs: int | None, gpus: Sequence[str] | None) -> int:
    """Run them, `jobs` at a time (None: one per GPU), on these GPUs (None: all). Returns the exit status."""
    gpus = local.visible_gpus() if gpus is None else gpus
    with _recorded(sweep) as before:
        running = _of_kind(before, "running", "queued")
        for name in running:
            _say(f"{before[name].kind} already: {name}")
        done = _of_kind(before, "done")
        todo = sweep.only(sweep.jobs.keys() - done - running.keys())
        local.run(todo, done, local.environments(jobs or len(gpus) or 1, gpus), _say)
    after = all_states(sweep, slurm.under_way(sweep))
    print(progress(sweep, after))
    return int(any(state.kind != "done" for state in after.values()))


def on_slurm(sweep: Sweep, options: Mapping[str, Any]) -> int:
    """Submit them; options: settings of submitit's SlurmExecutor. Returns the exit status."""
    with _recorded(sweep) as before:
        for line in slurm.submit(sweep, _of_kind(before, "done"), _of_kind(before, "running", "queued"), options):
            print(line)
        print(progress(sweep, all_states(sweep, slurm.under_way(sweep))))
    return 0


@contextlib.contextmanager
def _recorded(sweep: Sweep) -> Iterator[dict[str, State]]:
    """The sweep in its manifest, and for this process alone. Yields the states of its jobs."""
    with lock.hold(sweep.folder, wait=False):
        manifest.write(merged(sweep))
        yield all_states(sweep, slurm.under_way(sweep))


def _of_kind(found: Mapping[str, State], *kinds: str) -> dict[str, State]:
    return {name: state for name, state in found.items() if state.kind in kinds}


def _say(text: str) -> None:
    """A line with the time of day."""
    print(time.strftime("[%H:%M:%S]"), text, flush=True)
