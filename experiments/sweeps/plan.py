"""From what a sweep is asked for to its jobs: one per method, domain and value.

Replicas are tasks x seeds x KL budgets.
"""

import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import agents
from experiments import config as configuration
from experiments.config import PLACES
from experiments.sweeps.manifest import Job, as_json
from experiments.training.csv_rows import read_csv
from experiments.training.resume import FREE
from trqam_jax.errors import UserError, suggest


class Request(NamedTuple):
    """What a command line asks for."""

    agents: Sequence[str]
    envs: Sequence[str]
    tasks: str | None
    seeds: list[str] | None
    num_seeds: int | None
    protocol: str
    flags: Mapping[str, Any]  # typed values of main.py's other flags, as far as they are given
    overrides: Mapping[str, str]  # texts of --config.key=text; a number may have several, 0.5,1
    max_replicas: int | None


#: Settings of a method that its cloning shares.
CLONED = ("hidden_dims", "actor_layer_norm", "flow_steps", "learning_rate")


def expand(request: Request) -> dict[str, Job]:
    """All jobs by name, the clonings first. Every configuration among them is resolved, and so checked."""
    clonings: dict[str, tuple[Job, str]] = {}  # with the digest of the cloned policy
    methods: list[Job] = []
    folders: dict[tuple, str] = {}
    if request.flags.get("resume", "auto") != "auto":
        raise UserError(f"--resume={request.flags['resume']}: the jobs of a sweep go on by themselves; leave it out")
    _check_keys(request)
    for env, agent in itertools.product(request.envs, request.agents):
        own = _for_agent(request, agent)
        for variant, overrides in _variants(own, agent, env):
            config = _resolve(own, agent, env, overrides)
            after = _add_cloning(clonings, own, config, variant, overrides)
            for part, replicas in _parts(config, request.max_replicas):
                name = agent, config.env, _text(variant), part
                job = _job(own, config, name, overrides, part=part, after=after, **replicas)
                folder = _folder(config, part)
                if folder in folders:
                    raise UserError(
                        f"{job.name} and {folders[folder]} would be one run; ask for values that change a result, and "
                        "for several tasks of a domain by --envs=DOMAIN --tasks=1,2"
                    )
                folders[folder] = job.name
                methods.append(job)
    return {job.name: job for job in (*(job for job, _ in clonings.values()), *methods)}


def _check_keys(request: Request) -> None:
    for agent in request.agents:
        if agent not in agents.AGENTS:
            raise UserError(f"--agents: unknown {agent!r}.{suggest(agent, agents.AGENTS)}")
    for key in (*request.overrides, *(configuration.FLAG_KEYS[name] for name in request.flags)):
        if not any(_has(agent, key) for agent in request.agents):
            raise UserError(f"--config.{key}: none of {', '.join(request.agents)} has this setting")


def _has(agent: str, key: str) -> bool:
    """Whether the setting is one of the agent's, or of no agent's."""
    section, _, name = key.rpartition(".")
    return name in agents.default_config(agent) if section == "agent" or key == "online.kl_budget" else True


def _for_agent(request: Request, agent: str) -> Request:
    """What of the request reaches the agent: without the settings that only others have."""
    return request._replace(
        flags={name: value for name, value in request.flags.items() if _has(agent, configuration.FLAG_KEYS[name])},
        overrides={key: text for key, text in request.overrides.items() if _has(agent, key)},
    )


def _folder(config: ConfigDict, part: str) -> tuple:
    """What is different for runs that are to be in different folders. (Other places may hold other data.)"""
    flat = configuration.flatten(config)
    return config.env, config.agent_name, configuration.digest(config), part, *(flat[key] for key in PLACES)


def _variants(request: Request, agent: str, env: str) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """(the values of this variant, all overrides of it): the product over settings that are given several values.

    Those of which replicas can have one each stay together.
    """
    axes = {key: text for key, text in request.overrides.items() if key in configuration.REPLICA_AXES}
    known = configuration.flatten(_resolve(request, agent, env, axes))
    # A comma in a tuple or a text belongs to the value.
    several = {
        key: text.split(",")
        for key, text in request.overrides.items()
        if "," in text and not isinstance(known.get(key), (tuple, str))
    }
    for key in axes:
        if isinstance(known[key], tuple):  # in one job, as far as that may hold them
            parts = _cut(known[key], request.max_replicas or len(known[key]))
            several[key] = [",".join(map(str, part)) for part in parts]
    for values in itertools.product(*several.values()):
        variant = dict(zip(several, values, strict=True))
        yield variant, {**request.overrides, **variant}


def _resolve(request: Request, agent: str, env: str, overrides: Mapping[str, str], **own: Any) -> ConfigDict:
    given = {"tasks": request.tasks, "seeds": request.seeds, "num_seeds": request.num_seeds, **own}
    return configuration.resolve(
        agent=agent,
        env=env,
        protocol=request.protocol,
        settings={configuration.FLAG_KEYS[name]: value for name, value in request.flags.items()},
        overrides=overrides,
        **given,
    )


def _text(variant: Mapping[str, str]) -> str:
    return ",".join(f"{key.removeprefix('agent.')}={value}" for key, value in variant.items())


