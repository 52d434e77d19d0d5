"""One run: train a BC policy, fine-tune R replicas of an agent from it, evaluate, leave rows behind."""

import contextlib
import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

import envs
from envs.vector.actors import Actors
from envs.vector.slots import VectorSlots
from experiments.config import starts_from_bc
from experiments.training import interrupt, policies_by_name, pretrained
from experiments.training.evaluator import Evaluator
from experiments.training.film import every_few_steps
from experiments.training.inputs import TrainingData, load_data, locate, survey
from experiments.training.pretrained import Pretrained
from experiments.training.records import Diverged
from experiments.training.replica import Replica, creation, replicas_of
from experiments.training.resume import acquire_run_dir
from experiments.training.scaled import ScaledActors
from experiments.training.stage_run import StageRun
from experiments.training.stages import BC, FINE_TUNING
from experiments.training.time_left import Pace
from trqam_jax import backend
from trqam_jax.checkpoint import Place
from trqam_jax.replicas import Population, load_pretrained_ahead

FRESH = Place("offline", 0)  # where fine-tuning begins


def run(config: ConfigDict) -> pathlib.Path:
    """Everything `main.py` does once its flags are understood. Returns the run's folder, complete."""
    with interrupt.watched(), backend.matmul_precision(config.precision):
        with interrupt.at_once():
            config, path = locate(config)
        folder = FINE_TUNING.folder(config)
        with acquire_run_dir(folder, FINE_TUNING, config) as finished:
            if finished:
                print(f"finished already: {folder}")
            else:
                fine_tune(folder, config, path)
    return folder


def fine_tune(folder: pathlib.Path, config: ConfigDict, path: pathlib.Path) -> None:
    """The fine-tuning stage, from where its folder has it to its end, and before it the BC stage it starts from."""
    domain, replicas = domain_of(config), replicas_of(config)
    stage = StageRun(FINE_TUNING, config, folder, replicas)
    with contextlib.ExitStack() as stack:
        # First, because programs are compiled while the data are read and a BC policy is trained.
        where = survey(config, path)
        velocity = None  # shapes of the policies that it is to start from; a run under way has them in its parameters
        if stage.start == FRESH and (config.bc.steps or config.bc.checkpoint):
            velocity = pretrained.shapes(config, domain, replicas)
        fresh = load = None
        if config.agent_name != "bc":
            fresh = creation(config.agent_name, config, domain, replicas)
            stage.compile_ahead(fresh.shapes, where.shapes(config))
            fresh.compile_ahead()
            load = load_pretrained_ahead(fresh.shapes, velocity) if velocity is not None else None
        slots = stack.enter_context(make_slots(config, domain, replicas))
        actors = stack.enter_context(make_actors(config, domain, replicas)) if config.online.steps else None

        def start_simulators() -> None:
            if config.eval.episodes:
                slots.start()
            if actors is not None:
                actors.start()

        # Else once the first update is made: before it they would take processors from what it waits for.
        if plays_first(config, stage.start):
            start_simulators()
        data = load_data(config, where)
        playing = ScaledActors(actors, data.scaling) if actors is not None and data.scaling is not None else actors
        resumed = None
        if stage.start != FRESH:
            assert fresh is not None  # a BC policy is only evaluated, and leaves no checkpoint
            resumed = fresh.agents()
            stage.restore(resumed, data.dataset)
        recorder = stack.enter_context(contextlib.closing(stage.recorder(data.scaling)))
        episodes = config.eval.episodes, config.eval.video_episodes
        pace = Pace()
        evaluator = Evaluator(slots, recorder, replicas, *episodes, data.scaling, pace)

        def at_rows(population: Population, phase: str, step: int, speed: float) -> None:
            recorder.train(phase, step, population.totals, speed)
            pace.trained(phase, speed)
            if stage.evaluates(phase, step):
                evaluator(population.agents, phase, step)

        def begun(population: Population) -> None:
            evaluator.compile_ahead(population.shapes)
            start_simulators()

        if velocity is not None and config.eval.bc and evaluator.lacks("bc"):
            evaluator.compile_ahead(pretrained.acting(velocity, config, domain, replicas))
        start = None if resumed else pretrained_policies(config, domain, data, replicas, lambda _: start_simulators())
        if start is not None and config.eval.bc and evaluator.lacks("bc", start.steps):
            evaluator(pretrained.acting(start.velocity, config, domain, replicas), "bc", start.steps)
        if fresh is not None:
            agents = resumed or fresh.agents()
            if start is not None:
                assert load is not None  # there are policies to start from
                agents = load.result()(agents, start.velocity)
            stage.train(agents, data.dataset, at_rows, playing, begun)
        recorder.done()


