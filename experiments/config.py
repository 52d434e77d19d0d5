"""The configuration of a run: declared defaults -> protocol and domain -> command line, then locked."""

import functools
import itertools
import os
import pathlib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

import agents
import envs
from experiments import settings as declarations
from experiments.row_format import flatten
from trqam_jax.errors import UserError, suggest
from trqam_jax.files import sha256_json
from trqam_jax.settings import Effect, Setting, check, parse, value_type

#: Keys that settings derive from, with the flag that sets them.
_BY_FLAG = {
    "agent_name": "--agent",
    "env": "--env",
    "protocol": "--protocol",
    "tasks": "--tasks",
    "run.seeds": "--seeds or --num_seeds",
    **dict.fromkeys(("data.fingerprint", "bc.fingerprint"), "the path of what it is taken from"),
}


def online_settings() -> dict[str, Setting]:
    """The settings of agents that may have another value in the online phase, under "online."; None: as offline."""
    found = {}
    for name in agents.AGENTS:
        for key, setting in agents.settings(name).items():
            if setting.online:
                found[f"online.{key}"] = setting._replace(
                    default=None,
                    type=value_type(setting),
                    optional=True,
                    help=f"{key} of the online phase; none: as offline.",
                    flag=f"{key}_online",
                )
    return found


def declared(agent: str) -> dict[str, Setting]:
    """Every setting of a run of the agent, by flat key."""
    own = {f"agent.{key}": setting for key, setting in agents.settings(agent).items()}
    return {**declarations.flat(), **online_settings(), **own}


def flags() -> dict[str, str]:
    """{flag: the flat key that it sets}."""
    known = {**declarations.flat(), **online_settings()}
    return {setting.flag: key for key, setting in known.items() if setting.flag}


def default(agent: str) -> ConfigDict:
    """The configuration that nothing was set in, yet."""
    config = ConfigDict({section: {} for section in declarations.SECTIONS if section} | {"agent": {}})
    for key, setting in declared(agent).items():
        _assign(config, key, setting.default)
    return config


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
    domain, task = envs.split_env(env)
    config, known = default(agent), declared(agent)
    config.agent_name, config.env, config.protocol = agent, domain.name, envs.get_protocol(protocol).name
    config.tasks = _tasks(domain, env, task, tasks)
    config.run.seeds = _seeds(envs.get_protocol(protocol), seeds, num_seeds)
    layers = (usual(domain, protocol, agent), settings or {})
    for key, value in itertools.chain.from_iterable(layer.items() for layer in layers):
        _assign(config, key, check(_find(known, key), _shown(key), value))
    for key, text in (overrides or {}).items():
        if key in _BY_FLAG:
            _check_same(config, key, text)
            continue
        _assign(config, key, parse(_find(known, key), _shown(key), text))
    if not starts_from_bc(agent):
        config.bc.steps, config.bc.checkpoint = 0, ""
    _check_together(config)
    return config.lock()


def _check_same(config: ConfigDict, key: str, text: str) -> None:
    """UserError unless it is what the setting is already: a printed line may be given again."""
    if text != _text(flatten(config).get(key, "")):
        raise UserError(f"--config.{key}={text}: use {_BY_FLAG[key]}, so that what depends on it follows")


def reads(agent: str, key: str) -> bool:
    """Whether the agent reads the setting of this flat key. It may have one that it does not: all share some."""
    section, _, name = key.partition(".")
    return section != "agent" or name not in agents.AGENTS[agent].ignores


def usual(domain: envs.Domain, protocol: str, agent: str) -> dict[str, Any]:
    """{flat key: value} of the agent on the domain under the protocol, before the command line's."""
    return envs.settings(domain, protocol, agent, online_only=agents.AGENTS[agent].online_only)


def usual_offline_steps(agent: str, protocol: str) -> int:
    """Of a method that is trained online alone: the offline updates of the protocol's other methods. Else 0."""
    online_only = agent in agents.AGENTS and agents.AGENTS[agent].online_only
    return envs.get_protocol(protocol).settings["train.offline_steps"] if online_only else 0


def starts_from_bc(agent: str) -> bool:
    """Whether the agent has a flow that can start from the BC policy's."""
    return bool(agents.AGENTS[agent].pretrained_networks)


