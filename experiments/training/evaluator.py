"""Evaluations of a run: episodes of every replica, as rows and films."""

from collections.abc import Callable
from typing import Any

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
from trqam_jax.ahead import Ahead
from trqam_jax.evaluation import Slots, compile_policy, evaluate, start_seeds
from trqam_jax.scaling import Scaling
from trqam_jax.streams import stack_streams


class Evaluator:
    """Plays `episodes` episodes of each replica, and films the first `video_episodes` of them."""

    def __init__(
        self,
        slots: VectorSlots,
        recorder: Recorder,
        replicas: list[Replica],
        episodes: int,
        video_episodes: int,
        scaling: Scaling | None,
        pace: Pace,
    ):
        """scaling: of the observations that the policies see. pace: is told how long evaluations take."""
        self._slots, self._recorder, self._replicas, self._scaling = slots, recorder, replicas, scaling
        self._episodes, self._video_episodes, self._pace = episodes, video_episodes, pace
        self._program: Ahead | None = None

    def compile_ahead(self, policies: AbstractAgent) -> None:
        """Begin to compile what the next evaluation takes, for policies of these shapes."""
        if self._episodes and len(jax.devices()) == 1:  # on several it depends on where the replicas lie
            self._program = compile_policy(policies, self._slots.shape)

    def lacks(self, phase: str, step: int | None = None) -> bool:
        """Whether there are episodes to play for the rows of that place, or any of the phase."""
        return self._episodes > 0 and not self._recorder.has("eval", phase, step)

    def __call__(self, policies: AbstractAgent, phase: str, step: int) -> None:
        """Rows of eval.csv, unless they are there. A signal abandons the evaluation without rows."""
        if not self.lacks(phase, step):
            return
        self._slots.start()  # here, where a signal that comes meanwhile is not answered at once
        if self._program is not None:
            with interrupt.at_once():
                self._program.result()
        start = working_seconds()
        seeds = seeds_of(self._replicas)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(stack_streams(seeds, phase).evaluation)
        self._film(phase, step)
        starts = start_seeds(seeds, phase, step, self._episodes)
        slots = self._slots if self._scaling is None else ScaledSlots(self._slots, self._scaling)
        episodes = evaluate(policies, InterruptibleSlots(slots), starts, keys)
        seconds = working_seconds() - start
        self._recorder.eval(phase, step, episodes, seconds)
        self._pace.evaluated(seconds)
        tqdm.write(self._line(phase, step, episodes.success.mean(1)))

    def _line(self, phase: str, step: int, success: np.ndarray) -> str:
        """What there is to know at a glance. success: (R,), each replica's fraction."""
        config = self._recorder.flat_config
        where = "BC policy" if phase == "bc" else f"{phase} {step:,}/{time_left.totals(config)[phase]:,}"
        rate = self._pace.rate(phase)
        unit = "steps/s" if phase == "online" else "updates/s"
        speed = [f"{time_left.in_figures(rate)} {unit}"] if rate else []
        speed.append(f"evaluation {time_left.in_words(self._pace.eval_seconds or 0)}")
        left = self._pace.left(time_left.ahead(config, phase, step))
        return " | ".join((where, f"success {self._spread(success)}", ", ".join(speed), f"left {left}"))

    def _spread(self, success: np.ndarray) -> str:
        """The mean over the replicas that have not diverged, and the least and the greatest."""
        sound = success[self._recorder.sound()]
        each = f"{self._episodes} episodes"
        text = f"{sound.mean():.3f}" if sound.size else "-"
        if success.size > 1:
            between = f"{sound.min():.2f} to {sound.max():.2f}, " if sound.size else ""
            each = f"{between}{success.size} replicas x {each}"
        gone = success.size - sound.size
        return f"{text} ({each}{f', {gone} diverged' if gone else ''})"

    def _film(self, phase: str, step: int) -> None:
        if not self._video_episodes:
            return
        folder = self._recorder.folder / "videos"
        folder.mkdir(exist_ok=True)
        filmed = range(min(self._video_episodes, self._episodes))
        names = [replica.file_name for replica in self._replicas]
        self._slots.film([[folder / f"{phase}-{step}-{name}-{e}.gif" for e in filmed] for name in names])


class InterruptibleSlots:
    """Slots that a signal stops, in a call as well: a simulator may hang."""

    def __init__(self, slots: Slots):
        self.begin = _watched(slots.begin)
        self.wait = _watched(slots.wait)
        self.play = _watched(slots.play)
        self.results = _watched(slots.results)


def _watched(call: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        with interrupt.at_once():
            return call(*arguments)

    return watched
