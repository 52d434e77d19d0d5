"""One run: clone a policy, fine-tune R replicas of an agent from it, evaluate, leave rows behind."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from tqdm import tqdm

import agents
from envs import ogbench, suite
from envs.slots import VectorSlots
from experiments import config as configuration
from experiments.records import Recorder, Replica, folder_of, is_finished
from trqam_jax import checkpoint, data, trainer
from trqam_jax.agent import AbstractAgent
from trqam_jax.errors import UserError
from trqam_jax.evaluation import evaluate, start_seeds
from trqam_jax.streams import stack_streams
from trqam_jax.types import Array, Params, Spec

DISPATCH_SECONDS = 0.5  # how often the host hears from the device
AfterUpdates = Callable[[AbstractAgent, int, dict[str, np.ndarray], float], None]


def run(config: ConfigDict) -> pathlib.Path:
    """Everything `main.py` does once its flags are understood. Returns the run's folder, complete."""
    domain = suite.DOMAINS[config.env]
    config, path = locate(config, domain)
    folder = folder_of(config)
    if is_finished(folder, config):
        print(f"finished already: {folder}")
        return folder
    replicas = [Replica(task, seed) for task in config.tasks for seed in config.run.seeds]
    with contextlib.ExitStack() as stack:
        slots = stack.enter_context(
            VectorSlots(
                domain,
                [replica.task for replica in replicas],
                domain.horizon,
                config.eval.episodes,
                workers=config.eval.workers or None,
                video=config.eval.video_episodes > 0,
            )
        )
        dataset = load_data(config, domain, path)
        velocity, steps = cloned_policy(config, domain, dataset)
        recorder = Recorder(folder, config, replicas)
        if velocity is not None:
            cloner = make_agents("bc", configuration.cloning(config), domain, replicas, velocity)
            evaluation(config, recorder, slots, replicas, cloner, "bc", steps)
        if config.agent_name != "bc":
            fine_tuned = make_agents(config.agent_name, config, domain, replicas, velocity)
            fine_tune(config, recorder, slots, replicas, fine_tuned, dataset)
        recorder.done()
    return folder


def locate(config: ConfigDict, domain: suite.Domain) -> tuple[ConfigDict, pathlib.Path]:
    """The configuration with the fingerprints of what it is to start from, and where the data are."""
    source, given = config.data, ""
    if config.agent_name == "bc" and not (config.bc.checkpoint or config.bc.steps):
        raise UserError("--agent=bc has nothing to do: give --bc_steps or --bc_checkpoint")
    if config.bc.checkpoint:
        given = checkpoint.read_meta(pathlib.Path(config.bc.checkpoint).expanduser())["fingerprint"]
    path = ogbench.find(
        domain, source.dataset, source.dir, episodes=source.episodes, seed=source.seed, shards=source.shards
    )
    return configuration.found(config, data=ogbench.fingerprint(path, source.shards), checkpoint=given), path


def load_data(config: ConfigDict, domain: suite.Domain, path: pathlib.Path) -> data.Dataset:
    """The dataset at `path`, with the configured tasks' rewards, on the device."""
    source = config.data
    arrays = ogbench.load(path, domain, list(config.tasks), domain.horizon, sparse=source.sparse, shards=source.shards)
    size = data.size_in_bytes(arrays) / 2**20
    print(f"data: {len(arrays.actions):,} transitions, {size:,.0f} MiB on the device, from {path}")
    for task, masks in zip(config.tasks, arrays.masks, strict=True):
        print(f"  task {task}: solved in {(masks == 0).mean():.2%} of them")
    return data.to_device(arrays)


def cloned_policy(config: ConfigDict, domain: suite.Domain, dataset: data.Dataset) -> tuple[Params | None, int]:
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
    meta = checkpoint.read_meta(place)
    shapes = jax.eval_shape(lambda: create("bc", own, domain, meta["seeds"])).train.params["actor"]
    velocity = checkpoint.load_params(place, shapes)
    print(f"cloned policy: {place}, {meta['steps']:,} updates")
    if meta.get("env") not in (None, config.env):
        raise UserError(f"{place}: was cloned on {meta['env']}, not on {config.env}")
    if not meta.get("per_seed", False):
        policy_of_seed = [0] * len(seeds)
    elif set(seeds) <= set(meta["seeds"]):
        policy_of_seed = [meta["seeds"].index(seed) for seed in seeds]
    else:
        raise UserError(
            f"{place}: holds one policy for each of the seeds {meta['seeds']}, not for all of {seeds}; "
            "choose another --group to clone the others"
        )
    index = np.array(policy_of_seed * len(config.tasks))
    return jax.tree.map(lambda x: x[index], velocity), meta["steps"]


