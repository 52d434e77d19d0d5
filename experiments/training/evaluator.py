"""Evaluations of a run: episodes of every replica, as rows and films."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from envs.vector.slots import VectorSlots
from experiments.training import interrupt
from experiments.training.records import Recorder
from experiments.training.replica import Replica, seeds_of
from experiments.training.scaled import ScaledSlots
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

    def __call__(self, policies: AbstractAgent, phase: str, step: int) -> None:
        """Rows of eval.csv, unless they are there. A signal abandons the evaluation without rows."""
        if self.episodes == 0 or self.recorder.has("eval", phase, step):
            return
        start = time.perf_counter()
        seeds = seeds_of(self.replicas)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(stack_streams(seeds, phase).evaluation)
        self._film(phase, step)
        starts = start_seeds(seeds, phase, step, self.episodes)
        slots = self.slots if self.scaling is None else ScaledSlots(self.slots, self.scaling)
        episodes = evaluate(policies, InterruptibleSlots(slots), starts, keys)
        self.recorder.eval(phase, step, episodes, time.perf_counter() - start)
        tqdm.write(f"{phase} {step}: success {episodes.success.mean():.3f} over {episodes.success.size} episodes")

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
