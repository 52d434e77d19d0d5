"""A sweep in words: what it would take, and how far it is."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.sweeps.manifest import Sweep
from experiments.sweeps.states import State
from trqam_jax.files import expand

if TYPE_CHECKING:  # agents, which it imports, import JAX
    from experiments.sweeps.costs import Cost


def estimate(sweep: Sweep, benchmark: str | None) -> str:
    """The jobs as a table, with hours of training where the file `benchmark` has a measurement."""
    from experiments.sweeps.costs import costs

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


def progress(sweep: Sweep, found: Mapping[str, State], *, whole: bool = True) -> str:
    """How many jobs are in which state, all of them if `whole`, and why the failed ones did."""
    counts = Counter(state.kind for state in found.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [f"{sweep.folder.parent}: {len(found)} jobs, {listed}"]
    if whole:
        lines.append(_aligned(_row(sweep, found, name) for name in found))
    for name, state in found.items():
        if state.kind == "failed":
            lines += [f"failed: {name}: {state.error}", f"        its log: {sweep.log(name)}"]
    if counts["done"] == len(found):
        lines.append(f"table: python experiments/table.py {sweep.folder.parent}")
    return "\n".join(lines)


def _row(sweep: Sweep, found: Mapping[str, State], name: str) -> list[str]:
    """A job's name, its state, and how far it is, or what it waits for in vain."""
    failed = [f"{other} failed" for other in sweep.jobs[name].after if found[other].kind == "failed"]
    return [f"  {name}", found[name].kind, found[name].place or "".join(failed)]


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
