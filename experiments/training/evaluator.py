"""Evaluations of a run: episodes of every replica, as rows and films."""

import time
from collections.abc import Callable
from typing import Any

import jax
from tqdm import tqdm

from envs.vector.slots import VectorSlots
from experiments.training import interrupt
from experiments.training.records import Recorder
from experiments.training.replica import Replica, seeds_of
from experiments.training.scaled import ScaledSlots
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
    ):
        """scaling: of the observations that the policies see."""
        self._slots, self._recorder, self._replicas, self._scaling = slots, recorder, replicas, scaling
        self._episodes, self._video_episodes = episodes, video_episodes
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
        if self._program is not None:
            with interrupt.at_once():
                self._program.result()
        start = time.perf_counter()
        seeds = seeds_of(self._replicas)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(stack_streams(seeds, phase).evaluation)
        self._film(phase, step)
        starts = start_seeds(seeds, phase, step, self._episodes)
        slots = self._slots if self._scaling is None else ScaledSlots(self._slots, self._scaling)
        episodes = evaluate(policies, InterruptibleSlots(slots), starts, keys)
        self._recorder.eval(phase, step, episodes, time.perf_counter() - start)
        tqdm.write(f"{phase} {step}: success {episodes.success.mean():.3f} over {episodes.success.size} episodes")

    def _film(self, phase: str, step: int) -> None:
        if not self._video_episodes:
            return
        folder = self._recorder.folder / "videos"
        folder.mkdir(exist_ok=True)
        filmed = range(min(self._video_episodes, self._episodes))
        names = [replica.file_name for replica in self._replicas]
        self._slots.film([[folder / f"{phase}-{step}-{name}-{e}.gif" for e in filmed] for name in names])


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