def _find(known: Mapping[str, Setting], key: str) -> Setting:
    if key in known:
        return known[key]
    # The whole list would fill a screen: only the section's own keys, or the sections.
    section = key.rpartition(".")[0]
    choices = [k for k in known if k.startswith(section + ".")] or sorted({k.split(".")[0] for k in known})
    raise UserError(f"Unknown setting --config.{key}.{suggest(key, choices)}")


def _shown(key: str) -> str:
    """How an error names the setting."""
    flag = next((flag for flag, own in flags().items() if own == key), None)
    return f"--{flag} ({key})" if flag else f"--config.{key}"


def _assign(config: ConfigDict, key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    part = config[section] if section else config
    with part.ignore_type():  # the declaration has checked it
        part[name] = value


def _tasks(domain: envs.Domain, env: str, task: int | None, tasks: str | None) -> tuple[int, ...]:
    if tasks is None:
        return (domain.default_task if task is None else task,)
    if task is not None:
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
    if seeds is not None and num_seeds is not None:
        raise UserError("--seeds and --num_seeds both given; use one of them")
    if seeds == []:
        raise UserError("--seeds is empty, expected numbers like 1,2,3; without the flag it is the protocol's first")
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


def _check_together(config: ConfigDict) -> None:
    """What no single declaration can say."""
    for key, value in online_values(config).items():
        if key not in config.agent:
            raise UserError(f"--{key}_online={value}: {config.agent_name} has no setting {key}")
        if isinstance(config.agent[key], tuple):
            several = ",".join(map(str, config.agent[key]))
            raise UserError(f"--{key}_online={value}: leave it out, the replicas have {several}")
        if isinstance(value, tuple):
            raise UserError(f"--{key}_online={','.join(map(str, value))}: expected one value")
    for key, values in swept(config).items():
        name, several = key.removeprefix("agent."), ",".join(map(str, values))
        if config.agent_name == "bc":
            raise UserError(f"--config.{key}={several}: expected one value, the BC policy is the same for all")
        if declared(config.agent_name)[key].zero_is_static and 0 in values:
            raise UserError(f"--config.{key}={several}: 0 leaves out a network; sweep.py gives it a run of its own")
        if name in agents.BC.INHERITS and config.bc.steps:
            raise UserError(
                f"--config.{key}={several}: behaviour cloning uses it too, and all replicas share it; sweep.py makes "
                "a run of every value, or start from a policy by --bc_checkpoint=... --bc_steps=0"
            )
    if 0 < config.online.steps < config.online.start_training:
        raise UserError(
            f"--online_steps={config.online.steps} --start_training={config.online.start_training}: no update would "
            "ever be made; expected at least as many steps as there are transitions at the first update"
        )
    horizon = envs.DOMAINS[config.env].horizon
    if config.online.balanced_sampling and config.online.start_training < horizon:
        raise UserError(f"--start_training={config.online.start_training}: expected at least a window of {horizon}")
    if config.bc.checkpoint and config.bc.steps:
        raise UserError(
            f"bc.checkpoint is given, so no BC policy is trained: add --bc_steps=0 (it is {config.bc.steps})"
        )
    if "/" in config.run.group or config.run.group in ("", ".", ".."):
        raise UserError(f"--group={config.run.group!r}: expected a folder's name")
    if "/" in config.run.part:
        raise UserError(f"run.part is {config.run.part!r}, expected a piece of a folder's name, without a slash")


def check_stored(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    """UserError unless what a run's config.json holds is what all that read it take for granted."""
    flat = flatten(config)
    is_text = lambda value: isinstance(value, str)
    is_number = lambda value: type(value) is int and 0 <= value < 2**53
    are_numbers = lambda value: isinstance(value, list | tuple) and all(map(is_number, value))
    kinds = {
        **dict.fromkeys(("agent_name", "env", "protocol"), (is_text, "a text")),
        **dict.fromkeys(("tasks", "run.seeds"), (are_numbers, "a list of whole numbers")),
        "train.offline_steps": (is_number, "a whole number"),
    }
    for key, (is_right, what) in kinds.items():
        if not is_right(flat.get(key)):
            raise UserError(f"{path}: damaged, {key} is {flat.get(key)!r:.80}, expected {what}")


def as_text(config: ConfigDict) -> str:
    """One line per setting: KEY = VALUE, where a shell takes --config.KEY=VALUE."""
    sources = notes(config)
    lines = []
    for key, value in sorted(flatten(config).items()):
        line = f"{key} = {quoted(_text(value))}"
        lines.append(line + (f"    # {sources[key]}" if key in sources else ""))
    return "\n".join(lines)


def _text(value: Any) -> str:
    """As the command line takes it, once the shell has read it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def quoted(text: str) -> str:
    """In one line, as bash and zsh take it behind a `=`: plain where that will do."""
    if not text:
        return ""
    if text.isprintable():
        return shlex.quote(text)
    plain = lambda byte: 32 <= byte < 127 and chr(byte) not in "\\'"
    return "$'" + "".join(chr(byte) if plain(byte) else f"\\x{byte:02x}" for byte in os.fsencode(text)) + "'"


def notes(config: ConfigDict) -> dict[str, str]:
    """{setting: where its value is from}, for those whose source a reader must know."""
    domain, agent = envs.DOMAINS[config.env], config.agent_name
    flat, result = flatten(config), {}
    before = flatten({"agent": agents.default_config(agent)}) | usual(domain, config.protocol, agent)
    for key, source in envs.notes(domain, config.protocol, agent).items():
        result[key] = source if flat[key] == before[key] else f"set by hand; else {before[key]}, {source}"
    if not starts_from_bc(agent):
        result["bc.steps"] = f"{agent} has no flow that could start from a BC policy: all its networks start fresh"
    return result


def leaves(agent: str) -> dict[str, Setting]:
    """The settings, by flat key, in which the replicas of one process can differ: the agent's numbers."""
    own = agents.settings(agent) if agent in agents.AGENTS else {}
    return {f"agent.{key}": setting for key, setting in own.items() if value_type(setting) is float}


def swept(config: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """{flat key: values} of the settings in which the replicas of one run differ; config: resolved, or as stored."""
    flat = flatten(config)
    numbers = sorted(leaves(flat["agent_name"]))
    return {key: tuple(flat[key]) for key in numbers if isinstance(flat.get(key), (tuple, list))}


def variants(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """Of every combination of the swept settings' values one {flat key: value}; [{}] where nothing is swept."""
    axes = swept(config)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def online_values(config: ConfigDict) -> dict[str, Any]:
    """{setting of the agent: its value in the online phase}, where that is another one."""
    keys = [key.removeprefix("online.") for key in online_settings()]
    return {key: config.online[key] for key in keys if config.online[key] is not None}


def with_fingerprints(config: ConfigDict, *, data: str, checkpoint: str) -> ConfigDict:
    """The configuration with the fingerprints of the data and of the given checkpoint ("" without one)."""
    result = config.copy_and_resolve_references().unlock()
    result.data.fingerprint, result.bc.fingerprint = data, checkpoint
    return result.lock()


@functools.cache
def effect(key: str) -> Effect:
    """What another value of the setting of this flat key changes; of one that is not declared, the results."""
    if key in ("tasks", "run.seeds"):
        return Effect.ROWS
    known = declarations.flat()
    return known[key].effect if key in known else Effect.RESULT


def changes_results(key: str) -> bool:
    """Whether the setting of this flat key changes a result at a given step."""
    return effect(key) is Effect.RESULT


def digest(config: ConfigDict, keys: Iterable[str]) -> str:
    """Eight hex digits over the settings of these flat keys.

    One that a later version added does not enter at its default: folders of earlier versions stay valid. For a value
    that computed something else in an earlier version another name enters, so that they are not.
    """
    known, flat = declared(config.agent_name), flatten(config)
    later = {key for key, setting in known.items() if setting.since and flat[key] == setting.default}
    kept = {key: _digested(known.get(key), flat[key]) for key in keys if key not in later}
    return sha256_json(kept)[:8]


def _digested(setting: Setting | None, value: Any) -> Any:
    """What stands for a setting's value in the digest."""
    if setting is None or not setting.digested:
        return value
    return setting.digested.get(value, value)
