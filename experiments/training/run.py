"""One run: clone a policy, fine-tune R replicas of an agent from it, evaluate, leave rows behind."""

import contextlib
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from tqdm import tqdm

import agents
import envs
from envs.vector.actors import Actors
from envs.vector.slots import VectorSlots
from experiments import config as configuration
from experiments.training import interrupt
from experiments.training.phases import Offline, Online, Progress, Schedule, train
from experiments.training.records import Diverged, Recorder, Replica, folder_of
from experiments.training.resume import PHASES, claimed
from trqam_jax import backend, checkpoint, data, trainer
from trqam_jax.agent import AbstractAgent
from trqam_jax.checkpoint import Place
from trqam_jax.errors import UserError
from trqam_jax.evaluation import Slots, evaluate, start_seeds
from trqam_jax.files import read_json
from trqam_jax.replay import Replay
from trqam_jax.streaming import Stream
from trqam_jax.streams import stack_streams
from trqam_jax.types import Array, Params, Spec

RESIDENT_SHARE = 0.75  # of a device's memory that data may take; the rest is the replicas'


def run(config: ConfigDict) -> pathlib.Path:
    """Everything `main.py` does once its flags are understood. Returns the run's folder, complete."""
    domain = envs.DOMAINS[config.env]
    with interrupt.watched(), backend.matmul_precision(config.precision):
        with interrupt.at_once():
            config, path = locate(config, domain)
        folder = folder_of(config)
        with claimed(folder, config) as finished:
            if finished:
                print(f"finished already: {folder}")
            else:
                run_in(folder, config, domain, path)
    return folder


def run_in(folder: pathlib.Path, config: ConfigDict, domain: envs.Domain, path: pathlib.Path) -> None:
    """The run, from where its folder has it, to its end."""
    axes = itertools.product(config.tasks, config.run.seeds, configuration.budgets(config))
    replicas = [Replica(*values) for values in axes]
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", PHASES)
    every = config.train.log_interval, config.eval.interval
    schedules = {
        "offline": Schedule(config.train.offline_steps, *every, config.train.save_interval),
        "online": Schedule(config.online.steps, *every, config.online.save_interval),
    }
    start = starting_place(folder, checkpoints, schedules)
    with contextlib.ExitStack() as stack:
        tasks, workers = [replica.task for replica in replicas], config.eval.workers or None
        video = config.eval.video_episodes > 0
        slots = stack.enter_context(VectorSlots(domain, tasks, config.eval.episodes, workers=workers, video=video))
        actors = None
        if config.online.steps:
            acting = Actors(domain, tasks, domain.horizon, sparse=config.data.sparse, workers=workers)
            actors = stack.enter_context(acting)
        dataset = load_data(config, domain, path)
        recorder = Recorder(folder, config, replicas, schedules[start.phase].keeps(start))
        checkpoints.forget_after(start)
        # A run under way has the cloned policy in its own parameters.
        velocity, steps = cloned_policy(config, domain, dataset, replicas) if start == ("offline", 0) else (None, 0)
        if velocity is not None:
            cloner = make_agents("bc", configuration.cloning(config), domain, replicas, velocity)
            evaluation(config, recorder, slots, replicas, cloner, "bc", steps)
        if config.agent_name != "bc":
            source = trainer.Source(dataset, jnp.array([config.tasks.index(task) for task in tasks]))
            fine_tuning = FineTuning(config, recorder, slots, replicas, checkpoints, source)
            fine_tuned = make_agents(config.agent_name, config, domain, replicas, velocity)
            totals = None
            if start.phase == "offline":
                fine_tuned, totals = fine_tuning.offline(fine_tuned, start, schedules["offline"])
                start = Place("online", 0)
            if actors is not None:
                fine_tuning.online(fine_tuned, totals, start, schedules["online"], actors)
        recorder.done()


