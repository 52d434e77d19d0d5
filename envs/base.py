"""What a suite of environments is to the rest of the project: domains and tasks as data, files, and simulators.

Nothing here imports JAX: worker processes import it.
"""

from typing import Any

from envs.ogbench.suite import Domain, Protocol

Suite = Any

__all__ = ["Domain", "Protocol", "Suite"]
