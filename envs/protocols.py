"""How to train and evaluate, for every suite alike; what differs by domain is in the suites' own settings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from trqam_jax.errors import UserError, suggest

MEDIUM = (512, 512, 512, 512)
SMALL = (128, 128, 128)

#: The QAM paper's for RLPD, the TRQAM paper's for nobody: half of every minibatch is prior data, from step 5,000 on.
_ONLINE_ONLY: Mapping[str, Any] = {
    "train.offline_steps": 0,
    "online.steps": 500_000,
    "online.start_training": 5_000,
    "online.balanced_sampling": True,
}
#: Of the protocols that end within minutes on two cores.
_FEW_UPDATES: Mapping[str, Any] = {
    "agent.discount": 0.99,
    "agent.rho": 0.5,
    "agent.hidden_dims": SMALL,
    "agent.num_critics": 2,
    "agent.learning_rate": 1e-3,
    "bc.steps": 5_000,
}
#: Protocols of the size at which the small benchmark tuned methods (docs/small.md), and the source that is then named.
SMALL_SIZES = ("quick", "small")
SMALL_BENCHMARK = "the small benchmark's tuning"
_SEEDS = tuple(10001 * k for k in range(1, 13))  # 10001, 20002, ..., 120012


class Protocol(NamedTuple):
    """How to train and evaluate."""

    name: str
    description: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]  # {"section.key": value}, of every domain unless its suite knows better
    online_only: Mapping[str, Any]  # laid over them for a method that is trained online alone


_PROTOCOLS = (
    Protocol(
        "trqam",
        "the TRQAM paper's: 300K updates of BC, 1M offline updates, rewards as the simulator gives them, 8 seeds",
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
        _ONLINE_ONLY,
    ),
    Protocol(
        "qam",
        "the QAM paper's: no BC, all networks 512 x 4, sparse rewards in some domains, 12 seeds",
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
        _ONLINE_ONLY,
    ),
    Protocol(
        "quick",
        "small networks and budgets for a laptop or CI; its numbers are not comparable with any paper's",
        _SEEDS,
        {
            **_FEW_UPDATES,
            "train.offline_steps": 10_000,
            "train.log_interval": 500,
            "eval.interval": 5_000,
            "eval.episodes": 20,
        },
        {**_ONLINE_ONLY, "online.steps": 10_000, "online.start_training": 1_000},
    ),
    Protocol(
        "small",
        "the small benchmark's (experiments/small.py), for two cores; its numbers are not comparable with any paper's",
        _SEEDS,
        {
            **_FEW_UPDATES,
            "train.batch_size": 128,
            "train.offline_steps": 6_000,
            "train.log_interval": 500,
            "eval.interval": 3_000,
            "eval.episodes": 25,
        },
        {**_ONLINE_ONLY, "online.steps": 6_000, "online.start_training": 1_000},
    ),
)
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _PROTOCOLS}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name, or a UserError that lists them."""
    if name not in PROTOCOLS:
        raise UserError(f"Unknown protocol {name!r}.{suggest(name, PROTOCOLS)}")
    return PROTOCOLS[name]
