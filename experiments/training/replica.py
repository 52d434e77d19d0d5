"""The replicas of a run: what tells one from another, and their fresh agents."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

import agents
import envs
from experiments.config import variants
from experiments.row_format import variant_text
from trqam_jax.agent import AbstractAgent
from trqam_jax.agent_config import AgentConfig, stack_configs
from trqam_jax.replicas import Creation
from trqam_jax.streams import stack_streams
from trqam_jax.types import Array, Spec


class Replica(NamedTuple):
    """A task, a seed, and the values of the swept settings. Cloning uses no reward: its task is the empty text."""

    task: int | str
    seed: int
    values: tuple[tuple[str, float], ...] = ()  # (agent's setting, value) of each swept one, sorted by setting

    @property
    def variant(self) -> str:
        """The swept settings' values, as rows, tables and figures have it: inv_temp=3.0, kl_budget=0.5."""
        return variant_text(dict(self.values))

    @property
    def file_name(self) -> str:
        """For files of its own: task1-seed7-kl_budget=0.5."""
        parts = [f"task{self.task}", f"seed{self.seed}", *(f"{name}={value}" for name, value in self.values)]
        return "-".join(parts)

    def __str__(self) -> str:
        task = f"task {self.task}, " if self.task != "" else ""
        return f"{task}seed {self.seed}" + (f", {self.variant}" if self.variant else "")


def replicas_of(config: ConfigDict) -> list[Replica]:
    """Tasks x seeds x swept values, in this order."""
    swept = [_values(variant) for variant in variants(config)]
    return [Replica(task, seed, values) for task in config.tasks for seed in config.run.seeds for values in swept]


def _values(variant: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((key.removeprefix("agent."), value) for key, value in variant.items())


def seeds_of(replicas: Sequence[Replica]) -> list[int]:
    """One per replica."""
    return [replica.seed for replica in replicas]


def spec_of(domain: envs.Domain) -> Spec:
    """The sizes that an agent of the domain is built for."""
    return Spec(domain.observation_dim, domain.action_dim, domain.horizon)


def agent_config(name: str, config: ConfigDict, values: dict[str, float]) -> AgentConfig:
    """The agent's settings for one replica: the configured ones, with its values of the swept ones."""
    return AgentConfig.create(agents.settings(name), {**config.agent.to_dict(), **values})


def create_args(
    name: str, config: ConfigDict, domain: envs.Domain, seeds: list[int], values: list[dict[str, float]] | None = None
) -> tuple[type[AbstractAgent], Array, Spec, AgentConfig]:
    """What fresh replicas are made from, one per entry of seeds; values: each one's of the swept settings."""
    keys = stack_streams(seeds, "bc" if name == "bc" else "offline").init
    configs = [agent_config(name, config, own) for own in values or [{}] * len(seeds)]
    return agents.AGENTS[name], keys, spec_of(domain), stack_configs(configs)


def creation(name: str, config: ConfigDict, domain: envs.Domain, made_for: list[Replica]) -> Creation:
    """Of fresh replicas of the agent, a leading axis over them."""
    values = [{} if name == "bc" else dict(replica.values) for replica in made_for]
    return Creation(*create_args(name, config, domain, seeds_of(made_for), values))


def make_replicas(name: str, config: ConfigDict, domain: envs.Domain, made_for: list[Replica]) -> AbstractAgent:
    """What `creation` creates."""
    return creation(name, config, domain, made_for).agents()
