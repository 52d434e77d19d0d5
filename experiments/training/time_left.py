"""How long a run still takes, from how long it has taken so far. Imports no JAX: a sweep's status comes by here."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from experiments.row_format import PHASES
from trqam_jax.errors import start_thread

RECENT_ROWS = 10  # so many of the last rates of updates count
RECENT_EVALUATIONS = 3


class WorkingClock:
    """Seconds in which the process was not stopped: a second that took longer than `longest` was a stop (SIGSTOP, a
    frozen container, a machine asleep), and is left out. A thread looks at the time every second.
    """

    def __init__(self, tick: float = 1, longest: float = 10, now: Callable[[], float] = time.monotonic):
        self._tick, self._longest, self._now = tick, longest, now
        self._last, self._stopped = now(), 0.0
        self._lock = threading.Lock()
        start_thread(threading.Thread(target=self._watch, name="working-clock", daemon=True))

    def __call__(self) -> float:
        """Like time.perf_counter: differences count."""
        with self._lock:
            now = self._now()
            if now - self._last > self._longest:
                self._stopped += now - self._last - self._tick
            self._last = now
            return now - self._stopped

    def _watch(self) -> None:
        while True:
            time.sleep(self._tick)
            self()


_clock: WorkingClock | None = None


def working_seconds() -> float:
    """The process's clock."""
    global _clock
    _clock = _clock or WorkingClock()
    return _clock()


class Ahead(NamedTuple):
    """What a phase still has to do."""

    steps: int
    evaluations: int


def totals(config: Mapping[str, Any]) -> dict[str, int]:
    """Steps of every phase of a stage's run. config: by flat key."""
    if config["agent_name"] == "bc":
        return {"bc": config["bc.steps"]}
    return {"offline": config["train.offline_steps"], "online": config["online.steps"]}


def ahead(config: Mapping[str, Any], phase: str, step: int) -> dict[str, Ahead]:
    """What is left of every phase that is not over when `step` of `phase` is. config: by flat key."""
    result = {}
    for name, total in totals(config).items():
        done = step if name == phase else total if PHASES.index(name) < PHASES.index(phase) else 0
        evaluated = name != "bc" and config["eval.episodes"] > 0
        evaluations = evaluations_after(done, total, config["eval.interval"]) if evaluated else 0
        if total > done:
            result[name] = Ahead(total - done, evaluations)
    return result


def evaluations_after(step: int, total: int, interval: int) -> int:
    """Of a phase: at multiples of the interval, and at its end."""
    return total // interval - step // interval + (step < total and total % interval > 0)


class Left(NamedTuple):
    """seconds: None if nothing is known. missing: phases ahead that are not in it, because none of their steps was
    timed."""

    seconds: float | None
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.seconds is None:
            return "-"
        return " + ".join((in_words(self.seconds), *self.missing))


def left(todo: Mapping[str, Ahead], step_seconds: Mapping[str, float], eval_seconds: float | None) -> Left:
    """step_seconds: of a step, by phase, as far as it was measured; eval_seconds: of an evaluation, None likewise."""
    known = {name: part for name, part in todo.items() if name in step_seconds}
    evaluations = sum(part.evaluations for part in known.values())
    if (todo and not known) or (evaluations and eval_seconds is None):
        return Left(None)
    seconds = sum(part.steps * step_seconds[name] for name, part in known.items()) + evaluations * (eval_seconds or 0)
    return Left(seconds, tuple(name for name in todo if name not in known))


def in_words(seconds: float) -> str:
    """40 s, 12 min, 2 h 41 min, 3 d 4 h."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours + (minutes >= 30), 24)
    return f"{days} d {hours} h"


def in_figures(rate: float) -> str:
    """A rate per second: 1,250, 81.3 or 0.12."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


class Pace:
    """How fast a run goes: what this process has measured, of that the latest."""

    def __init__(self):
        self._rates: dict[str, deque[float]] = {}
        self._evaluations: deque[float] = deque(maxlen=RECENT_EVALUATIONS)

    def trained(self, phase: str, steps_per_second: float) -> None:
        """Between two rows of a phase; 0 where a run goes on at its first row."""
        if steps_per_second > 0:
            self._rates.setdefault(phase, deque(maxlen=RECENT_ROWS + 1)).append(steps_per_second)

    def evaluated(self, seconds: float) -> None:
        """One evaluation."""
        self._evaluations.append(seconds)

    def rate(self, phase: str) -> float | None:
        """Steps per second; None before the first row. The first one's time has the compilation in it: it only counts
        while it is the only one."""
        rates = list(self._rates.get(phase, ()))
        return mean_rate(rates[1:] or rates) if rates else None

    @property
    def eval_seconds(self) -> float | None:
        """None before the first evaluation."""
        return mean(self._evaluations) if self._evaluations else None

    def left(self, todo: Mapping[str, Ahead]) -> Left:
        """How long that takes."""
        step_seconds = {phase: 1 / rate for phase in todo if (rate := self.rate(phase))}
        return left(todo, step_seconds, self.eval_seconds)


def mean(values: Iterable[float]) -> float:
    """Of one value or more."""
    values = list(values)
    return sum(values) / len(values)


def mean_rate(rates: Iterable[float]) -> float:
    """Of intervals of equally many steps."""
    return 1 / mean(1 / rate for rate in rates)
