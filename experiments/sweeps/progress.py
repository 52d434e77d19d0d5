"""How far the jobs of a sweep are, and how long they still take. Imports no JAX."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from experiments.sweeps.manifest import Job, Sweep
from experiments.sweeps.states import Run, Runs, State
from experiments.training.time_left import Left, Pace, ahead, left, mean, totals

#: States of jobs that are at work.
AT_WORK = ("running", "elsewhere")


class Progress(NamedTuple):
    """done: which fraction of its steps; rate: steps per second, at the last rows; left: as if it ran now."""

    done: float
    rate: float | None
    left: Left
    of_others: bool  # `left` is from the speed of other jobs, as far as this one's was not measured


class _Measured(NamedTuple):
    job: Job
    run: Run
    pace: Pace


class Speeds:
    """What was measured of a sweep's jobs, for those that have not come so far: by the same method in the same domain,
    else by the same method in others."""

    def __init__(self, measured: Iterable[_Measured]):
        self._by_method: dict[str, list[_Measured]] = {}
        for one in measured:
            self._by_method.setdefault(one.job.agent, []).append(one)
        self._known: dict[tuple[str, str, str], float | None] = {}

    def run_like(self, job: Job) -> Run | None:
        """A run that has as many steps ahead as the job will have."""
        return next((one.run for one in self._by_method.get(job.agent, ())), None)

    def step_seconds(self, job: Job, phase: str) -> float | None:
        """Of a step."""
        return self._mean(job, phase, lambda pace: 1 / rate if (rate := pace.rate(phase)) else None)

    def eval_seconds(self, job: Job) -> float | None:
        """Of an evaluation."""
        return self._mean(job, "evaluation", lambda pace: pace.eval_seconds)

    def _mean(self, job: Job, what: str, of: Callable[[Pace], float | None]) -> float | None:
        key = job.agent, job.env, what
        if key not in self._known:
            alike = self._by_method.get(job.agent, [])
            found = [(one.job.env, value) for one in alike if (value := of(one.pace)) is not None]
            own = [value for env, value in found if env == job.env]
            values = own or [value for _, value in found]
            self._known[key] = mean(values) if values else None
        return self._known[key]


def all_progress(sweep: Sweep, states: Mapping[str, State], runs: Runs) -> dict[str, Progress]:
    """By the job's name."""
    measured = {
        name: _Measured(job, run, run.pace()) for name, job in sweep.jobs.items() if (run := runs.of(job)) is not None
    }
    speeds = Speeds(measured.values())
    return {name: _progress(job, states[name], measured.get(name), speeds) for name, job in sweep.jobs.items()}


def _progress(job: Job, state: State, own: _Measured | None, speeds: Speeds) -> Progress:
    if state.kind == "done":
        return Progress(1, None, Left(0), of_others=False)
    run = own.run if own else speeds.run_like(job)
    if run is None:
        return Progress(0, None, Left(None), of_others=False)
    phase, step = (own.run.phase, own.run.step) if own and own.run.phase else (next(iter(totals(run.config))), 0)
    pace = own.pace if own else Pace()
    todo = ahead(run.config, phase, step)
    measured = {name: 1 / rate for name in todo if (rate := pace.rate(name))}
    others = {name: value for name in todo if (value := speeds.step_seconds(job, name)) is not None}
    evaluation = pace.eval_seconds
    guessed = evaluation is None and any(part.evaluations for part in todo.values())
    if guessed:
        evaluation = speeds.eval_seconds(job)
    whole = sum(totals(run.config).values())
    fraction = 1 - sum(part.steps for part in todo.values()) / whole if whole else 0
    rate = pace.rate(phase) if state.kind in AT_WORK else None
    of_others = guessed or bool(others.keys() - measured.keys())
    return Progress(fraction, rate, left(todo, {**others, **measured}, evaluation), of_others)


class Whole(NamedTuple):
    """done: the fraction of all jobs' steps; work: seconds of all jobs that are not done, one after the other;
    at_once: how many are at work; seconds: until the last one is done, if so many stay at work; None where none is.
    unknown: jobs about which nothing is known, and which are in neither."""

    done: float
    work: float
    at_once: int
    seconds: float | None
    unknown: int


def whole(sweep: Sweep, states: Mapping[str, State], found: Mapping[str, Progress]) -> Whole:
    """Of all jobs together."""
    weight = {name: max(1, job.updates) for name, job in sweep.jobs.items()}
    done = sum(weight[name] * one.done for name, one in found.items()) / max(1, sum(weight.values()))
    todo = [found[name].left for name, state in states.items() if state.kind != "done"]
    known = [one.seconds for one in todo if one.seconds is not None]
    at_once = sum(state.kind in AT_WORK for state in states.values())
    seconds = max(sum(known) / at_once, max(known, default=0)) if at_once and known else None
    unknown = sum(one.seconds is None or bool(one.missing) for one in todo)
    return Whole(done, sum(known), at_once, seconds, unknown)
