"""The configuration of a run: base -> agent -> domain and protocol -> command line, then locked."""

import ast
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

import agents
from envs import suite
from envs.ogbench import DEFAULT_DATASET_DIR
from trqam_jax import checkpoint
from trqam_jax.errors import UserError, suggest

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
    "eval_interval": "eval.interval",
    "eval_episodes": "eval.episodes",
    "video_episodes": "eval.video_episodes",
}


def base() -> dict[str, dict[str, Any]]:
    """Defaults of every section but the agent's."""
    return {
        "bc": {
            "steps": 300_000,
            "checkpoint": "",  # of an earlier cloning, to be used instead of one's own
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
        },
        "train": {"batch_size": 256, "offline_steps": 1_000_000, "log_interval": 5_000},
        "eval": {"interval": 50_000, "episodes": 50, "video_episodes": 0, "workers": 0},  # workers 0: one per core
        "run": {"out_dir": "runs", "group": "default", "mirrors": ()},  # mirrors: tensorboard, wandb
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
    domain, task = suite.parse_env(env)
    config = ConfigDict({**base(), "agent": agents.default_config(agent)})
    config.agent_name, config.env, config.protocol = agent, domain.name, suite.protocol(protocol).name
    config.tasks = _tasks(domain, env, task, tasks)
    config.run.seeds = _seeds(suite.protocol(protocol), seeds, num_seeds)
    for key, value in suite.settings(domain, protocol, agent).items():
        _set(config, key, value)
    for key, value in (settings or {}).items():
        _set(config, key, value)
    for key, text in (overrides or {}).items():
        _set(config, key, _parse(text))
    _check(config)
    return config.lock()


def _tasks(domain: suite.Domain, env: str, task: int, tasks: str | None) -> tuple[int, ...]:
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
        suite.check_task(domain, number)
    return _distinct("--tasks", result)


def _seeds(protocol: suite.Protocol, seeds: list[str] | None, num_seeds: int | None) -> tuple[int, ...]:
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
    elif isinstance(old, float):
        fits = isinstance(value, (int, float)) or (value is None and key == "agent.clip_norm")
        value = float(value) if isinstance(value, int) else value
    else:
        fits = old is None or isinstance(value, type(old))
    if not fits:
        raise UserError(f"--config.{key}={value!r}: expected a {type(old).__name__} like {old!r}")
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value


def _check(config: ConfigDict) -> None:
    smallest = {
        "bc.steps": 0,
        "data.episodes": 1,
        "train.batch_size": 1,
        "train.offline_steps": 0,
        "train.log_interval": 1,
        "eval.interval": 1,
        "eval.episodes": 0,
        "eval.video_episodes": 0,
    }
    flat = flatten(config)
    for key, low in smallest.items():
        if flat[key] < low:
            raise UserError(f"{key} is {flat[key]}, expected at least {low}")
    if config.bc.checkpoint and config.bc.steps:
        raise UserError(f"bc.checkpoint is given, so nothing is cloned: add --bc_steps=0 (it is {config.bc.steps})")
    if "/" in config.run.group or config.run.group in ("", ".", ".."):
        raise UserError(f"--group={config.run.group!r}: expected a folder's name")
    for name in config.run.mirrors:
        if name not in ("tensorboard", "wandb"):
            raise UserError(f"Unknown mirror {name!r}.{suggest(name, ('tensorboard', 'wandb'))}")


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
    notes = suite.notes(suite.DOMAINS[config.env], config.protocol, config.agent_name)
    lines = []
    for key, value in sorted(flatten(config).items()):
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        lines.append(f"{key} = {text}" + (f"    # {notes[key]}" if key in notes else ""))
    return "\n".join(lines)


def cloning(config: ConfigDict) -> ConfigDict:
    """The configuration of the cloning stage: the same networks and data under agent "bc", whatever method follows."""
    result = config.copy_and_resolve_references().unlock()
    own = agents.default_config("bc")
    for key in ("discount", "hidden_dims", "actor_layer_norm", "flow_steps", "learning_rate"):
        own[key] = config.agent[key]
    result.agent, result.agent_name = own, "bc"
    return result.lock()


def digest(config: ConfigDict) -> str:
    """Eight hex digits over what changes a result at a given step: not seeds, tasks, totals, intervals or places."""
    flat = flatten(config)
    kept = {
        key: value
        for key, value in flat.items()
        if key.startswith(("agent.", "bc.", "data.")) or key in ("agent_name", "env", "protocol", "train.batch_size")
    }
    del kept["data.dir"]
    kept["data.dataset"] = pathlib.Path(config.data.dataset).name  # a moved file is the same file
    if config.bc.checkpoint:
        kept["bc.checkpoint"] = checkpoint.read_meta(pathlib.Path(config.bc.checkpoint).expanduser())["fingerprint"]
    if config.data.dataset != "generate":
        del kept["data.episodes"], kept["data.seed"]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
