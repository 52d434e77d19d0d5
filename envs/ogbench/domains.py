"""OGBench's domains as data (OGBench 1.2.2): names, sizes, limits and default tasks."""

import re
from collections.abc import Mapping

from envs import base
from envs.base import Domain
from trqam_jax.errors import UserError

SUITE_NAME = "ogbench"


def _domain(
    name: str,
    data: str,
    observation_dim: int,
    action_dim: int,
    episode_limit: int,
    horizon: int,
    default_task: int,
    *,
    benchmark: bool = True,
) -> Domain:
    """data: OGBench's name of it, "navigate" or "play"."""
    return Domain(
        suite=SUITE_NAME,
        name=name,
        title=f"{name}-{data}",
        task_title=f"{name}-{data}-singletask-task{{task}}-v0",
        observation_dim=observation_dim,
        action_dim=action_dim,
        episode_limit=episode_limit,
        horizon=horizon,
        default_task=default_task,
        num_tasks=5,
        benchmark=benchmark,
    )


_DOMAINS = (
    _domain("antmaze-large", "navigate", 29, 8, 1000, 1, 1),
    _domain("antmaze-giant", "navigate", 29, 8, 1000, 1, 1),
    _domain("humanoidmaze-medium", "navigate", 69, 21, 2000, 1, 1),
    _domain("humanoidmaze-large", "navigate", 69, 21, 2000, 1, 1),
    _domain("scene", "play", 40, 5, 750, 5, 2),
    _domain("puzzle-3x3", "play", 55, 5, 500, 5, 4),
    _domain("puzzle-4x4", "play", 83, 5, 500, 5, 4),
    _domain("cube-double", "play", 37, 5, 500, 5, 2),
    _domain("cube-triple", "play", 46, 5, 1000, 5, 2),
    _domain("cube-quadruple", "play", 55, 5, 1000, 5, 2),
    _domain("cube-single", "play", 28, 5, 200, 5, 2, benchmark=False),
    _domain("pointmaze-medium", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
    _domain("pointmaze-large", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
    _domain("pointmaze-giant", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
    _domain("pointmaze-teleport", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
)
DOMAINS: Mapping[str, Domain] = {domain.name: domain for domain in _DOMAINS}


def data_kind(domain: Domain) -> str:
    """OGBench's name of the domain's data, "navigate" or "play"."""
    return domain.title.removeprefix(f"{domain.name}-")


def dataset_name(domain: Domain) -> str:
    """For example puzzle-4x4-play-v0."""
    return f"{domain.title}-v0"


def env_id(domain: Domain, task: int) -> str:
    """gymnasium's id, which does not name the data: puzzle-4x4-singletask-task4-v0."""
    return f"{domain.name}-singletask-task{task}-v0"


def split(text: str) -> tuple[str, int | None]:
    """The domain's name and the task in puzzle-4x4, puzzle-4x4-task2 or puzzle-4x4-play-singletask-task2-v0."""
    match = re.fullmatch(r"(?P<name>.+?)(-(?P<data>navigate|play))?(-singletask)?(-task(?P<task>\d+))?(-v0)?", text)
    if match is None:
        return text, None
    domain = DOMAINS.get(match["name"])
    if domain is not None and match["data"] not in (None, data_kind(domain)):
        raise UserError(f"Environment {text!r}: {domain.name} has {data_kind(domain)!r} data, not {match['data']!r}.")
    return match["name"], None if match["task"] is None else int(match["task"])


def parse(text: str) -> tuple[Domain, int]:
    """The domain and task of any name that `split` understands; UserError if there is none."""
    domain, task = base.split_env(text, [(DOMAINS, split)])
    return domain, domain.default_task if task is None else task