def _parts(config: ConfigDict, most: int | None) -> Iterator[tuple[str, dict[str, Sequence[int]]]]:
    """(the part's name, its tasks and seeds), none with more replicas than `most`: first the seeds are split."""
    tasks, seeds, each = config.tasks, config.run.seeds, len(configuration.budgets(config))
    if most is None or len(tasks) * len(seeds) * each <= most:
        yield "", {"tasks": tasks, "seeds": seeds}
        return
    if config.bc.per_seed:
        raise UserError(f"--max_replicas={most}: with bc.per_seed=true all seeds are cloned in one job; leave it out")
    for some_seeds in _cut(seeds, max(1, most // (len(tasks) * each))):
        for some_tasks in _cut(tasks, most // each):
            names = [_span("tasks", some_tasks)] * (len(some_tasks) < len(tasks)) + [_span("seeds", some_seeds)]
            yield "-".join(names), {"tasks": some_tasks, "seeds": some_seeds}


def _cut(values: Sequence[int], size: int) -> list[Sequence[int]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _span(what: str, values: Sequence[int]) -> str:
    return "-".join(map(str, (what, *dict.fromkeys((values[0], values[-1])))))


def _add_cloning(
    clonings: dict[str, tuple[Job, str]],
    request: Request,
    config: ConfigDict,
    variant: Mapping[str, str],
    overrides: Mapping[str, str],
) -> list[str]:
    """Plan the cloning that a run starts from, unless it is planned already. Returns its name, if there is one."""
    if not config.bc.steps:
        return []
    own = {key: text for key, text in variant.items() if _changes_cloning(key)}
    name = "/".join(filter(None, ("cloning", config.env, _text(own))))
    digest = configuration.digest(configuration.cloning(config), of_cloning=True)
    if name not in clonings:
        fitting = {key: text for key, text in overrides.items() if _reaches_cloning(key)}
        flags = {n: value for n, value in request.flags.items() if _reaches_cloning(configuration.FLAG_KEYS[n])}
        silent = request._replace(flags={**flags, "eval_episodes": 0, "video_episodes": 0})
        seeds = config.run.seeds if config.bc.per_seed else config.run.seeds[:1]
        of_bc = _resolve(silent, "bc", config.env, fitting, tasks=None, seeds=list(map(str, seeds)), num_seeds=None)
        job = _job(silent, of_bc, [name], fitting, tasks=of_bc.tasks, seeds=seeds, part="cloning")
        planned = configuration.digest(configuration.cloning(of_bc), of_cloning=True)
        clonings[name] = job._replace(updates=config.bc.steps), planned
    if clonings[name][1] != digest:
        raise UserError(f"{config.agent_name} on {config.env} starts from another cloning than {name}; give it a sweep")
    return [name]


def _changes_cloning(key: str) -> bool:
    return key.startswith(("bc.", "data.")) or key == "train.batch_size" or key.removeprefix("agent.") in CLONED


def _reaches_cloning(key: str) -> bool:
    return not key.startswith(("agent.", "online.")) or _changes_cloning(key)


def _job(
    request: Request,
    config: ConfigDict,
    name: Iterable[str],
    overrides: Mapping[str, str],
    *,
    tasks: Sequence[int],
    seeds: Sequence[int],
    part: str = "",
    after: Sequence[str] = (),
) -> Job:
    """The run of these replicas of the configuration. Its name is what of `name` is not empty."""
    listed = {"tasks": tasks, "seeds": seeds}
    flags = {"agent": config.agent_name, "env": config.env, **listed, "protocol": config.protocol, **request.flags}
    overrides = {**overrides, **({"run.part": part} if part else {})}
    train, online = config.train, config.online
    flat = {**configuration.flatten(config), "tasks": tasks, "run.seeds": seeds, "run.part": part}
    return Job(
        name="/".join(filter(None, name)),
        agent=config.agent_name,
        env=config.env,
        argv=[f"--{key}={_as_text(value)}" for key, value in flags.items()]
        + [f"--config.{key}={text}" for key, text in overrides.items()],
        after=list(after),
        replicas=len(tasks) * len(seeds) * len(configuration.budgets(config)),
        updates=0 if config.agent_name == "bc" else train.offline_steps + online.steps * online.updates_per_step,
        settings=as_json({key: value for key, value in flat.items() if _tells_apart(key)}),
    )


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _tells_apart(key: str) -> bool:
    """Whether a run that differs in it is another one, or not as long. (What data contain is not known yet.)"""
    return key not in FREE and not key.endswith(".fingerprint")


class Cost(NamedTuple):
    """What a job takes on the device that was measured: seconds of training, evaluation not counted."""

    seconds: float
    device: str


#: What benchmarks/update.py measures with: everything else is the agent's default.
_BATCH, _DEFAULTS = 256, ("num_critics", "flow_steps", "best_of_n")


def costs(jobs: Iterable[Job], benchmark: pathlib.Path) -> dict[str, Cost]:
    """Of the jobs that the file, written by benchmarks/update.py, has a measurement for: agent, sizes and minibatch.

    Of several the one with the most replicas that the job has, too, counts, else the one with the fewest.
    """
    rows = read_csv(benchmark)
    columns = ("agent", "loop", "replicas", "hidden_dims", "updates_per_second", "device")
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise UserError(f"--benchmark={benchmark}: has no {', '.join(missing)}; benchmarks/update.py --csv writes it")
    result = {}
    for job in jobs:
        alike = [row for row in rows if row["loop"] == "now" and _measured(job, row)]
        if alike:
            count = lambda row: int(row["replicas"])
            row = max((row for row in alike if count(row) <= job.replicas), key=count, default=min(alike, key=count))
            result[job.name] = Cost(job.updates * job.replicas / float(row["updates_per_second"]), row["device"])
    return result


def _measured(job: Job, row: Mapping[str, str]) -> bool:
    default = agents.default_config(job.agent)
    return (
        (job.agent, "x".join(map(str, job.settings["agent.hidden_dims"]))) == (row["agent"], row["hidden_dims"])
        and all(job.settings[f"agent.{key}"] == default[key] for key in _DEFAULTS if key in default)
        and job.settings["train.batch_size"] == _BATCH
    )