def plays_first(config: ConfigDict, start: Place) -> bool:
    """Whether episodes may come before the first update that this process makes."""
    if start != FRESH:  # an evaluation may be due there, and a phase online begins with episodes
        return True
    cloned = config.bc.steps and (BC.folder(BC.config(config)) / "DONE").exists()
    if config.bc.steps and not cloned and not config.bc.checkpoint:
        return False
    return bool(not config.train.offline_steps or ((config.bc.checkpoint or cloned) and config.eval.bc))


def pretrained_policies(
    config: ConfigDict,
    domain: envs.Domain,
    data: TrainingData,
    replicas: list[Replica],
    begun: Callable[[Population], None],
) -> Pretrained | None:
    """The policies to start from, given or trained; None without behaviour cloning. begun: called once the first update
    of behaviour cloning is made."""
    given = policies_by_name.folder(config)
    if given is not None:
        place = given
    elif config.bc.steps:
        place = train_bc(BC.config(config), domain, data, begun)
    else:
        if not starts_from_bc(config.agent_name):
            print(f"{config.agent_name} has no flow that could start from a BC policy: all its networks start fresh")
        return None
    return pretrained.load(place, config, domain, replicas)


def train_bc(
    config: ConfigDict, domain: envs.Domain, data: TrainingData, begun: Callable[[Population], None]
) -> pathlib.Path:
    """The BC stage, which every method configured alike shares. Returns the policies' checkpoint."""
    seeds = list(config.run.seeds) if config.bc.per_seed else [config.bc.seed]
    folder = BC.folder(config)
    place = folder / "checkpoints" / str(config.bc.steps)
    with contextlib.ExitStack() as stack:
        if stack.enter_context(acquire_run_dir(folder, BC, config)):
            return place
        replicas = [Replica("", seed) for seed in seeds]
        stage = StageRun(BC, config, folder, replicas)
        fresh = creation("bc", config, domain, replicas)
        stage.compile_ahead(fresh.shapes, data.dataset)
        fresh.compile_ahead()
        policies = fresh.agents()
        stage.restore(policies, data.dataset)
        recorder = stack.enter_context(contextlib.closing(stage.recorder(data.scaling)))

        def at_rows(population: Population, phase: str, step: int, speed: float) -> None:
            recorder.train(phase, step, population.totals, speed)
            if recorder.diverged():  # the rows of what starts from it would not show it
                raise Diverged(f"{folder}: behaviour cloning diverged for {'; '.join(recorder.diverged())}")

        policies = stage.train(policies, data.dataset, at_rows, begun=begun)
        pretrained.save(place, policies, config, seeds, data.scaling)
        recorder.done()
    return place


def domain_of(config: ConfigDict) -> envs.Domain:
    """The configured domain, its episodes as long as the run has them."""
    domain, limit = envs.DOMAINS[config.env], config.eval.episode_limit
    return domain if limit is None else domain._replace(episode_limit=limit)


def make_slots(config: ConfigDict, domain: envs.Domain, replicas: list[Replica]) -> VectorSlots:
    """For evaluation; close it."""
    video = config.eval.video_episodes > 0
    factories = [envs.suite_of(domain).env_factory(domain, int(replica.task), render=video) for replica in replicas]
    if video:
        factories = [every_few_steps(factory) for factory in factories]
    workers = config.eval.workers or None
    return VectorSlots(factories, domain.observation_dim, config.eval.episodes, workers=workers, video=video)


def make_actors(config: ConfigDict, domain: envs.Domain, replicas: list[Replica]) -> Actors:
    """For the online phase; close them."""
    factories = [envs.suite_of(domain).env_factory(domain, int(replica.task)) for replica in replicas]
    sizes = domain.observation_dim, domain.action_dim, domain.horizon
    return Actors(factories, *sizes, sparse=config.data.sparse, workers=config.eval.workers or None)
