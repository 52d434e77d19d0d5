"""One stage of a run, from where its folder has it to its end."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.config import online_values
from experiments.row_format import PHASES
from experiments.training import interrupt
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
from trqam_jax.replicas import Plan, Population
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
        self._plan: Plan | None = None

    def compile_ahead(self, agents: AbstractAgent, dataset: data.Dataset | Stream) -> None:
        """Begin to compile what the first phase takes, for agents and a dataset that need not be there yet: their
        shapes do."""
        remaining = self._remaining()
        if not remaining:
            return
        phase = remaining[0]
        agents = self._in_phase(agents, phase)
        sampling, streams = self._sampling(phase, agents), self._streams(phase)
        source = self._source(phase, agents, dataset)
        if phase == "online":
            room = self._room(phase, agents)
            source = source._replace(replay=jax.eval_shape(lambda: self._replay(agents, room)))
        totals = zero_totals(agents, source, streams, sampling)
        self._plan = Plan(agents, totals, source, streams, sampling, self.config.train.replicas_per_pass)

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
        self,
        agents: AbstractAgent,
        dataset: data.Dataset | Stream,
        at_rows: AtRows,
        actors: Actors | None = None,
        begun: Callable[[Population], None] = lambda _: None,
    ) -> AbstractAgent:
        """All phases from the start on that have steps. Returns the replicas at the end.

        agents: at the beginning of the stage; what was restored goes on instead.
        at_rows: called whenever rows of train.csv are due, and again for the rows at which a run goes on.
        begun: called once the first step of a phase is made.
        """
        totals = None
        for phase in self._remaining():
            schedule = self._schedules[phase]
            start = self.start if phase == self.start.phase else Place(phase, 0)
            state = self._restored or self._begin(start, self._in_phase(agents, phase), totals, dataset)
            self._restored = None
            agents, totals = self._phase(state, dataset, start, schedule, at_rows, actors, begun)
        return agents

    def _remaining(self) -> list[str]:
        """The phases from the start on that have steps."""
        first = PHASES.index(self.start.phase)
        return [phase for phase, schedule in self._schedules.items() if schedule.total and PHASES.index(phase) >= first]

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
        begun: Callable[[Population], None],
    ) -> tuple[AbstractAgent, Totals]:
        sampling = self._sampling(start.phase, state.agents)
        if sampling.windows is Windows.EPISODES and dataset.spans is not None:
            data.check_episodes(np.asarray(dataset.ends), dataset.spans)
        population = self._population(state, start, sampling)
        progress: Progress = Offline(population)
        if start.phase == "online":
            assert actors is not None
            seeds = seeds_of(self.replicas)
            progress = Online(population, actors, seeds, stack_streams(seeds, "online"), sampling, schedule)

        train(progress, start, schedule, self._checkpoints, at_rows, begun)
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
        source = self._source(start.phase, agents, dataset)
        if start.phase == "online":
            source = source._replace(replay=self._replay(agents, start.step))
        if totals is None:
            totals = zero_totals(agents, source, self._streams(start.phase), self._sampling(start.phase, agents))
        return self._load(start, agents, totals, source) if start.step else _State(agents, totals, source)

    def _source(self, phase: str, agents: AbstractAgent, dataset: data.Dataset | Stream) -> ReplicaData:
        """What minibatches are drawn from, but for what is played online."""
        episodes = self._sampling(phase, agents).windows is Windows.EPISODES
        if not episodes and not isinstance(dataset, Stream):
            dataset = dataset.replace(ends=None)  # nothing reads them
        return ReplicaData(dataset, self._task_indices())

    def _replay(self, agents: AbstractAgent, room: int) -> Replay:
        return Replay.of_replicas(len(self.replicas), room, agents.spec.observation_dim, agents.spec.action_dim)

    def _room(self, phase: str, agents: AbstractAgent) -> int:
        """For what they will play, and a chunk."""
        return self._schedules[phase].total + agents.spec.horizon

    def _streams(self, phase: str) -> Streams:
        return stack_streams(seeds_of(self.replicas), phase)

    def _population(self, state: _State, start: Place, sampling: SamplingConfig) -> Population:
        """The replicas; online with room for what they will play."""
        source, streams = state.source, self._streams(start.phase)
        if source.replay is not None:
            source = source._replace(replay=source.replay.resized(self._room(start.phase, state.agents)))
        per_pass, plan, self._plan = self.config.train.replicas_per_pass, self._plan, None
        if plan is not None:
            with interrupt.at_once():  # it may be compiled still
                plan.result()
        population = Population(
            state.agents, source, streams, sampling, per_pass=per_pass, totals=state.totals, plan=plan
        )
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
