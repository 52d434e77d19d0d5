"""The configuration of a run: base -> agent -> domain and protocol -> command line, then locked."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

import agents
import envs
from envs.ogbench.files import DEFAULT_DATASET_DIR
from trqam_jax.backend import PRECISIONS
from trqam_jax.errors import UserError, suggest
from trqam_jax.files import sha256_json
from trqam_jax.mirrors import MIRRORS

#: What the command line's own flags set; everything else is reached by --config.section.key=value.
FLAG_KEYS = {
    "dataset": "data.dataset",
    "dataset_dir": "data.dir",
    "dataset_episodes": "data.episodes",
    "out_dir": "run.out_dir",
    "group": "run.group",
    "bc_steps": "bc.steps",
    "bc_checkpoint": "bc.checkpoint",
    "offline_steps": "train.offline_steps",
    "log_interval": "train.log_interval",
    "save_interval": "train.save_interval",
    "replicas_per_pass": "train.replicas_per_pass",
    "online_steps": "online.steps",
    "start_training": "online.start_training",
    "updates_per_step": "online.updates_per_step",
    "balanced_sampling": "online.balanced_sampling",
    "kl_budget_online": "online.kl_budget",
    "resume": "run.resume",
    "eval_interval": "eval.interval",
    "eval_episodes": "eval.episodes",
    "video_episodes": "eval.video_episodes",
}


_BY_FLAG = {
    "agent_name": "--agent",
    "env": "--env",
    "protocol": "--protocol",
    "tasks": "--tasks",
    "run.seeds": "--seeds or --num_seeds",
    **dict.fromkeys(("data.fingerprint", "bc.fingerprint"), "the path of what it is taken from"),
}


def base() -> dict[str, dict[str, Any]]:
    """Defaults of every section but the agent's."""
    return {
        "precision": "default",  # of matrix products; highest, tensorfloat32, bfloat16: see trqam_jax/backend.py
        "bc": {
            "steps": 300_000,
            "checkpoint": "",  # of an earlier cloning, to be used instead of one's own
            "fingerprint": "",  # of that checkpoint's content; filled in when it is found
            "per_seed": False,  # one cloned policy for every seed, instead of one per domain as released
            "seed": 0,  # of the one policy per domain
        },
        "data": {
            "dataset": "auto",  # auto, generate, or the path of a file or a folder of shards
            "dir": DEFAULT_DATASET_DIR,
            "episodes": 60,  # to generate
            "seed": 0,  # to generate with
            "shards": 0,  # how many of a sharded release; 0: the domain's plain file
            "sparse": False,  # every non-zero reward becomes -1
            "resident": "auto",  # true: on the device; false: streamed from the host; auto: streamed if it does not fit
            "shard_cycle": 0,  # updates from one shard before the next, 1000 as released; 0: from all rows at once
            "fingerprint": "",  # of the content; filled in when the data are found
        },
        "train": {
            "batch_size": 256,
            "offline_steps": 1_000_000,
            "log_interval": 5_000,  # updates, online environment steps
            "save_interval": 10_000,
            "replicas_per_pass": 0,  # 0: one per device on a CPU, elsewhere what memory allows
        },
        "online": {
            "steps": 0,  # of the environment, per replica
            "start_training": 5_000,  # stored transitions at the first update
            "updates_per_step": 1,  # UTD ratio
            "balanced_sampling": False,  # half of a minibatch from what was played; acts at random until start_training
            "kl_budget": None,  # None: as offline
            "save_interval": 10_000,  # environment steps; a save ends the episodes, so it is part of the result
        },
        "eval": {"interval": 50_000, "episodes": 50, "video_episodes": 0, "workers": 0},  # workers 0: one per core
        "run": {
            "out_dir": "runs",
            "group": "default",
            "part": "",  # ends the folder's name: runs that split the seeds or tasks of one between them
            "mirrors": (),  # tensorboard, wandb
            "resume": "auto",  # go on with an interrupted run; must: and fail if there is none; never: start over
        },
    }


