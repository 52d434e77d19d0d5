"""The environment suites, and what others ask of them. A new suite is one package and one line in SUITES."""

from collections.abc import Mapping
from typing import Any

from envs.base import Domain, Protocol, Suite
from envs.ogbench import files as ogbench_files
from envs.ogbench import suite as _ogbench

SUITES: Mapping[str, Suite] = {
    "ogbench": ogbench_files,
}
DOMAINS: Mapping[str, Domain] = _ogbench.DOMAINS
PROTOCOLS: Mapping[str, Protocol] = _ogbench.PROTOCOLS
parse_env = _ogbench.parse_env
check_task = _ogbench.check_task
get_protocol = _ogbench.protocol


def suite_of(domain: Domain) -> Suite:
    """The suite that the domain belongs to."""
    return SUITES["ogbench"]


def settings(domain: Domain, protocol_name: str, agent: str) -> dict[str, Any]:
    """Flat settings {"section.key": value} of an agent on a domain under a protocol."""
    return _ogbench.settings(domain, protocol_name, agent)


def notes(domain: Domain, protocol_name: str, agent: str) -> dict[str, str]:
    """{setting: its source}, for the settings whose source a reader must know."""
    return _ogbench.notes(domain, protocol_name, agent)
