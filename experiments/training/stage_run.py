"""One stage of a run, from where its folder has it to its end."""

import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.config import online_values
from experiments.row_format import PHASES
from experiments.training.phases import Actors, AtRows, Offline, Online, Progress, train
from experiments.training.records import Recorder
from experiments.training.replica import Replica, seeds_of
from experiments.training.scaled import keep_scaling
from experiments.training.schedule import Schedule, schedules, starting_place
from experiments.training.stages import Stage
from trqam_jax import data
from trqam_jax.agent import AbstractAgent
from trqam_jax.checkpoint import Checkpoints, Place
from trqam_jax.replay import Replay
from trqam_jax.replicas import Population
from trqam_jax.scaling import Scaling
from trqam_jax.streaming import Stream
from trqam_jax.streams import Streams, stack_streams
from trqam_jax.types import Windows
from trqam_jax.update_loop import ReplicaData, SamplingConfig, Totals, zero_totals

#: Arrays that version 0.1 kept in its checkpoints and that are settings now.
EARLIER_LEAVES = ("dual/budget",)


class _State(NamedTuple):
    """Where a phase begins or goes on."""

    agents: AbstractAgent
    totals: Totals
    source: ReplicaData


class StageRun:
    """Replicas of a stage's agent in its folder, which this process holds."""

    def __init__(self, stage: Stage, config: ConfigDict, folder: pathlib.Path, replicas: list[Replica]):
        self.config, self.replicas = config, replicas
        self._schedules = schedules(stage, config)
        self._checkpoints = Checkpoints(folder / "checkpoints", PHASES)
        self.start = starting_place(folder, self._checkpoints, self._schedules)
        self._folder = folder
        self._restored: _State | None = None

    def restore(self, agents: AbstractAgent, dataset: data.Dataset | Stream) -> None:
        """Read the checkpoint from which `train` then goes on; nothing at the beginning of the stage.

        To be called before `recorder`: where it cannot be read, the folder stays as it is.
        """
        if self.start.step:
            self._restored = self._begin(self.start, self._in_phase(agents, self.start.phase), None, dataset)

    def recorder(self, scaling: Scaling | None) -> Recorder:
        """Of the stage's tables, cut to where it goes on; from then on the folder is written.

        scaling: of the observations that its policies see.
        """
        keep_scaling(self._folder, scaling)
        keep = self._schedules[self.start.phase].keeps(self.start)
        recorder = Recorder(self._folder, self.config, self.replicas, keep)
        self._checkpoints.forget_after(self.start)
        return recorder

    def evaluates(self, phase: str, step: int) -> bool:
        """Whether an evaluation is due."""
        return self._schedules[phase].evaluates(step)

    def train(
        self, agents: AbstractAgent, dataset: data.Dataset | Stream, at_rows: AtRows, actors: Actors | None = None
    ) -> AbstractAgent:
        """All phases from the start on; the online one only with actors. Returns the replicas at the end.

        agents: at the beginning of the stage; what was restored goes on instead.
        at_rows: called whenever rows of train.csv are due, and again for the rows at which a run goes on.
        """
        totals = None
        for phase, schedule in self._schedules.items():
            if PHASES.index(phase) < PHASES.index(self.start.phase) or (phase == "online" and actors is None):
                continue
            start = self.start if phase == self.start.phase else Place(phase, 0)
            state = self._restored or self._begin(start, self._in_phase(agents, phase), totals, dataset)
            self._restored = None
            agents, totals = self._phase(state, dataset, start, schedule, at_rows, actors)
        return agents

    def _in_phase(self, agents: AbstractAgent, phase: str) -> AbstractAgent:
        """The agents with the phase's settings."""
        if phase != "online":
            return agents
        return agents.replace(config=agents.config.replace(**online_values(self.config)))

    def _phase(
        self,
        state: _State,
        dataset: data.Dataset | Stream,
        start: Place,
        schedule: Schedule,
        at_rows: AtRows,
        actors: Actors | None,
    ) -> tuple[AbstractAgent, Totals]:
        sampling = self._sampling(start.phase, state.agents)
        if sampling.windows is Windows.EPISODES and dataset.spans is not None:
            data.check_episodes(np.asarray(dataset.ends), dataset.spans)
        population = self._population(state, start, schedule, sampling)
        progress: Progress = Offline(population)
        if start.phase == "online":
            assert actors is not None
            seeds = seeds_of(self.replicas)
            progress = Online(population, actors, seeds, stack_streams(seeds, "online"), sampling, schedule)

        train(progress, start, schedule, self._checkpoints, at_rows)
        progress.report(schedule.total - start.step)
        return population.agents, population.totals

    def _sampling(self, phase: str, agents: AbstractAgent) -> SamplingConfig:
        batch_size, online = self.config.train.batch_size, self.config.online
        if phase != "online":
            return SamplingConfig(batch_size, windows=agents.windows)
        return SamplingConfig(batch_size, online.start_training, online.updates_per_step, online.balanced_sampling)

    def _begin(
        self, start: Place, agents: AbstractAgent, totals: Totals | None, dataset: data.Dataset | Stream
    ) -> _State:
        """The replicas at `start`, from its checkpoint unless that is a phase's beginning."""
        source = ReplicaData(dataset, self._task_indices())
        if start.phase == "online":
            sizes = agents.spec.observation_dim, agents.spec.action_dim
            source = source._replace(replay=Replay.of_replicas(len(self.replicas), start.step, *sizes))
        if totals is None:
            totals = zero_totals(agents, source, self._streams(start.phase), self._sampling(start.phase, agents))
        return self._load(start, agents, totals, source) if start.step else _State(agents, totals, source)

    def _streams(self, phase: str) -> Streams:
        return stack_streams(seeds_of(self.replicas), phase)

    def _population(self, state: _State, start: Place, schedule: Schedule, sampling: SamplingConfig) -> Population:
        """The replicas; online with room for what they will play, and a chunk."""
        source, streams = state.source, self._streams(start.phase)
        if source.replay is not None:
            room = schedule.total + state.agents.spec.horizon
            source = source._replace(replay=source.replay.resized(room))
        per_pass = self.config.train.replicas_per_pass
        population = Population(state.agents, source, streams, sampling, per_pass=per_pass, totals=state.totals)
        print(f"{start.phase}: memory {population.memory}")
        return population

    def _load(self, start: Place, agents: AbstractAgent, totals: Totals, source: ReplicaData) -> _State:
        """What the checkpoint at `start` holds, in place of what is given."""
        like = agents.state(), totals
        if source.replay is None:
            state, totals = self._checkpoints.load(start, like, dropped=EARLIER_LEAVES)
        else:
            state, totals, replay = self._checkpoints.load(start, (*like, source.replay), dropped=EARLIER_LEAVES)
            source = source._replace(replay=replay)
        return _State(agents.with_state(state), totals, source)

    def _task_indices(self) -> jnp.ndarray:
        """Which of the dataset's rewards each replica sees; behaviour cloning sees none."""
        tasks = [replica.task for replica in self.replicas]
        return jnp.array([0 if task == "" else self.config.tasks.index(task) for task in tasks], jnp.int32)
