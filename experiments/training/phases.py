"""How a phase goes: updates up to what is next due, and then rows, evaluations and checkpoints."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from envs.vector.actors import Transitions
from experiments.training import interrupt
from experiments.training.schedule import Schedule
from experiments.training.time_left import working_seconds
from trqam_jax.checkpoint import Checkpoints, Place
from trqam_jax.evaluation import policy
from trqam_jax.replicas import Population
from trqam_jax.streams import Streams
from trqam_jax.update_loop import SamplingConfig

DISPATCH_SECONDS = 0.5  # how often the host hears from the device


class Progress(Protocol):
    """How a phase goes from one step to another."""

    population: Population
    saves_anywhere: ClassVar[bool]  # whether a checkpoint between multiples of the interval changes nothing

    def advance(self, step: int, stop: int, bar: tqdm) -> int:
        """On to `stop`, or to where a signal has come. Returns how far."""
        ...

    def state(self, step: int) -> Any:
        """What a checkpoint holds, as arrays."""

    def report(self, steps: int) -> None:
        """Print what is to be known of the `steps` steps of the phase when it is over."""


class Actors(Protocol):
    """Simulators of R replicas, as `envs.vector.actors.Actors` has them."""

    def begin(self, entropy: np.ndarray) -> np.ndarray:
        """Start new episodes everywhere, by entropy (R, n); their observations (R, O)."""
        ...

    def play(self, chunks: np.ndarray, start: np.ndarray, count: np.ndarray) -> Transitions:
        """Replica r plays chunks[r, start[r] : start[r] + count[r]], up to its episode's end. chunks: (R, H, A)."""
        ...


AtRows = Callable[[Population, str, int, float], None]  # (replicas, phase, step, steps per second)


def train(
    progress: Progress,
    start: Place,
    schedule: Schedule,
    checkpoints: Checkpoints,
    at_rows: AtRows,
    begun: Callable[[Population], None] = lambda _: None,
) -> None:
    """The phase from `start` on. Wherever rows are due, at_rows is called, and the totals of the replicas then start
    anew; begun is called once the first step is made. How the updates are dispatched changes no number.

    A checkpoint holds the replicas and their running sums before the rows of its step: `at_rows` is called again for
    them.
    A signal between two saves is answered by one more, where that changes nothing; else the run goes back to the last.
    """
    (phase, step), population = start, progress.population
    first = saved = step  # first: of the steps that are timed for the next row
    began = working_seconds()

    def save() -> None:
        nonlocal saved
        if saved < step and (progress.saves_anywhere or schedule.saves(step)):
            checkpoints.save(Place(phase, step), progress.state(step))
            saved = step

    with progress_bar(step, schedule.total, phase) as bar:
        while True:
            if step and (schedule.saves(step) or interrupt.pending()):
                save()
            interrupt.check()
            if step and schedule.logs(step):
                try:
                    at_rows(population, phase, step, (step - first) / (working_seconds() - began))
                    interrupt.check()
                except interrupt.Interrupted:
                    save()
                    raise
                population.restart_totals()
                first, began = step, working_seconds()
            if step >= schedule.total:
                return
            if step == start.step:
                step = progress.advance(step, step + 1, bar)
                if not interrupt.pending():
                    begun(population)
            step = progress.advance(step, schedule.next(step), bar)


class Offline:
    """Updates alone, in dispatches of about half a second."""

    saves_anywhere: ClassVar = True

    def __init__(self, population: Population):
        self.population, self._length = population, 1

    def advance(self, step: int, stop: int, bar: tqdm) -> int:
        """One update per step."""
        while step < stop and not interrupt.pending():
            count, before = min(self._length, stop - step), time.perf_counter()
            self.population.run(step, count)
            step += count
            bar.update(count)
            fitting = int(count * DISPATCH_SECONDS / (time.perf_counter() - before))
            self._length = max(1, min(2 * self._length, fitting))
        return step

    def state(self, step: int) -> Any:
        """(the agents' state, totals)."""
        return self.population.agents.state(), self.population.totals

    def report(self, steps: int) -> None:
        """Nothing."""


