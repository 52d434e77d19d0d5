"""What behaviour cloning hands on to fine-tuning: the velocity parameters of pretrained policies, in a checkpoint."""

import pathlib
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import envs
from experiments.training import policies_by_name
from experiments.training.replica import Replica, create_args, seeds_of
from experiments.training.stages import BC
from trqam_jax import checkpoint
from trqam_jax.agent import AbstractAgent
from trqam_jax.errors import UserError
from trqam_jax.replicas import replica_shapes
from trqam_jax.scaling import Scaling
from trqam_jax.train_state import TrainState
from trqam_jax.types import Params


class Pretrained(NamedTuple):
    """Pretrained policies, one for every replica."""

    velocity: Params  # a leading axis over replicas
    steps: int  # updates that made them


def save(
    place: pathlib.Path, policies: AbstractAgent, config: ConfigDict, seeds: list[int], scaling: Scaling | None
) -> None:
    """The BC policies of these seeds, and how the observations that they saw were scaled; None: they were not."""
    meta = {
        "env": config.env,
        "steps": config.bc.steps,
        "seeds": seeds,
        "per_seed": config.bc.per_seed,
        "scaling": None if scaling is None else scaling.to_json(),
    }
    checkpoint.save_params(place, policies.train.params["actor"], meta)


def load(place: pathlib.Path, config: ConfigDict, domain: envs.Domain, replicas: list[Replica]) -> Pretrained:
    """The policies at `place`, each replica's own. UserError if they are damaged, or others than the run needs."""
    try:
        meta = checkpoint.read_policy_meta(place)
        shapes = replica_shapes(*create_args("bc", BC.config(config), domain, meta["seeds"]))
        velocity = checkpoint.load(place, shapes.train.params["actor"])
    except checkpoint.Damaged as error:
        way_out = f"; move {place.parents[1]} away to have it trained again"
        if config.bc.checkpoint:
            named = policies_by_name.is_name(config.bc.checkpoint)
            way_out = f"; remove {place} to have it fetched again" if named else ""
        raise UserError(f"{error}{way_out}") from error
    print(f"BC policy: {place}, {meta['steps']:,} updates")
    if meta.get("env") not in (None, config.env):
        raise UserError(f"{place}: was trained on {meta['env']}, not on {config.env}")
    index = np.array(_policy_of(place, meta, replicas))
    return Pretrained(jax.tree.map(lambda x: x[index], velocity), meta["steps"])


def shapes(config: ConfigDict, domain: envs.Domain, replicas: list[Replica]) -> Params:
    """Of the velocity parameters, one policy for every replica."""
    of_agents = replica_shapes(*create_args("bc", BC.config(config), domain, seeds_of(replicas)))
    return of_agents.train.params["actor"]


def acting(velocity: Params, config: ConfigDict, domain: envs.Domain, replicas: list[Replica]) -> AbstractAgent:
    """The policies as replicas that act, and could not go on training."""
    agent_class, _, spec, settings = create_args("bc", BC.config(config), domain, seeds_of(replicas))
    empty = agent_class.empty(spec, settings)
    return empty.replace(train=TrainState({"actor": velocity}, {}, ()))


def _policy_of(place: pathlib.Path, meta: dict, replicas: list[Replica]) -> list[int]:
    """Which of the policies each replica starts from."""
    if not meta.get("per_seed", False):
        return [0] * len(replicas)
    seeds = sorted(set(seeds_of(replicas)))
    if not set(seeds) <= set(meta["seeds"]):
        raise UserError(
            f"{place}: holds one policy for each of the seeds {meta['seeds']}, not for all of {seeds}; "
            "choose another --group to train the others"
        )
    return [meta["seeds"].index(seed) for seed in seeds_of(replicas)]
