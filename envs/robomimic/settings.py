"""Robomimic's settings by domain, each with its source, laid over the general settings of `envs/protocols.py`.

The protocol "trqam" already has what TRQAM uses here: discount 0.995, rho 0.5, networks of 512 x 4 without layer norm
in the actors, 300K updates of BC and 1M offline updates. The values below hold under every protocol.
"""

from collections.abc import Mapping
from typing import Any

from envs.base import Domain
from envs.robomimic.domains import short_name

#: Path-KL budgets that a public source states, with the source.
KL_BUDGETS: Mapping[str, tuple[float, str]] = {
    "lift": (0.1, "TRQAM paper"),
    "can": (0.1, "TRQAM paper"),
    "square": (0.5, "third-party rerun, said to be the authors' advice"),
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


def settings(domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
    """{"section.key": value} in which the domain, or an agent on it, departs from the protocol."""
    of_data = {"data.scale_observations": True, "eval.episode_limit": domain.episode_limit}
    if agent in _BUDGETED:
        return {**of_data, "agent.kl_budget": KL_BUDGETS[short_name(domain)][0]}
    return of_data


def notes(domain: Domain, protocol: str, agent: str) -> dict[str, str]:
    """{"section.key": source}, for the settings whose source a reader must know."""
    of_data = {
        "data.scale_observations": "TRQAM's; QC does not scale observations",
        "eval.episode_limit": "TRQAM's and QC's; robomimic's own registry says 500 for multi-human sets",
    }
    if agent in _BUDGETED:
        return {**of_data, "agent.kl_budget": KL_BUDGETS[short_name(domain)][1]}
    return {**of_data, **{f"agent.{key}": UNKNOWN for key in _UNPUBLISHED.get(agent, ())}}
