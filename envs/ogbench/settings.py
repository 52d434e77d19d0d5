"""OGBench's settings by domain, each with its source: where a paper departs from its own protocol, and tuned values.

Flat {"section.key": value}, laid over the general settings of `envs/protocols.py`. Sources: the TRQAM release (arXiv
2605.27079), the QAM release (arXiv 2601.14234).
"""

from collections.abc import Mapping
from typing import Any

from envs.base import Domain, ReleasedPolicies
from envs.protocols import SMALL_BENCHMARK, SMALL_SIZES

#: The tables below name domains so. The domains of tests and demos have no published settings.
SHORT: Mapping[str, str] = {
    "antmaze-large": "al",
    "antmaze-giant": "ag",
    "humanoidmaze-medium": "hm",
    "humanoidmaze-large": "hl",
    "scene": "scene",
    "puzzle-3x3": "p33",
    "puzzle-4x4": "p44",
    "cube-double": "c2",
    "cube-triple": "c3",
    "cube-quadruple": "c4",
}
#: The TRQAM paper's BC policies, of its ten domains: 300,000 updates, seed 10001, MIT licence.
BC_POLICIES = ReleasedPolicies("yonghoon96/trqam-bc-checkpoints", "params_300000.pkl", tuple(SHORT))
LARGE = (1024, 1024, 1024, 1024)

#: {protocol: {setting: {domain: value}}}; other domains have the protocol's general value.
_OF_PROTOCOL: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "trqam": {
        "agent.discount": {"hm": 0.999, "hl": 0.999},
        "agent.rho": {"hm": 0.0, "hl": 0.0},
        "agent.hidden_dims": dict.fromkeys(("ag", "p44", "c3", "c4"), LARGE),
        "agent.actor_layer_norm": dict.fromkeys(("ag", "p44", "c3", "c4"), True),
        # Shards of the 100M release, in sorted order; 0 is the plain file.
        "data.shards": {"ag": 10, "p44": 10, "c3": 10, "c4": 100},
    },
    "qam": {
        "agent.discount": {"ag": 0.995, "hm": 0.995, "hl": 0.995},
        "agent.rho": {"hm": 0.0, "hl": 0.0},
        "data.sparse": dict.fromkeys(("scene", "p33", "p44"), True),
        "data.shards": {"p44": 100, "c4": 100},
    },
}

#: Path-KL budgets that a public source states, with the source. Every other domain's is unknown: the default stands.
KL_BUDGETS: Mapping[str, tuple[float, str]] = {
    "c3": (0.5, "TRQAM paper"),
    "hm": (0.5, "third-party rerun"),
}
UNKNOWN_BUDGET = "the released code's default, not the paper's value, which no public source states"

