"""From what a sweep is asked for to its jobs: one per method, domain and value, each domain's BC job before them.

Replicas of a job are tasks x seeds x values of the swept settings.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import agents
import envs
from experiments import config as configuration
from experiments.row_format import flatten
from experiments.sweeps import split
from experiments.sweeps.manifest import Job, as_json
from experiments.sweeps.split import Part, Texts
from experiments.training import policies_by_name
from experiments.training.stages import BC, FINE_TUNING
from trqam_jax.errors import UserError, suggest
from trqam_jax.settings import Effect


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
    checkpoints: Mapping[str, str] = {}  # {domain: name of the BC policy, with a commit} of the sweep that is there


class _BCJob(NamedTuple):
    """A planned BC job, and the digest of the BC policy that it leaves."""

    job: Job
    digest: str


def expand(request: Request) -> dict[str, Job]:
    """All jobs by name, the BC jobs first. Every configuration among them is resolved, and so checked."""
    bc_jobs: dict[str, _BCJob] = {}
    methods: list[Job] = []
    folders: dict[tuple, str] = {}
    names: dict[tuple[str, ...], str] = {}
    _check(request)
    for env, agent in itertools.product(request.envs, request.agents):
        own = _with_commit(_for_agent(request, agent), env, names)
        for values in split.by_value(own.overrides, agent, request.max_replicas):
            overrides = {**own.overrides, **values}
            config = _resolve(own, agent, env, overrides)
            after = _add_bc_job(bc_jobs, own, config, values, overrides)
            for part in split.by_replica(config, request.max_replicas):
                name = _name(agent, config.env, _text(values), part.name)
                job = _job(own, config, name, overrides, part, after)
                _claim_folder(folders, job, config, part)
                methods.append(job)
    return {job.name: job for job in (*(planned.job for planned in bc_jobs.values()), *methods)}


def _check(request: Request) -> None:
    """A UserError at an agent that is none, at settings that no agent has, and at --resume."""
    if request.flags.get("resume", "auto") != "auto":
        raise UserError(f"--resume={request.flags['resume']}: the jobs of a sweep go on by themselves; leave it out")
    if not request.agents:
        raise UserError(f"--agents is empty, expected some of {', '.join(agents.AGENTS)}")
    for agent in request.agents:
        if agent not in agents.AGENTS:
            raise UserError(f"--agents: unknown {agent!r}.{suggest(agent, agents.AGENTS)}")
    for key in ("run.out_dir", "run.group", "run.part", "run.resume"):
        if key in request.overrides:
            raise UserError(
                f"--config.{key}={request.overrides[key]}: a sweep places its runs; use --out_dir and --group"
            )
    by_flag = configuration.flags()
    for key in (*request.overrides, *(by_flag[name] for name in request.flags)):
        if not any(_has(agent, key) and configuration.reads(agent, key) for agent in request.agents):
            raise UserError(f"--config.{key}: none of {', '.join(request.agents)} uses this setting")


def _has(agent: str, key: str) -> bool:
    """Whether the setting is one of the agent's, or of no agent's."""
    section, _, name = key.rpartition(".")
    of_agent = section == "agent" or key in configuration.online_settings()
    return name in agents.settings(agent) if of_agent else True


def _for_agent(request: Request, agent: str) -> Request:
    """What of the request reaches the agent: without the settings that only others have."""
    by_flag = configuration.flags()
    return request._replace(
        flags={name: value for name, value in request.flags.items() if _has(agent, by_flag[name])},
        overrides={key: text for key, text in request.overrides.items() if _has(agent, key)},
    )


def _with_commit(request: Request, env: str, names: dict[tuple[str, ...], str]) -> Request:
    """The request with the commit in the name of a given BC policy: all jobs, whenever they start, take the same.

    names: those that were looked up. A sweep that is there goes on with the commit that it began with.
    """
    flag, key = "bc_checkpoint", "bc.checkpoint"
    given = request.overrides.get(key, request.flags.get(flag, ""))
    if not policies_by_name.is_name(given):
        return request
    domain, _ = envs.split_env(env)
    before = request.checkpoints.get(domain.name, "")
    if "@" not in given and before.startswith(f"{given}@"):
        text = before
    else:
        place = given, domain.suite
        if place not in names:
            names[place] = policies_by_name.with_commit(given, domain)
        text = names[place]
    if key in request.overrides:
        return request._replace(overrides={**request.overrides, key: text})
    return request._replace(flags={**request.flags, flag: text})


def checkpoints(jobs: Mapping[str, Job]) -> dict[str, str]:
    """{domain: the BC policy that its jobs are given}."""
    starts = ("--bc_checkpoint=", "--config.bc.checkpoint=")
    given = [(job.env, text) for job in jobs.values() for text in job.argv if text.startswith(starts)]
    return {env: text.partition("=")[2] for env, text in given}


def _claim_folder(folders: dict[tuple, str], job: Job, config: ConfigDict, part: Part) -> None:
    """A UserError if another job is to have the folder of this one. (Inputs in other places may be other data.)"""
    flat = flatten(config)
    inputs = [value for key, value in flat.items() if configuration.effect(key) is Effect.LOCATION]
    folder = (config.env, config.agent_name, FINE_TUNING.digest(config), part.name, *inputs)
    if folder in folders:
        raise UserError(
            f"{job.name} and {folders[folder]} would be one run; ask for values that change a result, and "
            "for several tasks of a domain by --envs=DOMAIN --tasks=1,2"
        )
    folders[folder] = job.name


def _resolve(request: Request, agent: str, env: str, overrides: Mapping[str, str]) -> ConfigDict:
    by_flag = configuration.flags()
    return configuration.resolve(
        agent=agent,
        env=env,
        protocol=request.protocol,
        tasks=request.tasks,
        seeds=request.seeds,
        num_seeds=request.num_seeds,
        settings={by_flag[name]: value for name, value in request.flags.items()},
        overrides=overrides,
    )


def _name(*parts: str) -> str:
    return "/".join(filter(None, parts))


def _text(values: Mapping[str, str]) -> str:
    return ",".join(f"{key.removeprefix('agent.')}={value}" for key, value in values.items())


def _add_bc_job(
    bc_jobs: dict[str, _BCJob], request: Request, config: ConfigDict, values: Texts, overrides: Texts
) -> list[str]:
    """Plan the BC job that a run starts from, unless it is planned already. Returns its name, if there is one."""
    if not config.bc.steps:
        return []
    own = {key: text for key, text in values.items() if _changes_cloning(key)}
    name = _name("cloning", config.env, _text(own))
    if name not in bc_jobs:
        bc_jobs[name] = _bc_job(request, config, name, overrides)
    if bc_jobs[name].digest != BC.digest(BC.config(config)):
        raise UserError(f"{config.agent_name} on {config.env} starts from another policy than {name}; give it a sweep")
    return [name]


def _bc_job(request: Request, config: ConfigDict, name: str, overrides: Texts) -> _BCJob:
    """A run of the agent bc that evaluates nothing: it leaves the BC policy that the run of `config` starts from."""
    by_flag = configuration.flags()
    flags = {flag: value for flag, value in request.flags.items() if _reaches_cloning(by_flag[flag])}
    seeds = config.run.seeds if config.bc.per_seed else config.run.seeds[:1]
    own = request._replace(
        tasks=None,
        seeds=[str(seed) for seed in seeds],
        num_seeds=None,
        flags={**flags, "eval_episodes": 0, "video_episodes": 0},
    )
    fitting = {key: text for key, text in overrides.items() if _reaches_cloning(key)}
    resolved = _resolve(own, "bc", config.env, fitting)
    job = _job(own, resolved, name, fitting, Part("cloning", resolved.tasks, seeds))
    return _BCJob(job._replace(updates=config.bc.steps), BC.digest(BC.config(resolved)))


def _changes_cloning(key: str) -> bool:
    """Whether another value of the setting of this flat key needs a BC job of its own."""
    if key.startswith("agent."):
        return key.removeprefix("agent.") in agents.BC.INHERITS
    return BC.uses(key) or configuration.effect(key) is Effect.LOCATION


def _reaches_cloning(key: str) -> bool:
    """Whether a BC job is given the setting: not those of methods, and of their online phase."""
    return not key.startswith(("agent.", "online.")) or _changes_cloning(key)


def _job(
    request: Request, config: ConfigDict, name: str, overrides: Texts, part: Part, after: Sequence[str] = ()
) -> Job:
    """The run of this part of the configuration."""
    train, online = config.train, config.online
    updates = train.offline_steps + online.steps * online.updates_per_step
    own = {"tasks": part.tasks, "run.seeds": part.seeds, "run.part": part.name}
    settings = {key: value for key, value in flatten(config).items() if _tells_apart(key)}
    return Job(
        name=name,
        agent=config.agent_name,
        env=config.env,
        argv=_arguments(request, config, overrides, part),
        after=list(after),
        replicas=len(part.tasks) * len(part.seeds) * len(configuration.variants(config)),
        updates=0 if config.agent_name == "bc" else updates,
        settings=as_json({**settings, **own}),
    )


def _arguments(request: Request, config: ConfigDict, overrides: Texts, part: Part) -> list[str]:
    """Those that main.py is started with."""
    listed = {"tasks": part.tasks, "seeds": part.seeds}
    flags = {"agent": config.agent_name, "env": config.env, **listed, "protocol": config.protocol, **request.flags}
    texts = {**overrides, "run.part": part.name} if part.name else overrides
    by_flag = [f"--{name}={_as_text(value)}" for name, value in flags.items()]
    return by_flag + [f"--config.{key}={text}" for key, text in texts.items()]


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _tells_apart(key: str) -> bool:
    """Whether a run that differs in it is another one, or not as long. (What data contain is not known yet.)"""
    changes_rows = configuration.effect(key) not in (Effect.NONE, Effect.LOCATION)
    return changes_rows and not key.endswith(".fingerprint")
