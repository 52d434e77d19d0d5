"""OGBench (arXiv 2410.20092): its domains, settings, files and simulators, as the project's suite "ogbench"."""

import pathlib
from typing import Any

from envs.base import Arrays, Domain, Size, Suite
from envs.ogbench import convert, download, files, generate
from envs.ogbench import settings as by_domain
from envs.ogbench.domains import DOMAINS, SUITE_NAME, split
from envs.ogbench.simulators import OGBenchFactory


class OGBench(Suite):
    """See `envs.base.Suite`."""

    name = SUITE_NAME
    description = "OGBench: mazes and manipulation, five reward-based single tasks in each domain"
    domains = DOMAINS
    packages = ("ogbench", "mujoco", "gymnasium")
    dataset_dir = download.DEFAULT_DATASET_DIR
    benchmark = "ogbench50"
    bc_policies = by_domain.BC_POLICIES
    commands = {"download": download.main, "generate": generate.main, "convert": convert.main}
    untrained = tuple(name for name in generate.GENERATABLE if name not in DOMAINS)

    def env_factory(self, domain: Domain, task: int, *, render: bool = False) -> OGBenchFactory:
        return OGBenchFactory(domain, task, render)

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
        return files.find(domain, dataset, dataset_dir, episodes=episodes, seed=seed, shards=shards, download=download)

    def fingerprint(self, path: pathlib.Path, shards: int) -> str:
        return files.fingerprint(path, shards)

    def measure(self, path: pathlib.Path, domain: Domain, *, shards: int, horizon: int) -> Size:
        return files.measure(path, domain, shards=shards, horizon=horizon)

    def load(
        self, path: pathlib.Path, domain: Domain, tasks: list[int], horizon: int, *, sparse: bool, shards: int
    ) -> Arrays:
        return files.load(path, domain, tasks, horizon, sparse=sparse, shards=shards)

    def settings(self, domain: Domain, protocol: str, agent: str) -> dict[str, Any]:
        return by_domain.settings(domain, protocol, agent)

    def notes(self, domain: Domain, protocol: str, agent: str) -> dict[str, str]:
        return by_domain.notes(domain, protocol, agent)

    def split(self, text: str) -> tuple[str, int | None]:
        return split(text)


SUITE = OGBench()
