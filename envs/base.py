"""What a suite of environments is to the rest of the project: domains and tasks as data, files, and simulators.

A suite is a package beside this module with an object `SUITE`, a subclass of `Suite`. Nothing here, and nothing that a
suite imports with its modules, imports JAX or a simulator: worker processes import it.
"""

import abc
import pathlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from trqam_jax.errors import UserError, suggest


class DataError(UserError):
    """A dataset is missing or is not what it should be."""


class Domain(NamedTuple):
    """An environment with tasks 1 to num_tasks, which share observations, actions, episode ends and data."""

    suite: str  # the suite's name
    name: str  # of all domains of all suites unique: what --env takes, and a folder's name
    title: str  # as the papers' tables call it, with its data: cube-double-play
    task_title: str  # a task's full name, with {task} for its number
    observation_dim: int
    action_dim: int
    episode_limit: int  # environment steps
    horizon: int  # chunk length H
    default_task: int  # where only the domain is named
    num_tasks: int
    benchmark: bool  # a column of the papers' tables; a suite's others serve tests and demos, if it has any such

    def task_name(self, task: int) -> str:
        """The task's full name, for example puzzle-4x4-play-singletask-task4-v0."""
        return self.task_title.format(task=task)


class Arrays(NamedTuple):
    """A dataset of N transitions in host memory or in memory-mapped files, with the rewards of T tasks.

    The fields of `trqam_jax.data.Dataset`. Transition i starts at row rows[i] of the observations and ends at the next.
    """

    observations: np.ndarray  # (M, O) float32
    actions: np.ndarray  # (N, A) float32, from -1 to 1
    rows: np.ndarray  # (N,) int32
    terminals: np.ndarray  # (N,) bool, the last transition of an episode
    rewards: list[np.ndarray]  # T of (N,) float32
    masks: list[np.ndarray]  # T of (N,) float32, 0 where the task is solved
    bounds: tuple[int, ...]  # (S + 1,), the first transition of every shard, and N; (0, N) of what has no shards


class Size(NamedTuple):
    """Of a dataset, before anything large is read."""

    rows: int  # M
    bounds: tuple[int, ...]  # as of `Arrays`

    @property
    def transitions(self) -> int:
        return self.bounds[-1]

    def nbytes(self, domain: Domain, num_tasks: int) -> int:
        """What `Arrays` of so many tasks take, in memory or on a device."""
        per_row = 4 * domain.observation_dim
        per_transition = 4 * domain.action_dim + 4 + 1 + num_tasks * (4 + 4)
        episodes = self.rows - self.transitions  # each has one last state, and its last transition is noted
        return self.rows * per_row + self.transitions * per_transition + 4 * episodes

    def arrays(self, domain: Domain, num_tasks: int) -> Arrays:
        """Of these sizes, all zeros, and without memory: programs are compiled for them before data are read."""

        def zeros(dtype: Any, *shape: int) -> np.ndarray:
            return np.broadcast_to(np.zeros((), dtype), shape)

        n = self.transitions
        return Arrays(
            observations=zeros(np.float32, self.rows, domain.observation_dim),
            actions=zeros(np.float32, n, domain.action_dim),
            rows=zeros(np.int32, n),
            terminals=zeros(np.bool_, n),
            rewards=[zeros(np.float32, n)] * num_tasks,
            masks=[zeros(np.float32, n)] * num_tasks,
            bounds=self.bounds,
        )


class ReleasedPolicies(NamedTuple):
    """BC policies that a paper's authors released on the Hugging Face Hub: a folder per domain, with a config.json."""

    repository: str  # owner/name
    file: str  # of each folder, a pickle that trqam_jax.interop.checkpoints reads
    domains: Collection[str]  # that have one, by name


class StepResult(NamedTuple):
    """What a simulator says of one step."""

    observation: np.ndarray  # (O,), after it
    reward: float
    terminated: bool  # the task is over: no value follows
    truncated: bool  # the time is
    success: bool  # the task is solved


class Simulator(Protocol):
    """The simulator of one task. It lives in a worker process and is reset for one episode after the other."""

    def reset(self, seed: int) -> np.ndarray:
        """Start the episode of that seed; its first observation (O,).

        Everything random in the episode follows from the seed, whatever was played before.
        """
        ...

    def step(self, action: np.ndarray) -> StepResult:
        """One environment step. action: (A,), from -1 to 1."""
        ...

    def render(self) -> np.ndarray:
        """The present state as a picture, (height, width, 3) uint8; only of a simulator that was made to render.

        UserError if nothing can be rendered here.
        """
        ...

    def close(self) -> None: ...


SimulatorFactory = Callable[[], Simulator]


