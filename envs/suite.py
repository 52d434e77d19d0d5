"""The benchmark as data: domains, tasks, protocols, and every per-domain setting with its source.

Settings are flat {"section.key": value} dicts that `experiments/config.py` lays over the defaults. Sources: the TRQAM
release (arXiv 2605.27079), the QAM release (arXiv 2601.14234), OGBench 1.2.2.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from trqam_jax.errors import UserError, suggest

LARGE = (1024, 1024, 1024, 1024)
MEDIUM = (512, 512, 512, 512)
SMALL = (128, 128, 128)


class Domain(NamedTuple):
    """An environment with five tasks that share observations, actions and episode ends."""

    name: str
    short: str
    dataset: str  # OGBench's name of the data: "navigate" or "play"
    observation_dim: int
    action_dim: int
    episode_limit: int  # environment steps
    horizon: int  # chunk length H
    default_task: int
    benchmark: bool = True  # one of the ten of the papers' tables; the others serve tests and demos
    num_tasks: int = 5

    @property
    def dataset_name(self) -> str:
        """For example puzzle-4x4-play-v0."""
        return f"{self.name}-{self.dataset}-v0"

    def task_name(self, task: int) -> str:
        """OGBench's full name, for example puzzle-4x4-play-singletask-task4-v0."""
        return f"{self.name}-{self.dataset}-singletask-task{task}-v0"

    def env_id(self, task: int) -> str:
        """gymnasium's id, which does not name the data: puzzle-4x4-singletask-task4-v0."""
        return f"{self.name}-singletask-task{task}-v0"


