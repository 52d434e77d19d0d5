"""Robomimic (arXiv 2108.03298): three tasks on robosuite's simulator, as the project's suite "robomimic".

robosuite and h5py are optional: the domains and their settings are here without them.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from envs.base import Arrays, Domain, Size, Suite
from envs.robomimic import download, files, generate
from envs.robomimic import settings as by_domain
from envs.robomimic.domains import DOMAINS, SUITE_NAME
from envs.robomimic.simulators import RobomimicSimulator


class Robomimic(Suite):
    """See `envs.base.Suite`."""

    name = SUITE_NAME
    description = "Robomimic: lift, can and square, manipulation learned from multi-human demonstrations"
    domains = DOMAINS
    packages = ("robosuite", "mujoco", "h5py")
    dataset_dir = download.DEFAULT_DATASET_DIR
    commands = {"download": download.main, "generate": generate.main}

    def env_factory(self, domain: Domain, task: int, *, render: bool = False) -> Callable[[], RobomimicSimulator]:
        """Without twins: robosuite compiles its model anew at every reset, so that there is nothing to share."""
        return functools.partial(RobomimicSimulator, domain, task, render=render)

    def find(
        self,
        domain: Domain,
        dataset: str,
        dataset_dir: str,
        *,
        episodes: int,
        seed: int,
        shards: int,
        download: str,
    ) -> pathlib.Path:
        files.check_unsharded(shards)
        return files.find(domain, dataset, dataset_dir, episodes=episodes, seed=seed, download=download)

    def fingerprint(self, path: pathlib.Path, shards: int) -> str:
        return files.fingerprint(path)

    def measure(self, path: pathlib.Path, domain: Domain, *, shards: int, horizon: int) -> Size:
        return files.measure(path, domain, horizon=horizon)

    def load(
        self, path: pathlib.Path, domain: Domain, tasks: list[int], horizon: int, *, sparse: bool, shards: int
    ) -> Arrays:
        return files.load(path, domain, horizon=horizon, sparse=sparse)

    def settings(self, domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
        return by_domain.settings(domain, protocol, agent)

    def notes(self, domain: Domain, protocol: str, agent: str) -> dict[str, str]:
        return by_domain.notes(domain, protocol, agent)


SUITE = Robomimic()