class FineTuning(NamedTuple):
    """What the phases of fine-tuning share."""

    config: ConfigDict
    recorder: Recorder
    slots: Slots
    replicas: list[Replica]
    checkpoints: checkpoint.Checkpoints
    source: trainer.Source

    def offline(
        self, fine_tuned: AbstractAgent, start: Place, schedule: Schedule
    ) -> tuple[AbstractAgent, trainer.Totals]:
        """The offline phase: the replicas at its end, and their totals."""
        population = self._population(fine_tuned, None, start, trainer.Rules(self.config.train.batch_size))
        self._train(Offline(population), start, schedule)
        return population.agents, population.totals

    def online(
        self,
        fine_tuned: AbstractAgent,
        totals: trainer.Totals | None,
        start: Place,
        schedule: Schedule,
        actors: Actors,
    ) -> None:
        """The online phase, each replica in a simulator of its own. What was frozen stays so."""
        settings = self.config.online
        rules = trainer.Rules(
            self.config.train.batch_size, settings.start_training, settings.updates_per_step, settings.balanced_sampling
        )
        if settings.kl_budget is not None and not start.step:
            fine_tuned = fine_tuned.replace(dual=fine_tuned.dual.with_budget(settings.kl_budget))
        population = self._population(fine_tuned, totals, start, rules, capacity=schedule.total)
        seeds = [replica.seed for replica in self.replicas]
        progress = Online(population, actors, seeds, stack_streams(seeds, "online"), rules, schedule)
        self._train(progress, start, schedule)
        total = sum(progress.seconds.values())
        if total:
            shares = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in progress.seconds.items())
            speed = (schedule.total - start.step) * len(seeds) / total
            print(f"online: {speed:,.1f} environment steps per second of all replicas; time: {shares}")

    def _population(
        self,
        agents: AbstractAgent,
        totals: trainer.Totals | None,
        start: Place,
        rules: trainer.Rules,
        capacity: int = 0,
    ) -> trainer.Population:
        """The replicas at `start`, with room for `capacity` transitions and a chunk."""
        streams, replay, spec = stack_streams([r.seed for r in self.replicas], start.phase), None, agents.spec
        sizes = spec.observation_dim, spec.action_dim
        if capacity:
            replay = Replay.of_replicas(len(self.replicas), start.step, *sizes)
        source = self.source._replace(replay=replay)
        if totals is None:
            totals = trainer.zero_totals(agents, source, streams, rules)
        if start.step:
            like = (agents, totals) if replay is None else (agents, totals, replay)
            agents, totals, *stored = self.checkpoints.load(start, like)
            replay = stored[0] if stored else None
        if replay is not None:
            source = source._replace(replay=replay.resized(capacity + spec.horizon))
        per_pass = self.config.train.replicas_per_pass
        population = trainer.Population(agents, source, streams, rules, per_pass=per_pass, totals=totals)
        print(f"{start.phase}: memory {population.memory}")
        return population

    def _train(self, progress: Progress, start: Place, schedule: Schedule) -> None:
        def after(population: trainer.Population, step: int, speed: float) -> None:
            self.recorder.train(start.phase, step, population.totals, speed)
            if schedule.evaluates(step):
                evaluation(self.config, self.recorder, self.slots, self.replicas, population.agents, start.phase, step)

        train(progress, start, schedule, self.checkpoints, after)


def starting_place(
    folder: pathlib.Path, checkpoints: checkpoint.Checkpoints, schedules: Mapping[str, Schedule]
) -> Place:
    """The newest checkpoint's place, or the beginning of the first phase of `schedules`.

    Online only at a multiple of the interval, or at the very end: elsewhere a run ended whose total was smaller, and
    one with this total would have gone on with its episodes there.
    """

    def usable(place: Place) -> bool:
        schedule = schedules[place.phase]
        return place.phase != "online" or place.step % schedule.save == 0 or place.step == schedule.total

    try:
        newest = checkpoints.newest(usable)
    except checkpoint.Damaged as error:
        raise UserError(f"{error}; --resume=never starts over, and moves this run aside") from error
    if newest is None:
        if (folder / "DONE").exists():
            raise UserError(
                f"{folder}: is finished and has no checkpoint to be continued from; "
                "--resume=never starts over, and moves it aside"
            )
        return Place(next(iter(schedules)), 0)
    phases = list(schedules)
    reached = {phase: newest.step if phase == newest.phase else 0 for phase in phases}
    if newest.phase == "online":
        stored = read_json(folder / "config.json", ("train",))
        reached["offline"] = stored["train"]["offline_steps"]
        if reached["offline"] < schedules["offline"].total:
            raise UserError(
                f"{folder}: is online already, after {reached['offline']} offline updates; ask for as many, or choose "
                "another --group"
            )
    for phase, step in reached.items():
        if step > schedules[phase].total:
            raise UserError(
                f"{folder}: is at {phase} step {step} already, past {schedules[phase].total}; choose another --group"
            )
    print(f"going on from {checkpoints.path(newest)}")
    return newest


