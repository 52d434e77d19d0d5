"""A sweep in words: what it would take, and how far it is."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.sweeps import progress as sweep_progress
from experiments.sweeps.manifest import Sweep
from experiments.sweeps.progress import Progress, Whole
from experiments.sweeps.states import State
from experiments.training.time_left import in_figures, in_words
from trqam_jax.files import expand

if TYPE_CHECKING:
    from experiments.sweeps.costs import Cost


def estimate(sweep: Sweep, benchmark: str | None) -> str:
    """The jobs as a table, with hours of training where the file `benchmark` has a measurement."""
    from experiments.sweeps.costs import costs  # it imports JAX, for which `status` does not wait

    found = costs(sweep.jobs.values(), expand(benchmark)) if benchmark else {}
    rows = [["job", "replicas", "updates of each", "hours", "after"]]
    for name, job in sweep.jobs.items():
        hours = f"{found[name].seconds / 3600:,.1f}" if name in found else "not measured"
        rows.append([name, str(job.replicas), f"{job.updates:,}", hours, ", ".join(job.after)])
    return f"{_aligned(rows)}\n{_total(sweep, found)}; evaluation comes on top"


def _total(sweep: Sweep, found: "Mapping[str, Cost]") -> str:
    replicas = sum(job.replicas for job in sweep.jobs.values() if job.after or job.agent != "bc")
    parts = [f"{len(sweep.jobs)} jobs with {replicas:,} replicas, not counting behaviour cloning"]
    for device in dict.fromkeys(cost.device for cost in found.values()):
        seconds = [cost.seconds for cost in found.values() if cost.device == device]
        parts.append(f"{sum(seconds) / 3600:,.0f} hours of training for {len(seconds)} of them, on {device}")
    unknown = len(sweep.jobs) - len(found)
    if unknown:
        parts.append(f"{unknown} not measured" + ("" if found else ": --benchmark=FILE.csv"))
    return "; ".join(parts)


def progress(sweep: Sweep, found: Mapping[str, State], details: Mapping[str, Progress] | None = None) -> str:
    """How many jobs are in which state, all of them if there are details, and why the failed ones did."""
    counts = Counter(state.kind for state in found.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [f"{sweep.folder.parent}: {len(found)} jobs, {listed}"]
    if details is not None:
        lines.append(_whole(sweep_progress.whole(sweep, found, details)))
        header = ["  job", "state", "done", "at", "per s", "left", ""]
        lines.append(_aligned([header, *(_row(sweep, found, name, details[name]) for name in found)]))
        if any(one.of_others for one in details.values()):
            lines.append("~: by the speed of other jobs of the method")
    for name, state in found.items():
        if state.kind == "failed":
            lines += [f"failed: {name}: {state.error}", f"        its log: {sweep.log(name)}"]
    if counts["done"] == len(found):
        lines.append(f"table: python experiments/table.py {shlex.quote(str(sweep.folder.parent))}")
    return "\n".join(lines)


def _whole(whole: Whole) -> str:
    """All jobs together: 43 % done; left: 12 h 5 min at 4 jobs at a time, ..."""
    parts = []
    if whole.seconds is not None:
        parts.append(f"{in_words(whole.seconds)} at {whole.at_once} job(s) at a time")
    if whole.work:
        parts.append(f"{in_words(whole.work)} of one job after the other")
    if whole.unknown:
        parts.append(f"not counting what is unknown of {whole.unknown} job(s)")
    return f"{whole.done:.0%} of all steps done" + (f"; left: {', '.join(parts)}" if parts else "")


def _row(sweep: Sweep, found: Mapping[str, State], name: str, progress: Progress) -> list[str]:
    """A job's name, its state, how far it is, how fast, how long it takes, and what is wrong or waited for in vain."""
    state = found[name]
    failed = [f"{other} failed" for other in sweep.jobs[name].after if found[other].kind == "failed"]
    remark = state.error if state.kind in ("stale", "elsewhere") else ", ".join(failed)
    known = progress.left.seconds is not None and state.kind != "done"
    left = f"{'~' * progress.of_others}{progress.left}" if known else ""
    rate = in_figures(progress.rate) if progress.rate else ""
    return [f"  {name}", state.kind, f"{progress.done:.0%}", state.place, rate, left, remark]


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
