"""The suites of environments, and what others ask of them."""

import importlib
from collections.abc import Mapping
from typing import Any

from envs import base
from envs.base import Arrays, DataError, Domain, Simulator, Size, Suite, check_task
from envs.protocols import PROTOCOLS, Protocol, get_protocol

#: A new suite is one package and one line here: its name. envs/base.py says what it has.
_PACKAGES = (
    "ogbench",
    "robomimic",
)  # fmt: skip
SUITES: Mapping[str, Suite] = {name: importlib.import_module(f"envs.{name}").SUITE for name in _PACKAGES}
DOMAINS: Mapping[str, Domain] = {name: domain for suite in SUITES.values() for name, domain in suite.domains.items()}
__all__ = [
    "DOMAINS",
    "PROTOCOLS",
    "SUITES",
    "Arrays",
    "DataError",
    "Domain",
    "Protocol",
    "Simulator",
    "Size",
    "Suite",
    "check_task",
    "get_protocol",
    "notes",
    "parse_env",
    "settings",
    "split_env",
    "suite_of",
]


def suite_of(domain: Domain) -> Suite:
    """The suite that the domain belongs to."""
    return SUITES[domain.suite]


def split_env(name: str) -> tuple[Domain, int | None]:
    """The domain and task of puzzle-4x4-task2 or a full name in the suite's own spelling; of puzzle-4x4 no task."""
    return base.split_env(name, [(suite.domains, suite.split) for suite in SUITES.values()])


def parse_env(name: str) -> tuple[Domain, int]:
    """As `split_env` does it; where no task is named, it is the domain's default one."""
    domain, task = split_env(name)
    return domain, domain.default_task if task is None else task


def settings(domain: Domain, protocol: str, agent: str, *, online_only: bool = False) -> dict[str, Any]:
    """{"section.key": value} of an agent on a domain under a protocol: the protocol's, and over them the suite's.

    online_only: of a method that is trained online alone.
    """
    suite, general = suite_of(domain), get_protocol(protocol)
    own = general.online_only if online_only else {}
    return {**general.settings, **own, "data.dir": suite.dataset_dir, **suite.settings(domain, protocol, agent)}


def notes(domain: Domain, protocol: str, agent: str) -> dict[str, str]:
    """{"section.key": source}, for the settings whose source a reader must know."""
    return suite_of(domain).notes(domain, protocol, agent)