def clone(config: ConfigDict, domain: suite.Domain, dataset: data.Dataset) -> pathlib.Path:
    """Behaviour cloning, as a run of its own that every method configured alike shares. Returns the checkpoint."""
    seeds = list(config.run.seeds) if config.bc.per_seed else [config.bc.seed]
    folder = folder_of(config, of_cloning=True)
    place = folder / "checkpoints" / str(config.bc.steps)
    if folder.exists():
        if not (folder / "DONE").exists():
            raise UserError(
                f"{folder}: a cloning is going on there, or was interrupted; "
                "if no process writes to it, move it away; or choose another --group"
            )
        return place
    recorder = Recorder(folder, config, [Replica("", seed) for seed in seeds])
    policies = train(
        create("bc", config, domain, seeds),
        dataset,
        jnp.zeros(len(seeds), jnp.int32),
        seeds,
        phase="bc",
        num_steps=config.bc.steps,
        batch_size=config.train.batch_size,
        per_pass=config.train.replicas_per_pass,
        intervals=(config.train.log_interval,),
        after=lambda _, step, means, speed: recorder.train("bc", step, means, speed),
    )
    meta = {"env": config.env, "steps": config.bc.steps, "seeds": seeds, "per_seed": config.bc.per_seed}
    checkpoint.save_params(place, policies.train.params["actor"], meta)
    recorder.done()
    return place


def fine_tune(
    config: ConfigDict,
    recorder: Recorder,
    slots: VectorSlots,
    replicas: list[Replica],
    fine_tuned: AbstractAgent,
    dataset: data.Dataset,
) -> None:
    """The offline phase, with its evaluations."""
    total = config.train.offline_steps

    def after(fine_tuned: AbstractAgent, step: int, means: dict[str, np.ndarray], speed: float) -> None:
        recorder.train("offline", step, means, speed)
        if step % config.eval.interval == 0 or step == total:
            evaluation(config, recorder, slots, replicas, fine_tuned, "offline", step)

    train(
        fine_tuned,
        dataset,
        jnp.array([config.tasks.index(replica.task) for replica in replicas]),
        [replica.seed for replica in replicas],
        phase="offline",
        num_steps=total,
        batch_size=config.train.batch_size,
        per_pass=config.train.replicas_per_pass,
        intervals=(config.train.log_interval, config.eval.interval),
        after=after,
    )


def evaluation(
    config: ConfigDict,
    recorder: Recorder,
    slots: VectorSlots,
    replicas: list[Replica],
    policies: AbstractAgent,
    phase: str,
    step: int,
) -> None:
    """Episodes of every replica, as rows of eval.csv."""
    if config.eval.episodes == 0:
        return
    start = time.perf_counter()
    seeds = [replica.seed for replica in replicas]
    keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(stack_streams(seeds, phase).evaluation)
    if config.eval.video_episodes:
        videos = recorder.folder / "videos"
        videos.mkdir(exist_ok=True)
        filmed = range(min(config.eval.video_episodes, config.eval.episodes))
        slots.film([[videos / f"{phase}-{step}-task{r.task}-seed{r.seed}-{e}.gif" for e in filmed] for r in replicas])
    episodes = evaluate(policies, slots, start_seeds(seeds, phase, step, config.eval.episodes), keys)
    recorder.eval(phase, step, episodes, time.perf_counter() - start)
    tqdm.write(f"{phase} {step}: success {episodes.success.mean():.3f} over {episodes.success.size} episodes")


def create(name: str, config: ConfigDict, domain: suite.Domain, seeds: list[int]) -> AbstractAgent:
    """Fresh replicas, one per entry of seeds."""
    spec = Spec(domain.observation_dim, domain.action_dim, domain.horizon)
    keys = stack_streams(seeds, "bc" if name == "bc" else "offline").init
    return trainer.create_replicas(agents.AGENTS[name], keys, spec, FrozenConfigDict(config.agent))


def make_agents(
    name: str, config: ConfigDict, domain: suite.Domain, replicas: list[Replica], velocity: Params | None
) -> AbstractAgent:
    """Replicas that start from the cloned policies, if there are any."""
    made = create(name, config, domain, [replica.seed for replica in replicas])
    return made if velocity is None else trainer.load_cloned(made, velocity)


def train(
    replicas: AbstractAgent,
    dataset: data.Dataset,
    tasks: Array,
    seeds: list[int],
    *,
    phase: str,
    num_steps: int,
    batch_size: int,
    per_pass: int,
    intervals: tuple[int, ...],
    after: AfterUpdates,
) -> AbstractAgent:
    """Updates 0 .. num_steps - 1. At every multiple of an interval, and at the end, after(agents, step, means since the
    last call {metric: (R,)}, updates per second) is called. How the updates are dispatched changes no number."""
    population = trainer.Population(
        replicas, dataset, tasks, stack_streams(seeds, phase), batch_size=batch_size, per_pass=per_pass
    )
    del replicas  # donated
    print(f"memory: {population.memory}")
    step, length = 0, 1
    with progress(num_steps, phase) as bar:
        while step < num_steps:
            begin, stop = step, min(num_steps, *(step - step % interval + interval for interval in intervals))
            started = time.perf_counter()
            while step < stop:
                count, start = min(length, stop - step), time.perf_counter()
                population.run(step, count)
                step += count
                bar.update(count)
                length = max(1, min(2 * length, int(count * DISPATCH_SECONDS / (time.perf_counter() - start))))
            speed = (step - begin) / (time.perf_counter() - started)
            means = {name: total / np.float32(step - begin) for name, total in population.take_totals().items()}
            after(population.agents, step, means, speed)
    return population.agents


@contextlib.contextmanager
def progress(total: int, phase: str) -> Iterator[tqdm]:
    """A bar on a terminal, a line now and then in a log file."""
    interval = 0.2 if sys.stderr.isatty() else 30
    with tqdm(total=total, desc=phase, unit="update", mininterval=interval, dynamic_ncols=True) as bar:
        yield bar