#: Tuned settings of the baselines, {agent: {setting: {domain: value}}}, from the QAM paper's release.
_QAM_RELEASE: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "qam": {
        "inv_temp": dict(p33=3, scene=1, c2=1, al=10, hm=3, c3=3, c4=1, p44=30, ag=3, hl=3),
    },
    "qam_edit": {
        "inv_temp": dict(p33=1, scene=1, c2=1, al=1, hm=3, c3=3, c4=3, p44=0.1, ag=10, hl=3),
        "edit_scale": dict(p33=0.1, scene=0, c2=0, al=0.1, hm=0.1, c3=0.1, c4=0.1, p44=0.9, ag=0.1, hl=0.1),
    },
    "qam_fql": {
        "inv_temp": dict(p33=3, scene=1, c2=1, al=3, hm=1, c3=10, c4=0.3, p44=3, ag=3, hl=0.3),
        "fql_alpha": dict(p33=0, scene=300, c2=0, al=30, hm=30, c3=300, c4=30, p44=3, ag=30, hl=30),
    },
    "fql": {
        "alpha": dict(p33=300, scene=300, c2=300, al=3, hm=30, c3=30, c4=100, p44=1, ag=3, hl=30),
    },
    "fedit": {
        "edit_scale": dict(p33=0.2, scene=0.2, c2=0.2, al=0.2, hm=0.5, c3=0.3, c4=0.4, p44=0.8, ag=0.3, hl=0.1),
    },
    "fbrac": {
        "alpha": dict(p33=0.03, scene=100, c2=0.1, al=0.1, hm=30, c3=0.03, c4=1, p44=0.3, ag=0.1, hl=10),
    },
    "fawac": {
        "inv_temp": dict(p33=0.8, scene=6.4, c2=0.8, al=6.4, hm=6.4, c3=0.8, c4=0.8, p44=0.8, ag=0.8, hl=0.8),
    },
    "bam": {
        "inv_temp": dict(p33=10, scene=10, c2=10, al=30, hm=10, c3=30, c4=10, p44=30, ag=30, hl=30),
    },
    "dsrl": {
        "noise_scale": dict(p33=1, scene=0.4, c2=1, al=0.8, hm=0.6, c3=1.4, c4=1.4, p44=1, ag=1.2, hl=0.8),
    },
    "ifql": {
        "kappa": dict(p33=0.95, scene=0.9, c2=0.9, al=0.9, hm=0.7, c3=0.95, c4=0.95, p44=0.9, ag=0.8, hl=0.8),
    },
    "qsm": {
        "inv_temp": dict(p33=10, scene=3, c2=1, al=10, hm=10, c3=10, c4=1, p44=10, ag=10, hl=10),
        "alpha": dict(p33=30, scene=30, c2=10, al=10, hm=30, c3=10, c4=10, p44=1, ag=10, hl=30),
    },
    "dac": {
        "alpha": dict(p33=1, scene=1, c2=3, al=0.3, hm=1, c3=0.3, c4=1, p44=1, ag=0.3, hl=0.3),
    },
    "rebrac": {
        "alpha_actor": dict(
            p33=0.1, scene=0.03, c2=0.01, al=0.01, hm=0.01, c3=0.01, c4=0.01, p44=0.01, ag=0.01, hl=0.01
        ),
        "actor_noise": dict(p33=0, scene=0, c2=0, al=0, hm=0, c3=0.2, c4=0.2, p44=0.2, ag=0, hl=0.1),
    },
    "cgql": {
        "guidance_coef": dict(p33=0.1, scene=0.1, c2=0.01, al=0.1, hm=0.01, c3=0.1, c4=0.1, p44=0.1, ag=0.1, hl=0.01),
    },
    "cgql_mse": {
        "guidance_coef": dict(p33=0.1, scene=0.1, c2=0.01, al=0.1, hm=0.1, c3=0.1, c4=0.01, p44=1, ag=0.1, hl=0.1),
        "noisy_coef": dict(p33=0.1, scene=0.1, c2=0.001, al=0.1, hm=0.1, c3=0.001, c4=0.1, p44=0.001, ag=0.001, hl=0.1),
    },
    "cgql_linex": {
        "guidance_coef": dict(p33=0.1, scene=0.1, c2=0.01, al=0.1, hm=0.1, c3=0.1, c4=0.01, p44=1, ag=0.1, hl=0.1),
        "noisy_coef": dict(
            p33=0.001, scene=0.1, c2=0.001, al=0.001, hm=0.1, c3=0.001, c4=0.1, p44=0.001, ag=0.001, hl=0.1
        ),
    },
}
#: RQL's own, from its release (arXiv 2606.17551); its protocol is the QAM paper's.
_RQL_RELEASE: Mapping[str, Mapping[str, float]] = {
    "alpha": dict(p33=1, scene=3, c2=10, al=0.1, hm=0.3, c3=1, c4=1, p44=1, ag=0.1, hl=0.3),
    "expectile": dict(p33=0.7, scene=0.7, c2=0.9, al=0.5, hm=0.5, c3=0.9, c4=0.7, p44=0.9, ag=0.5, hl=0.5),
}
#: What the small benchmark's tuning chose on cube-single, where any value had success.
_SMALL_BENCHMARK: Mapping[str, Mapping[str, float]] = {
    "cgql_linex": {"guidance_coef": 0.01, "noisy_coef": 0.1},
    "qam_edit": {"edit_scale": 0.1, "inv_temp": 1.0},
    "trqam": {"kl_budget": 0.3},
    "trqam_external": {"kl_budget": 0.3},  # the budget of what it is compared with
    "qam": {"inv_temp": 1.0},
    "sqam": {"gap_coef": 0.3, "kl_budget": 0.3},
    "dsrl": {"noise_scale": 0.4},
    "fql": {"alpha": 300.0},
    "ifql": {"kappa": 0.9},
}
QAM_RELEASE = "QAM paper's release"
RQL_RELEASE = "RQL paper's release"
#: Follows a source whose values were tuned under the protocol "qam", where the run has another one.
ELSEWHERE = "; no public source states a value tuned for this protocol"

_SQAM = {
    "agent.kl_budget": "published for cube-triple, the released code's default elsewhere",
    "agent.gap_coef": "0.3 on all domains but cube-double, where it is off: its authors' blog, October 2026",
}

#: Agents whose budget is in KL_BUDGETS, or unknown.
_BUDGETED = ("trqam", "trqam_external")


def _tuned(domain: Domain, protocol: str, agent: str) -> dict[str, tuple[Any, str]]:
    """{setting: (value, source)} that are particular to an agent on a domain."""
    if domain.name == "cube-single" and protocol in SMALL_SIZES:
        return {f"agent.{key}": (value, SMALL_BENCHMARK) for key, value in _SMALL_BENCHMARK.get(agent, {}).items()}
    short = SHORT.get(domain.name)
    if short is None:
        return {}
    if agent in _BUDGETED:
        return {"agent.kl_budget": KL_BUDGETS[short]} if short in KL_BUDGETS else {}
    if agent == "sqam":
        return {"agent.gap_coef": (0.0, _SQAM["agent.gap_coef"])} if short == "c2" else {}
    if agent == "rql":
        source = RQL_RELEASE + ELSEWHERE * (protocol != "qam")
        return {f"agent.{key}": (float(values[short]), source) for key, values in _RQL_RELEASE.items()}
    # The TRQAM paper's QAM and QAM-E on cube-triple are known to equal the QAM release's.
    same = protocol == "qam" or (short == "c3" and agent in ("qam", "qam_edit"))
    source = QAM_RELEASE + ELSEWHERE * (not same)
    table = _QAM_RELEASE.get(agent, {})
    return {f"agent.{key}": (float(by_domain[short]), source) for key, by_domain in table.items()}


def settings(domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
    """{"section.key": value} in which the domain, or an agent on it, departs from the protocol."""
    short = SHORT.get(domain.name, "")
    departures = _OF_PROTOCOL.get(protocol, {})
    own = {key: by_domain[short] for key, by_domain in departures.items() if short in by_domain}
    tuned = {key: value for key, (value, _) in _tuned(domain, protocol, agent).items()}
    return {**own, **tuned}


def notes(domain: Domain, protocol: str, agent: str) -> dict[str, str]:
    """{"section.key": source}, for the settings whose source a reader must know."""
    usual: Mapping[str, str] = {}
    if agent in _BUDGETED:
        usual = {"agent.kl_budget": UNKNOWN_BUDGET}
    elif agent == "sqam":
        usual = _SQAM
    tuned = {key: source for key, (_, source) in _tuned(domain, protocol, agent).items()}
    return {**usual, **tuned}
