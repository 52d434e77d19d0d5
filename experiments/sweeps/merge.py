"""A sweep that is asked for again, or for more: what of it is new, and what does not fit the jobs that are there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.config import declared, swept
from experiments.sweeps import manifest
from experiments.sweeps.manifest import Job, Sweep, as_json
from trqam_jax.errors import UserError


def merged(new: Sweep) -> Sweep:
    """The sweep on the disk with the jobs that `new` adds to it. A UserError if it has one of them otherwise."""
    if not manifest.exists(new.folder):
        return new
    old = manifest.read(new.folder)
    others: dict[tuple[str, str], list[_Settings]] = {}
    for name, job in old.jobs.items():
        if name not in new.jobs:
            others.setdefault((job.agent, job.env), []).append(_Settings.of(job))
    for name, job in new.jobs.items():
        _refuse_overlap(new, job, others.get((job.agent, job.env), []))
        if name in old.jobs:
            _refuse_change(new, old.jobs[name], job)
    return old._replace(program=new.program, jobs=old.jobs | new.jobs)


def _refuse_change(sweep: Sweep, before: Job, job: Job) -> None:
    """A UserError if the job of this name has other arguments in the sweep that is there."""
    if (sorted(before.argv), before.after) == (sorted(job.argv), job.after):  # versions order them differently
        return
    was = " ".join(argument for argument in before.argv if argument not in job.argv)
    now = " ".join(argument for argument in job.argv if argument not in before.argv)
    raise UserError(
        f"{sweep.folder}: the sweep there has {job.name} with {was or 'nothing more'}, not with "
        f"{now or 'nothing more'}; choose another --group"
    )


class _Settings(NamedTuple):
    """A job's settings, complete, and those of them that it sweeps."""

    name: str
    all: dict[str, Any]
    swept: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, job: Job) -> "_Settings":
        settings = complete(job.agent, job.settings)
        return cls(job.name, settings, swept(settings))


def _refuse_overlap(sweep: Sweep, job: Job, others: Sequence[_Settings]) -> None:
    """A UserError if another job of the sweep has some of this one's replicas: they would be trained twice.

    others: of the job's agent and domain.
    """
    if not others:
        return
    own = _Settings.of(job)
    for other in others:
        both = _overlap(own, other)
        if both:
            values = ", ".join(f"{key.removeprefix('agent.')}={_listed(found)}" for key, found in both.items())
            raise UserError(
                f"{sweep.folder}: the sweep there has {other.name}, with {values} already; ask for the others alone, "
                "choose another --group, or go on with what is there by `retry`"
            )


def _overlap(job: _Settings, other: _Settings) -> dict[str, set[float]]:
    """{swept setting: the values that both have}; empty unless they have replicas in common and nothing else differs
    but other values of what is swept."""
    ours, theirs = job.all, other.all
    axes = {**job.swept, **other.swept}
    if not axes or any(ours.get(key) != theirs.get(key) for key in {*ours, *theirs} - set(axes)):
        return {}
    both = {key: _values(ours[key]) & _values(theirs[key]) for key in sorted(axes)}
    return both if all(both.values()) else {}


def _values(value: float | list[float] | None) -> set[Any]:
    return set(value) if isinstance(value, list) else {value}


def _listed(values: Iterable[float]) -> str:
    return ",".join(map(str, sorted(values)))


def complete(agent: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings that an earlier version wrote, with those that later versions added, at their defaults."""
    later = {key: as_json(setting.default) for key, setting in declared(agent).items() if setting.since}
    return {**later, **settings}