def resolve(
    *,
    agent: str,
    env: str,
    protocol: str = "trqam",
    tasks: str | None = None,
    seeds: list[str] | None = None,
    num_seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> ConfigDict:
    """The locked configuration. settings: typed values by flat key; overrides: texts of --config.key=text."""
    if agent not in agents.AGENTS:
        raise UserError(f"Unknown agent {agent!r}.{suggest(agent, agents.AGENTS)}")
    domain, task = envs.parse_env(env)
    config = ConfigDict({**base(), "agent": agents.default_config(agent)})
    config.agent_name, config.env, config.protocol = agent, domain.name, envs.get_protocol(protocol).name
    config.tasks = _tasks(domain, env, task, tasks)
    config.run.seeds = _seeds(envs.get_protocol(protocol), seeds, num_seeds)
    for key, value in envs.settings(domain, protocol, agent).items():
        _set(config, key, value)
    for key, value in (settings or {}).items():
        _set(config, key, value)
    for key, text in (overrides or {}).items():
        if key in _BY_FLAG:
            raise UserError(f"--config.{key}: use {_BY_FLAG[key]}, so that what depends on it follows")
        # Where a text is expected, the text is the value: a group may be called 5.
        is_text = isinstance(flatten(config).get(key), str)
        _set(config, key, text if is_text else () if not text else _parse(text))
    _check(config)
    return config.lock()


def _tasks(domain: envs.Domain, env: str, task: int, tasks: str | None) -> tuple[int, ...]:
    if tasks is None:
        return (task,)
    if "-task" in env:
        raise UserError(f"--tasks={tasks} and --env={env} both name tasks; name the domain alone: --env={domain.name}")
    if tasks == "all":
        return tuple(range(1, domain.num_tasks + 1))
    try:
        result = tuple(int(part) for part in tasks.split(","))
    except ValueError:
        raise UserError(f"--tasks={tasks}: expected numbers like 1,3 or the word all") from None
    for number in result:
        envs.check_task(domain, number)
    return _distinct("--tasks", result)


def _seeds(protocol: envs.Protocol, seeds: list[str] | None, num_seeds: int | None) -> tuple[int, ...]:
    if seeds and num_seeds is not None:
        raise UserError("--seeds and --num_seeds both given; use one of them")
    if seeds:
        if not all(text.isdecimal() and int(text) < 2**32 for text in seeds):
            raise UserError(f"--seeds={','.join(seeds)}: expected numbers from 0 to 2^32 - 1")
        return _distinct("--seeds", tuple(int(text) for text in seeds))
    count = 1 if num_seeds is None else num_seeds
    if not 1 <= count <= len(protocol.seeds):
        raise UserError(
            f"--num_seeds={count}: protocol {protocol.name!r} has {len(protocol.seeds)}; name others by --seeds"
        )
    return protocol.seeds[:count]


def _distinct(flag: str, values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise UserError(f"{flag}={','.join(map(str, values))}: one is named twice")
    return values


def _parse(text: str) -> Any:
    """A Python literal, true or false, or the text itself."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


_OPTIONAL = ("agent.clip_norm", "online.kl_budget")  # floats that may be None
#: Numbers that may have several values, each for replicas of its own: they are part of an agent's state.
REPLICA_AXES = ("agent.kl_budget",)


def _set(config: ConfigDict, key: str, value: Any) -> None:
    """config.a.b = value; unknown keys and values of another type are errors."""
    known = flatten(config)
    if key not in known:
        # The whole list would fill a screen: only the section's own keys, or the sections.
        section = key.rpartition(".")[0]
        choices = [k for k in known if k.startswith(section + ".")] or sorted({k.split(".")[0] for k in known})
        raise UserError(f"Unknown setting --config.{key}.{suggest(key, [*choices])}")
    old = known[key]
    if isinstance(old, tuple):
        value = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        fits = not old or all(type(v) is type(old[0]) for v in value)
    elif isinstance(old, bool) or isinstance(value, bool):
        fits = isinstance(old, bool) and isinstance(value, bool)
    elif key in REPLICA_AXES and isinstance(value, tuple):
        fits = len(value) > 0 and all(type(v) in (int, float) for v in value)
        value = tuple(sorted(_distinct(f"--config.{key}", tuple(map(float, value))))) if fits else value
        value = value[0] if len(value) == 1 else value
    elif isinstance(old, float):
        fits = isinstance(value, (int, float)) or (value is None and key in _OPTIONAL)
        value = float(value) if isinstance(value, int) else value
    else:
        fits = isinstance(value, (int, float, type(None))) if old is None else isinstance(value, type(old))
        value = float(value) if old is None and isinstance(value, int) else value
    if not fits:
        raise UserError(f"--config.{key}={value!r}: expected a {type(old).__name__} like {old!r}")
    section, _, name = key.rpartition(".")
    part = config[section] if section else config
    with part.ignore_type():  # what fits is known
        part[name] = value


_LEAST = {
    "bc.steps": 0,
    "bc.seed": 0,
    "data.episodes": 1,
    "data.seed": 0,
    "data.shards": 0,
    "data.shard_cycle": 0,
    "train.batch_size": 1,
    "train.offline_steps": 0,
    "train.log_interval": 1,
    "train.save_interval": 1,
    "train.replicas_per_pass": 0,
    "online.steps": 0,
    "online.start_training": 1,
    "online.updates_per_step": 1,
    "online.kl_budget": 0.0,
    "online.save_interval": 1,
    "eval.interval": 1,
    "eval.episodes": 0,
    "eval.video_episodes": 0,
    "eval.workers": 0,
    "agent.num_critics": 1,
    "agent.flow_steps": 1,
    "agent.best_of_n": 1,
    "agent.num_samples": 1,
    "agent.n_bridge": 1,
    "agent.rho": 0.0,
    "agent.discount": 0.0,
    "agent.tau": 0.0,
    "agent.kl_budget": 0.0,
    "agent.clip_norm": 0.0,
    "agent.learning_rate": 0.0,
}
RESUME = ("auto", "must", "never")
RESIDENT = ("auto", "true", "false")
_MOST = {"agent.discount": 1.0, "agent.tau": 1.0}


def _check(config: ConfigDict) -> None:
    flat = flatten(config)
    for key, value in flat.items():
        low, high = _LEAST.get(key, -math.inf), _MOST.get(key, math.inf)
        numbers = [x for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, (int, float))]
        if not all(low <= x <= high and math.isfinite(x) for x in numbers):
            limits = f"at least {low}" + (f" and at most {high}" if key in _MOST else "")
            raise UserError(f"{key} is {value}, expected a finite number" + (f", {limits}" if key in _LEAST else ""))
    if not config.agent.hidden_dims or min(config.agent.hidden_dims) < 1:
        raise UserError(f"agent.hidden_dims is {config.agent.hidden_dims}, expected positive widths like 512,512")
    if config.online.kl_budget is not None and "kl_budget" not in config.agent:
        raise UserError(f"--kl_budget_online={config.online.kl_budget}: {config.agent_name} has no trust region")
    if config.online.kl_budget is not None and len(budgets(config)) > 1:
        several = ",".join(map(str, budgets(config)))
        raise UserError(f"--kl_budget_online={config.online.kl_budget}: leave it out, the replicas have {several}")
    horizon = envs.DOMAINS[config.env].horizon
    if config.online.balanced_sampling and config.online.start_training < horizon:
        raise UserError(f"--start_training={config.online.start_training}: expected at least a window of {horizon}")
    if config.bc.checkpoint and config.bc.steps:
        raise UserError(f"bc.checkpoint is given, so nothing is cloned: add --bc_steps=0 (it is {config.bc.steps})")
    if config.precision not in PRECISIONS:
        raise UserError(f"Unknown precision {config.precision!r}.{suggest(config.precision, PRECISIONS)}")
    if config.data.resident not in RESIDENT:
        raise UserError(
            f"--config.data.resident={config.data.resident}: unknown.{suggest(config.data.resident, RESIDENT)}"
        )
    if "/" in config.run.group or config.run.group in ("", ".", ".."):
        raise UserError(f"--group={config.run.group!r}: expected a folder's name")
    if "/" in config.run.part:
        raise UserError(f"run.part is {config.run.part!r}, expected a piece of a folder's name, without a slash")
    if config.run.resume not in RESUME:
        raise UserError(f"--resume={config.run.resume}: unknown.{suggest(config.run.resume, RESUME)}")
    for name in config.run.mirrors:
        if name not in MIRRORS:
            raise UserError(f"Unknown mirror {name!r}.{suggest(str(name), MIRRORS)}")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"section.key": value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (ConfigDict, dict)):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def as_text(config: ConfigDict) -> str:
    """One line per setting, in the form in which the command line takes it."""
    sources = notes(config)
    lines = []
    for key, value in sorted(flatten(config).items()):
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        lines.append(f"{key} = {text}" + (f"    # {sources[key]}" if key in sources else ""))
    return "\n".join(lines)


def notes(config: ConfigDict) -> dict[str, str]:
    """{setting: where its value is from}, for those whose source a reader must know."""
    domain, agent = envs.DOMAINS[config.env], config.agent_name
    flat, result = flatten(config), {}
    usual = flatten({"agent": agents.default_config(agent)}) | envs.settings(domain, config.protocol, agent)
    for key, source in envs.notes(domain, config.protocol, agent).items():
        result[key] = source if flat[key] == usual[key] else f"set by hand; else {usual[key]}, {source}"
    return result


def budgets(config: ConfigDict) -> tuple[float | None, ...]:
    """The KL budgets that replicas differ in; (None,) if all have the configured one, or none."""
    value = config.agent.get("kl_budget")
    return value if isinstance(value, tuple) else (None,)


def cloning(config: ConfigDict) -> ConfigDict:
    """The configuration of the cloning stage: the same networks and data under agent "bc", whatever method follows."""
    result = config.copy_and_resolve_references().unlock()
    own = agents.default_config("bc")
    for key in ("hidden_dims", "actor_layer_norm", "flow_steps", "learning_rate"):
        own[key] = config.agent[key]
    result.agent, result.agent_name = own, "bc"
    return result.lock()


#: Where something lies is no part of what it is: the fingerprints stand for it.
PLACES = (
    *("data.dataset", "data.dir", "data.episodes", "data.seed", "data.shards", "data.resident"),
    "bc.checkpoint",
)
#: What cloning does not use: rewards, and how its policy acts.
_UNUSED_BY_CLONING = ("data.sparse", "agent.flow_steps", "agent.discount", "protocol")


def found(config: ConfigDict, *, data: str, checkpoint: str) -> ConfigDict:
    """The configuration with the fingerprints of the data and of the given checkpoint ("" without one)."""
    result = config.copy_and_resolve_references().unlock()
    result.data.fingerprint, result.bc.fingerprint = data, checkpoint
    return result.lock()


def changes_results(key: str, *, of_cloning: bool = False) -> bool:
    """Whether the setting of this flat key changes a result at a given step."""
    if key in PLACES or key in (_UNUSED_BY_CLONING if of_cloning else ("online.steps",)):
        return False
    sections = ("agent.", "bc.", "data.") if of_cloning else ("agent.", "bc.", "data.", "online.")
    return key.startswith(sections) or key in ("agent_name", "env", "protocol", "precision", "train.batch_size")


def digest(config: ConfigDict, *, of_cloning: bool = False) -> str:
    """Eight hex digits over what changes a result at a given step: not seeds, tasks, totals, intervals or places.

    of_cloning: over what changes the cloned policy.
    """
    kept = {key: value for key, value in flatten(config).items() if changes_results(key, of_cloning=of_cloning)}
    return sha256_json(kept)[:8]