def locate(config: ConfigDict, domain: envs.Domain) -> tuple[ConfigDict, pathlib.Path]:
    """The configuration with the fingerprints of what it is to start from, and where the data are."""
    source, given = config.data, ""
    if config.agent_name == "bc" and not (config.bc.checkpoint or config.bc.steps):
        raise UserError("--agent=bc has nothing to do: give --bc_steps or --bc_checkpoint")
    if config.bc.checkpoint:
        given = checkpoint.read_meta(pathlib.Path(config.bc.checkpoint).expanduser(), checkpoint.POLICY)["fingerprint"]
    suite = envs.suite_of(domain)
    path = suite.find(
        domain, source.dataset, source.dir, episodes=source.episodes, seed=source.seed, shards=source.shards
    )
    return configuration.found(config, data=suite.fingerprint(path, source.shards), checkpoint=given), path


def load_data(config: ConfigDict, domain: envs.Domain, path: pathlib.Path) -> data.Dataset | Stream:
    """The dataset at `path`, with the configured tasks' rewards: on the device, or streamed if it would fill that."""
    source, tasks, suite = config.data, list(config.tasks), envs.suite_of(domain)
    size = suite.measure(path, domain, shards=source.shards, horizon=domain.horizon)
    needed, memory = size.nbytes(domain, len(tasks)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = trainer.memory_limit() or memory
    resident = needed < RESIDENT_SHARE * limit if source.resident == "auto" else source.resident == "true"
    print(
        f"data: {size.transitions:,} transitions, {needed / 2**30:,.2f} GiB (the device has {limit / 2**30:,.1f} GiB): "
        f"{'resident' if resident else 'streamed'}, from {path}"
    )
    if needed > memory and not (resident or source.shard_cycle):
        print("warning: the host's memory cannot keep them, so that draws wait for the disk; see data.shard_cycle")
    with interrupt.at_once():
        arrays = suite.load(path, domain, tasks, domain.horizon, sparse=source.sparse, shards=source.shards)
    for task, masks in zip(tasks, arrays.masks, strict=True):
        print(f"  task {task}: solved in {(masks == 0).mean():.2%} of them")
    return data.to_device(arrays, source.shard_cycle) if resident else Stream(arrays, source.shard_cycle)


def cloned_policy(
    config: ConfigDict, domain: envs.Domain, dataset: data.Dataset | Stream, replicas: list[Replica]
) -> tuple[Params | None, int]:
    """Velocity parameters of the policies to start from, a leading axis over replicas, and how many updates made them.

    (None, 0) without cloning.
    """
    seeds = list(config.run.seeds)
    own = configuration.cloning(config)
    if config.bc.checkpoint:
        place = pathlib.Path(config.bc.checkpoint).expanduser()
    elif config.bc.steps:
        place = clone(own, domain, dataset)
    else:
        return None, 0
    try:
        meta = checkpoint.read_meta(place, checkpoint.POLICY)
        shapes = trainer.replica_shapes(*creation("bc", own, domain, meta["seeds"])).train.params["actor"]
        velocity = checkpoint.load(place, shapes)
    except checkpoint.Damaged as error:
        way_out = "" if config.bc.checkpoint else f"; move {place.parents[1]} away to have it cloned again"
        raise UserError(f"{error}{way_out}") from error
    print(f"cloned policy: {place}, {meta['steps']:,} updates")
    if meta.get("env") not in (None, config.env):
        raise UserError(f"{place}: was cloned on {meta['env']}, not on {config.env}")
    if not meta.get("per_seed", False):
        policies = [0] * len(replicas)
    elif set(seeds) <= set(meta["seeds"]):
        policies = [meta["seeds"].index(replica.seed) for replica in replicas]
    else:
        raise UserError(
            f"{place}: holds one policy for each of the seeds {meta['seeds']}, not for all of {seeds}; "
            "choose another --group to clone the others"
        )
    index = np.array(policies)
    return jax.tree.map(lambda x: x[index], velocity), meta["steps"]


def clone(config: ConfigDict, domain: envs.Domain, dataset: data.Dataset | Stream) -> pathlib.Path:
    """Behaviour cloning, as a run of its own that every method configured alike shares. Returns the checkpoint."""
    seeds = list(config.run.seeds) if config.bc.per_seed else [config.bc.seed]
    folder = folder_of(config, of_cloning=True)
    place = folder / "checkpoints" / str(config.bc.steps)
    with claimed(folder, config, of_cloning=True) as finished:
        if finished:
            return place
        checkpoints = checkpoint.Checkpoints(folder / "checkpoints", PHASES)
        schedule = Schedule(config.bc.steps, config.train.log_interval, None, config.train.save_interval)
        start = starting_place(folder, checkpoints, {"bc": schedule})
        recorder = Recorder(folder, config, [Replica("", seed) for seed in seeds], schedule.keeps(start))
        source, streams = trainer.Source(dataset, jnp.zeros(len(seeds), jnp.int32)), stack_streams(seeds, "bc")
        policies = trainer.create_replicas(*creation("bc", config, domain, seeds))
        rules, totals = trainer.Rules(config.train.batch_size), None
        if start.step:
            totals = trainer.zero_totals(policies, source, streams, rules)
            policies, totals = checkpoints.load(start, (policies, totals))
        population = trainer.Population(policies, source, streams, rules, totals=totals)

        def after(population: trainer.Population, step: int, speed: float) -> None:
            recorder.train("bc", step, population.totals, speed)
            if recorder.frozen():  # the rows of what starts from it would not show it
                raise Diverged(f"{folder}: cloning diverged for {'; '.join(recorder.frozen())}")

        train(Offline(population), start, schedule, checkpoints, after)
        meta = {"env": config.env, "steps": config.bc.steps, "seeds": seeds, "per_seed": config.bc.per_seed}
        checkpoint.save_params(place, population.agents.train.params["actor"], meta)
        recorder.done()
    return place


def evaluation(
    config: ConfigDict,
    recorder: Recorder,
    slots: VectorSlots,
    replicas: list[Replica],
    policies: AbstractAgent,
    phase: str,
    step: int,
) -> None:
    """Episodes of every replica, as rows of eval.csv, unless they are there. A signal abandons it without rows."""
    if config.eval.episodes == 0 or recorder.has("eval", phase, step):
        return
    start = time.perf_counter()
    seeds = [replica.seed for replica in replicas]
    keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(stack_streams(seeds, phase).evaluation)
    if config.eval.video_episodes:
        videos = recorder.folder / "videos"
        videos.mkdir(exist_ok=True)
        filmed = range(min(config.eval.video_episodes, config.eval.episodes))
        names = ["-".join(filter(None, (f"task{r.task}-seed{r.seed}", r.variant))) for r in replicas]
        slots.film([[videos / f"{phase}-{step}-{name}-{e}.gif" for e in filmed] for name in names])
    episodes = evaluate(policies, Watched(slots), start_seeds(seeds, phase, step, config.eval.episodes), keys)
    recorder.eval(phase, step, episodes, time.perf_counter() - start)
    tqdm.write(f"{phase} {step}: success {episodes.success.mean():.3f} over {episodes.success.size} episodes")


def creation(
    name: str, config: ConfigDict, domain: envs.Domain, seeds: list[int]
) -> tuple[type[AbstractAgent], Array, Spec, FrozenConfigDict]:
    """What fresh replicas are made from, one per entry of seeds."""
    spec = Spec(domain.observation_dim, domain.action_dim, domain.horizon)
    keys, own = stack_streams(seeds, "bc" if name == "bc" else "offline").init, config.agent.to_dict()
    if configuration.budgets(config) != (None,):
        own["kl_budget"] = own["kl_budget"][0]  # only what a replica starts with, and make_agents gives each its own
    return agents.AGENTS[name], keys, spec, FrozenConfigDict(own)


def make_agents(
    name: str, config: ConfigDict, domain: envs.Domain, replicas: list[Replica], velocity: Params | None
) -> AbstractAgent:
    """Replicas that start from the cloned policies, if there are any, each with its own KL budget if they differ."""
    made = trainer.create_replicas(*creation(name, config, domain, [replica.seed for replica in replicas]))
    if configuration.budgets(config) != (None,):
        made = made.replace(dual=made.dual.with_budget(jnp.array([replica.kl_budget for replica in replicas])))
    return made if velocity is None else trainer.load_cloned(made, velocity)


class Watched:
    """Slots that a signal stops between two calls."""

    def __init__(self, slots: Slots):
        calls = slots.begin, slots.wait, slots.play, slots.results
        self.begin, self.wait, self.play, self.results = map(_watched, calls)


def _watched(call: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        interrupt.check()
        return call(*arguments)

    return watched
