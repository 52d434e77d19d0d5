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

_ORDER = ("p33", "scene", "c2", "al", "hm", "c3", "c4", "p44", "ag", "hl")

#: Per-domain settings of the baselines, {agent: {setting: values in the order above}}, from the QAM paper's release.
_QAM_RELEASE: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "qam": {"inv_temp": (3, 1, 1, 10, 3, 3, 1, 30, 3, 3)},
    "qam_edit": {
        "inv_temp": (1, 1, 1, 1, 3, 3, 3, 0.1, 10, 3),
        "edit_scale": (0.1, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1),
    },
    "qam_fql": {"inv_temp": (3, 1, 1, 3, 1, 10, 0.3, 3, 3, 0.3), "fql_alpha": (0, 300, 0, 30, 30, 300, 30, 3, 30, 30)},
    "fql": {"alpha": (300, 300, 300, 3, 30, 30, 100, 1, 3, 30)},
    "dsrl": {"noise_scale": (1, 0.4, 1, 0.8, 0.6, 1.4, 1.4, 1, 1.2, 0.8)},
    "ifql": {"kappa": (0.95, 0.9, 0.9, 0.9, 0.7, 0.95, 0.95, 0.9, 0.8, 0.8)},
    "cgql": {"guidance_coef": (0.1, 0.1, 0.01, 0.1, 0.01, 0.1, 0.1, 0.1, 0.1, 0.01)},
    "cgql_mse": {
        "guidance_coef": (0.1, 0.1, 0.01, 0.1, 0.1, 0.1, 0.01, 1, 0.1, 0.1),
        "noisy_coef": (0.1, 0.1, 0.001, 0.1, 0.1, 0.001, 0.1, 0.001, 0.001, 0.1),
    },
    "cgql_linex": {
        "guidance_coef": (0.1, 0.1, 0.01, 0.1, 0.1, 0.1, 0.01, 1, 0.1, 0.1),
        "noisy_coef": (0.001, 0.1, 0.001, 0.001, 0.1, 0.001, 0.1, 0.001, 0.001, 0.1),
    },
}
QAM_RELEASE = "QAM paper's release"
QAM_RELEASE_FOR_TRQAM = "QAM paper's release; the TRQAM paper's own tuned value is in no public source"

_SQAM = {
    "agent.kl_budget": "published for cube-triple, the released code's default elsewhere",
    "agent.gap_coef": "published for cube-triple, the released code's default elsewhere",
}

#: Agents whose budget is in KL_BUDGETS, or unknown.
_BUDGETED = ("trqam", "trqam_external")


def _agent_settings(domain: Domain, protocol_name: str, agent: str) -> dict[str, tuple[Any, str]]:
    """{setting: (value, source)} that are particular to an agent on a domain."""
    if agent in _BUDGETED and domain.short in KL_BUDGETS:
        return {"agent.kl_budget": KL_BUDGETS[domain.short]}
    if domain.short not in _ORDER:
        return {}
    column = _ORDER.index(domain.short)
    # The TRQAM paper's QAM and QAM-E on cube-triple are known to equal the QAM release's.
    same = protocol_name == "qam" or (domain.short == "c3" and agent in ("qam", "qam_edit"))
    source = QAM_RELEASE if same else QAM_RELEASE_FOR_TRQAM
    return {f"agent.{key}": (float(row[column]), source) for key, row in _QAM_RELEASE.get(agent, {}).items()}


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
    own = {key: value for key, (value, _) in _agent_settings(domain, protocol_name, agent).items()}
    return {**chosen.settings, **chosen.per_domain.get(domain.short, {}), **own}


def notes(domain: Domain, protocol_name: str, agent: str) -> dict[str, str]:
    """{setting: its source}, for the settings whose source a reader must know."""
    unknown = {"agent.kl_budget": UNKNOWN_BUDGET} if agent in _BUDGETED else _SQAM if agent == "sqam" else {}
    return unknown | {key: source for key, (_, source) in _agent_settings(domain, protocol_name, agent).items()}
