"""Robomimic's settings by domain, each with its source, laid over the general settings of `envs/protocols.py`.

The protocol "trqam" already has what TRQAM uses here: discount 0.995, rho 0.5, networks of 512 x 4 without layer norm
in the actors, 300K updates of BC and 1M offline updates. The values below hold under every protocol, but for what the
small benchmark chose for those of its size.
"""

from collections.abc import Mapping
from typing import Any

from envs.base import Domain
from envs.protocols import SMALL_BENCHMARK, SMALL_SIZES
from envs.robomimic.domains import short_name

#: Path-KL budgets that a public source states, with the source.
KL_BUDGETS: Mapping[str, tuple[float, str]] = {
    "lift": (0.1, "TRQAM paper"),
    "can": (0.1, "TRQAM paper"),
    "square": (0.5, "third-party rerun, said to be the authors' advice"),
}
#: What the small benchmark's tuning chose on can, where any value had success.
_SMALL_BENCHMARK: Mapping[str, Mapping[str, float]] = {
    "cgql_linex": {"guidance_coef": 0.01, "noisy_coef": 0.001},
    "qam_edit": {"edit_scale": 0.1, "inv_temp": 1.0},
    "trqam": {"kl_budget": 0.1},
    "trqam_external": {"kl_budget": 0.1},  # the budget of what it is compared with
    "qam": {"inv_temp": 0.3},
    "sqam": {"gap_coef": 0.3, "kl_budget": 0.3},
    "dsrl": {"noise_scale": 0.4},
    "ifql": {"kappa": 0.95},
}
UNKNOWN = "a default; no public source states a value tuned for Robomimic"

#: Agents whose budget is in KL_BUDGETS.
_BUDGETED = ("trqam", "trqam_external")
#: What papers tune by domain, and nobody published for these: {agent: settings}.
_UNPUBLISHED: Mapping[str, tuple[str, ...]] = {
    "sqam": ("kl_budget", "gap_coef"),
    "qam": ("inv_temp",),
    "qam_edit": ("inv_temp", "edit_scale"),
    "qam_fql": ("inv_temp", "fql_alpha"),
    "fql": ("alpha",),
    "fedit": ("edit_scale",),
    "fbrac": ("alpha",),
    "fawac": ("inv_temp",),
    "bam": ("inv_temp",),
    "dsrl": ("noise_scale",),
    "ifql": ("kappa",),
    "qsm": ("inv_temp", "alpha"),
    "dac": ("alpha",),
    "rebrac": ("alpha_actor", "actor_noise"),
    "rql": ("alpha", "expectile"),
    "cgql": ("guidance_coef",),
    "cgql_mse": ("guidance_coef", "noisy_coef"),
    "cgql_linex": ("guidance_coef", "noisy_coef"),
}


def _tuned(domain: Domain, protocol: str, agent: str) -> dict[str, tuple[float, str]]:
    """{setting: (value, source)} that are particular to an agent on a domain."""
    if short_name(domain) == "can" and protocol in SMALL_SIZES and agent in _SMALL_BENCHMARK:
        return {f"agent.{key}": (value, SMALL_BENCHMARK) for key, value in _SMALL_BENCHMARK[agent].items()}
    return {"agent.kl_budget": KL_BUDGETS[short_name(domain)]} if agent in _BUDGETED else {}


def settings(domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
    """{"section.key": value} in which the domain, or an agent on it, departs from the protocol."""
    of_data = {"data.scale_observations": True, "eval.episode_limit": domain.episode_limit}
    return {**of_data, **{key: value for key, (value, _) in _tuned(domain, protocol, agent).items()}}


def notes(domain: Domain, protocol: str, agent: str) -> dict[str, str]:
    """{"section.key": source}, for the settings whose source a reader must know."""
    of_data = {
        "data.scale_observations": "TRQAM's; QC does not scale observations",
        "eval.episode_limit": "TRQAM's and QC's; robomimic's own registry says 500 for multi-human sets",
    }
    unknown = {f"agent.{key}": UNKNOWN for key in _UNPUBLISHED.get(agent, ())}
    return {**of_data, **unknown, **{key: source for key, (_, source) in _tuned(domain, protocol, agent).items()}}
