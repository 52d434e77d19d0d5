"""Evaluations of a run: episodes of every replica, as rows and films."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from envs.vector.slots import VectorSlots
from experiments.training import interrupt, time_left
from experiments.training.records import Recorder
from experiments.training.replica import Replica, seeds_of
from experiments.training.scaled import ScaledSlots
from experiments.training.time_left import Pace, working_seconds
from trqam_jax.agent import AbstractAgent
from trqam_jax.evaluation import Slots, evaluate, start_seeds
from trqam_jax.scaling import Scaling
from trqam_jax.streams import stack_streams


class Evaluator(NamedTuple):
    """Plays `episodes` episodes of each replica, and films the first `video_episodes` of them."""

    slots: VectorSlots
    recorder: Recorder
    replicas: list[Replica]
    episodes: int
    video_episodes: int
    scaling: Scaling | None  # of the observations that the policies see
    pace: Pace

    def __call__(self, policies: AbstractAgent, phase: str, step: int) -> None:
        """Rows of eval.csv, unless they are there. A signal abandons the evaluation without rows."""
        if self.episodes == 0 or self.recorder.has("eval", phase, step):
            return
        start = working_seconds()
        seeds = seeds_of(self.replicas)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(stack_streams(seeds, phase).evaluation)
        self._film(phase, step)
        starts = start_seeds(seeds, phase, step, self.episodes)
        slots = self.slots if self.scaling is None else ScaledSlots(self.slots, self.scaling)
        episodes = evaluate(policies, InterruptibleSlots(slots), starts, keys)
        seconds = working_seconds() - start
        self.recorder.eval(phase, step, episodes, seconds)
        self.pace.evaluated(seconds)
        tqdm.write(self._line(phase, step, episodes.success.mean(1)))

    def _line(self, phase: str, step: int, success: np.ndarray) -> str:
        """What there is to know at a glance. success: (R,), each replica's fraction."""
        config = self.recorder.flat_config
        where = "BC policy" if phase == "bc" else f"{phase} {step:,}/{time_left.totals(config)[phase]:,}"
        rate = self.pace.rate(phase)
        unit = "steps/s" if phase == "online" else "updates/s"
        speed = [f"{time_left.in_figures(rate)} {unit}"] if rate else []
        speed.append(f"evaluation {time_left.in_words(self.pace.eval_seconds or 0)}")
        left = self.pace.left(time_left.ahead(config, phase, step))
        return " | ".join((where, f"success {self._spread(success)}", ", ".join(speed), f"left {left}"))

    def _spread(self, success: np.ndarray) -> str:
        """The mean over the replicas that have not diverged, and the least and the greatest."""
        sound = success[self.recorder.sound()]
        each = f"{self.episodes} episodes"
        text = f"{sound.mean():.3f}" if sound.size else "-"
        if success.size > 1:
            between = f"{sound.min():.2f} to {sound.max():.2f}, " if sound.size else ""
            each = f"{between}{success.size} replicas x {each}"
        gone = success.size - sound.size
        return f"{text} ({each}{f', {gone} diverged' if gone else ''})"

    def _film(self, phase: str, step: int) -> None:
        if not self.video_episodes:
            return
        folder = self.recorder.folder / "videos"
        folder.mkdir(exist_ok=True)
        filmed = range(min(self.video_episodes, self.episodes))
        names = [replica.file_name for replica in self.replicas]
        self.slots.film([[folder / f"{phase}-{step}-{name}-{e}.gif" for e in filmed] for name in names])


class InterruptibleSlots:
    """Slots that a signal stops between two calls."""

    def __init__(self, slots: Slots):
        self.begin = _watched(slots.begin)
        self.wait = _watched(slots.wait)
        self.play = _watched(slots.play)
        self.results = _watched(slots.results)


def _watched(call: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        interrupt.check()
        return call(*arguments)

    return watched