_DOMAINS = (
    Domain("antmaze-large", "al", "navigate", 29, 8, 1000, 1, 1),
    Domain("antmaze-giant", "ag", "navigate", 29, 8, 1000, 1, 1),
    Domain("humanoidmaze-medium", "hm", "navigate", 69, 21, 2000, 1, 1),
    Domain("humanoidmaze-large", "hl", "navigate", 69, 21, 2000, 1, 1),
    Domain("scene", "scene", "play", 40, 5, 750, 5, 2),
    Domain("puzzle-3x3", "p33", "play", 55, 5, 500, 5, 4),
    Domain("puzzle-4x4", "p44", "play", 83, 5, 500, 5, 4),
    Domain("cube-double", "c2", "play", 37, 5, 500, 5, 2),
    Domain("cube-triple", "c3", "play", 46, 5, 1000, 5, 2),
    Domain("cube-quadruple", "c4", "play", 55, 5, 1000, 5, 2),
    Domain("cube-single", "c1", "play", 28, 5, 200, 5, 2, benchmark=False),
    Domain("pointmaze-medium", "pm", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
    Domain("pointmaze-large", "pl", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
    Domain("pointmaze-giant", "pg", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
    Domain("pointmaze-teleport", "pt", "navigate", 2, 2, 1000, 1, 1, benchmark=False),
)
DOMAINS: Mapping[str, Domain] = {domain.name: domain for domain in _DOMAINS}
BENCHMARK: tuple[Domain, ...] = tuple(domain for domain in _DOMAINS if domain.benchmark)

_SEEDS = tuple(10001 * k for k in range(1, 13))  # 10001, 20002, ..., 120012


class Protocol(NamedTuple):
    """How to train and evaluate. `settings` holds for every domain, `per_domain` for the named ones."""

    name: str
    description: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    per_domain: Mapping[str, Mapping[str, Any]]  # by short name


def _per_domain(**columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{setting: {short: value}}, with __ for the dot -> {short: {setting: value}}."""
    table: dict[str, dict[str, Any]] = {}
    for setting, by_domain in columns.items():
        for short, value in by_domain.items():
            table.setdefault(short, {})[setting.replace("__", ".")] = value
    return table


PROTOCOLS: Mapping[str, Protocol] = {
    "trqam": Protocol(
        "trqam",
        "the TRQAM paper's: cloning 300K, offline 1M updates, rewards as OGBench gives them, 8 seeds",
        _SEEDS[:8],
        {
            "agent.discount": 0.995,
            "agent.rho": 0.5,
            "agent.hidden_dims": MEDIUM,
            "bc.steps": 300_000,
            "train.offline_steps": 1_000_000,
            "eval.interval": 50_000,
            "eval.episodes": 50,
        },
        _per_domain(
            agent__discount={"hm": 0.999, "hl": 0.999},
            agent__rho={"hm": 0.0, "hl": 0.0},
            agent__hidden_dims=dict.fromkeys(("ag", "p44", "c3", "c4"), LARGE),
            agent__actor_layer_norm=dict.fromkeys(("ag", "p44", "c3", "c4"), True),
            # Shards of the 100M release, in sorted order; 0 is the plain file.
            data__shards={"ag": 10, "p44": 10, "c3": 10, "c4": 100},
        ),
    ),
    "qam": Protocol(
        "qam",
        "the QAM paper's: no cloning, all networks 512 x 4, sparse rewards on scene and the puzzles, 12 seeds",
        _SEEDS,
        {
            "agent.discount": 0.99,
            "agent.rho": 0.5,
            "agent.hidden_dims": MEDIUM,
            "agent.actor_layer_norm": False,
            "bc.steps": 0,
            "train.offline_steps": 1_000_000,
            "eval.interval": 50_000,
            "eval.episodes": 50,
        },
        _per_domain(
            agent__discount={"ag": 0.995, "hm": 0.995, "hl": 0.995},
            agent__rho={"hm": 0.0, "hl": 0.0},
            data__sparse=dict.fromkeys(("scene", "p33", "p44"), True),
            data__shards={"p44": 100, "c4": 100},
        ),
    ),
    "quick": Protocol(
        "quick",
        "small networks and budgets for a laptop or CI; its numbers are not comparable with any paper's",
        _SEEDS,
        {
            "agent.discount": 0.99,
            "agent.rho": 0.5,
            "agent.hidden_dims": SMALL,
            "agent.num_critics": 2,
            "agent.learning_rate": 1e-3,
            "bc.steps": 5_000,
            "train.offline_steps": 10_000,
            "train.log_interval": 500,
            "eval.interval": 5_000,
            "eval.episodes": 20,
        },
        {},
    ),
}

#: Path-KL budgets that a public source states, with the source. Every other domain's is unknown: the default stands.
KL_BUDGETS: Mapping[str, tuple[float, str]] = {
    "c3": (0.5, "TRQAM paper"),
    "hm": (0.5, "third-party rerun"),
}
UNKNOWN_BUDGET = "the released code's default, not the paper's value, which no public source states"


def parse_env(name: str) -> tuple[Domain, int]:
    """The domain and task of puzzle-4x4 (default task), puzzle-4x4-task2 or puzzle-4x4-play-singletask-task2-v0."""
    match = re.fullmatch(r"(?P<domain>.+?)(-(?P<data>navigate|play))?(-singletask)?(-task(?P<task>\d+))?(-v0)?", name)
    domain = DOMAINS.get(match["domain"]) if match else None
    if domain is None:
        raise UserError(f"Unknown environment {name!r}.{suggest(match['domain'] if match else name, DOMAINS)}")
    if match["data"] not in (None, domain.dataset):
        raise UserError(f"Environment {name!r}: {domain.name} has {domain.dataset!r} data, not {match['data']!r}.")
    task = int(match["task"] or domain.default_task)
    check_task(domain, task)
    return domain, task


def check_task(domain: Domain, task: int) -> None:
    """UserError unless the domain has the task."""
    if not 1 <= task <= domain.num_tasks:
        raise UserError(f"{domain.name} has no task {task}: its tasks are 1 to {domain.num_tasks}.")


def protocol(name: str) -> Protocol:
    """The protocol of that name, or a UserError that lists them."""
    if name not in PROTOCOLS:
        raise UserError(f"Unknown protocol {name!r}.{suggest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def settings(domain: Domain, protocol_name: str, agent: str) -> dict[str, Any]:
    """Flat settings of an agent on a domain under a protocol."""
    chosen = protocol(protocol_name)
    result = {**chosen.settings, **chosen.per_domain.get(domain.short, {})}
    if agent == "trqam" and domain.short in KL_BUDGETS:
        result["agent.kl_budget"] = KL_BUDGETS[domain.short][0]
    return result


def notes(domain: Domain, agent: str) -> dict[str, str]:
    """{setting: where its value is from}, for the settings whose source a reader must know."""
    if agent != "trqam":
        return {}
    return {"agent.kl_budget": KL_BUDGETS[domain.short][1] if domain.short in KL_BUDGETS else UNKNOWN_BUDGET}