class Online:
    """Acting and updating in turn: each replica decides on a chunk, plays it, and makes the updates of its steps.

    That is the plain interleaving of single steps: a chunk is decided on before its first action, and every update
    sees the transitions it would have seen. Replicas whose episodes end at different steps do not wait for one another;
    at `stop` all have the same number of steps, and who is in the middle of a chunk goes on with it afterwards. A save
    ends the episodes, and new ones start from (seed, step), so that what follows does not depend on a restart.
    """

    saves_anywhere: ClassVar = False

    def __init__(
        self,
        population: Population,
        actors: Actors,
        seeds: list[int],
        streams: Streams,
        sampling: SamplingConfig,
        schedule: Schedule,
    ):
        self.population, self._actors, self._sampling, self._schedule = population, actors, sampling, schedule
        self._seeds, self._keys = seeds, streams.acting
        self.seconds: dict[str, float] = dict.fromkeys(("policy", "environments", "updates"), 0.0)

    def _begin(self, step: int) -> None:
        entropy = np.array([[seed, *b"online", step] for seed in self._seeds])
        with interrupt.at_once():  # a simulator may hang; the run goes back to the last save in any case
            self._current = self._actors.begin(entropy)
        replicas, spec = len(self._seeds), self.population.spec
        self._chunks = np.zeros((replicas, spec.horizon, spec.action_dim), np.float32)
        self._position = np.full(replicas, spec.horizon)  # they have played these to the end

    def _decide(self, steps: np.ndarray) -> None:
        """New chunks for the replicas that have none left; the episode's number in the noise is its step's."""
        spec = self.population.spec
        spent = self._position >= spec.horizon
        if not spent.any():
            return
        at_random = self._sampling.balanced & (steps < self._sampling.start_training)
        chunks = self._chunks
        if not at_random.all():
            episodes = np.zeros((len(steps), 1), int)
            slots = self._current[:, None], self._keys, episodes, steps[:, None]
            chunks = self.population.map_replicas(functools.partial(policy, online=True), *slots)[:, 0]
        if at_random.any():
            uniform = np.asarray(_uniform(self._keys, jnp.asarray(steps), (spec.horizon, spec.action_dim)))
            chunks = np.where(at_random[:, None, None], uniform, chunks)
        self._chunks = np.where(spent[:, None, None], chunks, self._chunks)
        self._position = np.where(spent, 0, self._position)

    def advance(self, step: int, stop: int, bar: tqdm) -> int:
        """One environment step of every replica per step."""
        if step % self._schedule.save == 0:
            self._begin(step)
        steps, done = np.full(len(self._seeds), step), step
        while (steps < stop).any() and not interrupt.pending():
            with self._timed("policy"):
                self._decide(steps)
            with self._timed("environments"):
                count = np.minimum(self._chunks.shape[1] - self._position, stop - steps)
                with interrupt.at_once():
                    played = self._actors.play(self._chunks, self._position, count)
            with self._timed("updates"):
                fields = ("observations", "actions", "rewards", "masks", "terminals", "next_observations")
                self.population.store({name: getattr(played, name) for name in fields}, played.length)
                first, updates = self._sampling.updates(steps, played.length)
                if updates.any():
                    self.population.run(first, updates)
            self._position = np.where(played.ended, self._chunks.shape[1], self._position + played.length)
            self._current = played.current
            steps = steps + played.length
            bar.update(int(steps.min()) - done)
            done = int(steps.min())
        return done

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def state(self, step: int) -> Any:
        """(the agents' state, totals, replay), of the replay the rows that are filled."""
        replay = self.population.replay
        assert replay is not None  # the online phase made it
        return self.population.agents.state(), self.population.totals, replay.resized(step)

    def report(self, steps: int) -> None:
        """The speed, and what the time went to."""
        total = sum(self.seconds.values())
        if total:
            shares = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in self.seconds.items())
            speed = steps * len(self._seeds) / total
            print(f"online: {speed:,.1f} environment steps per second of all replicas; time: {shares}")


@jax.jit(static_argnames="shape")
def _uniform(keys: Any, steps: Any, shape: tuple[int, ...]) -> Any:
    """Actions uniform in [-1, 1], a chunk per replica and step."""
    one = lambda key, step: jax.random.uniform(jax.random.fold_in(key, step), shape, minval=-1)
    return jax.vmap(one)(keys, steps)


@contextlib.contextmanager
def progress_bar(step: int, total: int, phase: str) -> Iterator[tqdm]:
    """On a terminal a bar, in a log file a line now and then."""
    interval = 0.2 if sys.stderr.isatty() else 30
    with tqdm(initial=step, total=total, desc=phase, unit="step", mininterval=interval, dynamic_ncols=True) as bar:
        yield bar
