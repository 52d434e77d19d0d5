"""How a sweep is divided into jobs: by values of settings, and so that none has more replicas than it may."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import agents
from experiments import config as configuration
from trqam_jax.errors import UserError
from trqam_jax.settings import Setting, check, parse, value_type

Texts = dict[str, str]  # {flat key: text}, as of --config.key=text


class Part(NamedTuple):
    """The tasks and seeds of one job, and its name; that of a whole is empty."""

    name: str
    tasks: Sequence[int]
    seeds: Sequence[int]


def by_value(overrides: Mapping[str, str], agent: str, most: int | None) -> Iterator[Texts]:
    """For each job the values, as texts, of the settings that are given several: a product over these settings.

    Numbers in which the replicas of a process can differ stay together in one job, as far as it may hold `most`
    replicas; every value of another setting is a job.
    """
    known = configuration.declared(agent)
    several = {key: text for key, text in overrides.items() if key in known and _is_several(known[key], text)}
    together = sorted(key for key in several if _is_replicas(agent, key))
    values = {key: _listed(text) for key, text in several.items() if key not in together}
    groups = {key: _groups(known[key], key, several[key]) for key in together}
    for key, pieces in _cut_groups(groups, most).items():
        values[key] = [",".join(map(str, piece)) for piece in pieces]
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def _is_several(setting: Setting, text: str) -> bool:
    """Whether the text is several values: in a tuple or a text a comma belongs to the value."""
    return value_type(setting) not in (tuple, str) and len(_listed(text)) > 1


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.strip("()[] ,").split(",")]


def _is_replicas(agent: str, key: str) -> bool:
    """Whether several values can be replicas of a job. They share a BC policy, so nothing that it uses can differ."""
    return key in configuration.leaves(agent) and key.removeprefix("agent.") not in agents.BC.INHERITS


def _groups(setting: Setting, key: str, text: str) -> list[tuple[Any, ...]]:
    """The values that can stand in one process, sorted. One that leaves a part of the agent out stands alone."""
    name = f"--config.{key}"
    values = [parse(setting, name, part) for part in _listed(text)]
    alone = [value for value in values if value is None or (value == 0 and setting.zero_is_static)]
    numbers = [value for value in values if value not in alone]
    if not numbers:
        return [(value,) for value in alone]
    checked = check(setting, name, numbers)
    return [*((value,) for value in alone), checked if isinstance(checked, tuple) else (checked,)]


def _cut_groups(groups: dict[str, list[tuple[Any, ...]]], most: int | None) -> dict[str, list[Sequence[Any]]]:
    """Pieces of the groups; one of each setting make a product of at most `most` replicas. The last is cut last."""
    room = most
    result: dict[str, list[Sequence[Any]]] = {}
    for key, own in reversed(groups.items()):
        size = max(map(len, own))
        if room is not None:
            size = min(size, room)
            room //= size
        result[key] = [piece for group in own for piece in _cut(group, size)]
    return {key: result[key] for key in groups}


def by_replica(config: ConfigDict, most: int | None) -> Iterator[Part]:
    """Parts of the run with at most `most` replicas each: first its seeds are split, then its tasks."""
    tasks, seeds, each = config.tasks, config.run.seeds, len(configuration.variants(config))
    if most is None or len(tasks) * len(seeds) * each <= most:
        yield Part("", tasks, seeds)
        return
    if config.bc.per_seed:
        raise UserError(
            f"--max_replicas={most}: with bc.per_seed=true one job trains the BC policies of all seeds; leave it out"
        )
    for some_seeds in _cut(seeds, max(1, most // (len(tasks) * each))):
        for some_tasks in _cut(tasks, most // each):
            names = [_span("tasks", some_tasks)] if len(some_tasks) < len(tasks) else []
            names.append(_span("seeds", some_seeds))
            yield Part("-".join(names), some_tasks, some_seeds)


def _cut(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _span(what: str, values: Sequence[int]) -> str:
    """seeds-1-4, or seeds-1."""
    ends = dict.fromkeys((values[0], values[-1]))
    return "-".join(map(str, (what, *ends)))