@runtime_checkable
class TwinFactory(Protocol):
    """A factory of simulators that take long to build and can be made from one another. A suite need not have it.

    A worker process calls the first factory of each kind, and has the others make twins of what it built. Simulators of
    factories without `twin` are built one by one.
    """

    @property
    def kind(self) -> Hashable:
        """Factories of equal kinds can make twins of each other's simulators, for example all tasks of a domain."""
        ...

    def __call__(self) -> Simulator: ...

    def twin(self, first: Simulator) -> Simulator:
        """The simulator that a call would build, made from `first`, with which it shares what no episode changes.

        Played in turns, in one thread, each plays as if it were alone, to the bit. Either can be closed before the
        other.
        """
        ...


Command = Callable[[Sequence[str]], None]


class Suite(abc.ABC):
    """A suite of environments. The attributes are set by the class; methods without a body are a suite's own."""

    name: str  # its package's name
    description: str  # one line
    domains: Mapping[str, Domain]  # by name
    packages: tuple[str, ...]  # distributions whose versions results depend on
    dataset_dir: str  # where its files are kept unless the user says otherwise; ~ is the home folder
    benchmark: str = ""  # what the papers call all tasks of its benchmark domains together
    commands: Mapping[str, Command] = {}  # of download, generate and convert those it has; called with the arguments
    bc_policies: ReleasedPolicies | None = None
    untrained: Collection[str] = ()  # names, beside those of `domains`, that its commands know

    @abc.abstractmethod
    def env_factory(self, domain: Domain, task: int, *, render: bool = False) -> SimulatorFactory:
        """What makes the simulator of a task. It is pickled and called in a worker process, without JAX.

        A `TwinFactory` where a simulator takes long to build or much memory.
        """

    @abc.abstractmethod
    def find(
        self,
        domain: Domain,
        dataset: str,
        dataset_dir: str,
        *,
        episodes: int,
        seed: int,
        shards: int,
        download: str,
    ) -> pathlib.Path:
        """The file or folder that `dataset` means: a path, or one of the words auto and generate.

        auto: the domain's own data in `dataset_dir`. generate: `episodes` episodes made with `seed`, where a suite can.
        shards: how many of a sharded release, 0 for the plain file. download: what happens to data that are missing;
        auto: they are downloaded, however large; ask: they are if the user says so, on a terminal; never. DataError
        says how to get what is not there.
        """

    @abc.abstractmethod
    def fingerprint(self, path: pathlib.Path, shards: int) -> str:
        """A digest of the content, not of the place: it stands for the data in a run's digest. Quick."""

    @abc.abstractmethod
    def measure(self, path: pathlib.Path, domain: Domain, *, shards: int, horizon: int) -> Size:
        """How large the data are. DataError if there is no window of `horizon` transitions."""

    @abc.abstractmethod
    def load(
        self, path: pathlib.Path, domain: Domain, tasks: list[int], horizon: int, *, sparse: bool, shards: int
    ) -> Arrays:
        """The data, checked, with the rewards of the given tasks. sparse: every non-zero reward becomes -1."""

    def settings(self, domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
        """{"section.key": value} in which the domain, or an agent on it, departs from the protocol."""
        return {}

    def notes(self, domain: Domain, protocol: str, agent: str) -> dict[str, str]:
        """{"section.key": source}, for the settings whose source a reader must know."""
        return {}

    def split(self, text: str) -> tuple[str, int | None]:
        """The domain's name and the task, neither checked, in the name of an environment as the suite may spell it.

        At least names and titles of domains, either with -taskK, and full names of tasks.
        """
        return split_name(self.domains, text)


Split = Callable[[str], tuple[str, int | None]]


def split_name(domains: Mapping[str, Domain], text: str) -> tuple[str, int | None]:
    """The domain's name and the task, neither checked: of names and titles, either with -taskK, and of full names."""
    for domain in domains.values():
        for number in range(1, domain.num_tasks + 1):
            if text == domain.task_name(number):
                return domain.name, number
    name, _, task = text.rpartition("-task")
    if not (name and task.isdecimal()):
        name, task = text, ""
    titles = {domain.title: domain.name for domain in domains.values()}
    return titles.get(name, name), int(task) if task else None


def split_env(text: str, spellings: Iterable[tuple[Mapping[str, Domain], Split]]) -> tuple[Domain, int | None]:
    """The domain and the task of an environment's name; None where it names a domain alone.

    spellings: of every suite its domains and its `split`. UserError with the nearest name if no suite has the domain.
    """
    names, known = [], []
    for domains, of_suite in spellings:
        name, task = of_suite(text)
        if name in domains:
            if task is not None:
                check_task(domains[name], task)
            return domains[name], task
        names.append(name)
        known.extend(domains)
    raise UserError(f"Unknown environment {text!r}.{suggest(min(names, key=len), known)}")


def check_task(domain: Domain, task: int) -> None:
    """UserError unless the domain has the task."""
    if not 1 <= task <= domain.num_tasks:
        raise UserError(f"{domain.name} has no task {task}: its tasks are 1 to {domain.num_tasks}.")
