"""Pairs of methods under the same seeds, compared as compare.py does, over all domains, by domain and by task."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.analysis.compare import comparison
from experiments.analysis.rows import groups
from experiments.row_format import NO_TASK, OK

Place = tuple[str, int]  # a domain and one of its tasks
Final = Mapping[Place, Mapping[int, float]]  # {place: {seed: success, a fraction}} of a method


def finals(counted: pd.DataFrame) -> dict[str, dict[Place, dict[int, float]]]:
    """{method: what its replicas ended with}, of those that have not diverged. counted: as `cells.values` has it."""
    kept = counted[(counted.status == OK) & (counted.task != NO_TASK)]
    result: dict[str, dict[Place, dict[int, float]]] = {}
    for (method, env, task), own in groups(kept, ["method", "env", "task"], sort=True):
        result.setdefault(method, {})[env, task] = dict(zip(own.seed.tolist(), own.success.tolist(), strict=True))
    return result


def compared(finals: Mapping[str, Final], ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row per pair of methods and scope in which both have a seed. ids: of the methods on the page."""
    rows = []
    for first, second in itertools.combinations(finals, 2):
        for env, task, places in _scopes(finals[first], finals[second]):
            row = _compare([_by_seed(finals[name], places) for name in (first, second)])
            if row is not None:
                rows.append({"first": ids[first], "second": ids[second], "env": env, "task": task, **row})
    return rows


def _scopes(first: Final, second: Final) -> Iterator[tuple[str | None, int | None, list[Place]]]:
    """Domain, task and the places of each scope that both have."""
    shared = [place for place in first if place in second]
    domains = list(dict.fromkeys(env for env, _ in shared))
    if len(domains) > 1:
        yield None, None, shared
    for env in domains:
        own = [place for place in shared if place[0] == env]
        yield env, None, own
        yield from ((env, task, [(env, task)]) for _, task in own if len(own) > 1)


def _by_seed(final: Final, places: Sequence[Place]) -> dict[int, float]:
    """{seed: mean over the places}, of the seeds that have all of them."""
    seeds = set.intersection(*(set(final[place]) for place in places))
    return {seed: sum(final[place][seed] for place in places) / len(places) for seed in sorted(seeds)}


def _compare(both: Sequence[dict[int, float]]) -> dict[str, Any] | None:
    first, second = both
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    ours, theirs = comparison({"first": {s: first[s] for s in seeds}, "second": {s: second[s] for s in seeds}})
    return {
        "means": [ours["mean"], theirs["mean"]],
        "difference": theirs["difference"],
        "interval": [theirs["low"], theirs["high"]] if theirs["low"] else None,
        "better": theirs["p_improvement"],
        "seeds": seeds,
        "left_out": sorted(first.keys() ^ second.keys()),
    }
