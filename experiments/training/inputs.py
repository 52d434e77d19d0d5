"""What a run starts from: its data, and the checkpoint of a pretrained policy where one is given."""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

import envs
from experiments import config as configuration
from experiments.training import interrupt, policies_by_name
from trqam_jax import checkpoint, data, replicas
from trqam_jax.errors import UserError
from trqam_jax.files import expand
from trqam_jax.scaling import Scaling
from trqam_jax.streaming import Stream

RESIDENT_SHARE = 0.75  # of a device's memory that data may take; the rest is the replicas'


class TrainingData(NamedTuple):
    """What updates see."""

    dataset: data.Dataset | Stream
    scaling: Scaling | None  # of its observations, and so of what a policy of the run sees; None: as they are


def locate(config: ConfigDict) -> tuple[ConfigDict, pathlib.Path]:
    """The configuration with the fingerprints of what it is to start from, and where the data are."""
    domain, source = envs.DOMAINS[config.env], config.data
    suite = envs.suite_of(domain)
    if config.agent_name == "bc" and not (config.bc.checkpoint or config.bc.steps):
        raise UserError("--agent=bc has nothing to do: give --bc_steps or --bc_checkpoint")
    if source.shards:  # before tens of GB are fetched
        _check_not_scaled(config)
    config = policies_by_name.pinned(config)
    policy = _given_policy(config)
    _check_saw_the_same(policy, config)
    given = source.dataset if source.dataset in ("auto", "generate") else str(expand(source.dataset))
    path = suite.find(
        domain,
        given,
        str(expand(source.dir)),
        episodes=source.episodes,
        seed=source.seed,
        shards=source.shards,
        download=source.download,
    )
    if path.is_dir():
        _check_not_scaled(config)
    fingerprints = {"data": suite.fingerprint(path, source.shards), "checkpoint": policy.get("fingerprint", "")}
    return configuration.with_fingerprints(config, **fingerprints), path


def _given_policy(config: ConfigDict) -> dict[str, Any]:
    """What the meta file of the given BC policy says; {} without one."""
    place = policies_by_name.folder(config)
    try:
        return {} if place is None else checkpoint.read_policy_meta(place)
    except checkpoint.Damaged:
        raise
    except UserError as error:
        raise UserError(
            f"bc.checkpoint is no BC policy ({error}); expected a folder like cloned-*/checkpoints/STEPS, an imported "
            "one, released or hub:owner/name"
        ) from error


def _check_not_scaled(config: ConfigDict) -> None:
    """UserError if observations are to be scaled, for data in shards."""
    if config.data.scale_observations:
        raise UserError(
            "data.scale_observations: shards are read from their files and there may be no room for scaled copies; "
            "give one plain file, or --config.data.scale_observations=false"
        )


def _check_saw_the_same(policy: dict[str, Any], config: ConfigDict) -> None:
    """UserError if the given BC policy was trained on scaled observations and the run has others, or the reverse.

    The meta file of an imported policy, or of one from before version 0.3, does not say.
    """
    if "scaling" not in policy:
        return
    scaled = policy["scaling"] is not None
    if scaled != config.data.scale_observations:
        raise UserError(
            f"{config.bc.checkpoint}: this BC policy saw {'scaled' if scaled else 'unscaled'} observations; add "
            f"--config.data.scale_observations={str(scaled).lower()}"
        )


class Source(NamedTuple):
    """Where the data are, how much they are, and where they go."""

    path: pathlib.Path
    size: envs.Size
    resident: bool  # on the device; otherwise streamed, because they would fill it

    def shapes(self, config: ConfigDict) -> data.Dataset | Stream:
        """The dataset that `load_data` will return, without its contents."""
        arrays = self.size.arrays(envs.DOMAINS[config.env], len(config.tasks))
        cycle = config.data.shard_cycle
        return data.device_shapes(arrays, cycle) if self.resident else Stream(arrays, cycle)


def survey(config: ConfigDict, path: pathlib.Path) -> Source:
    """Of the data at `path`, before anything large is read."""
    domain, source = envs.DOMAINS[config.env], config.data
    suite = envs.suite_of(domain)
    size = suite.measure(path, domain, shards=source.shards, horizon=domain.horizon)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed, limit = size.nbytes(domain, len(config.tasks)), replicas.memory_limit() or memory
    resident = needed < RESIDENT_SHARE * limit if source.resident == "auto" else source.resident == "true"
    print(
        f"data: {size.transitions:,} transitions, {needed / 2**30:,.2f} GiB (the device has {limit / 2**30:,.1f} GiB): "
        f"{'resident' if resident else 'streamed'}, from {path}"
    )
    if needed > memory and not (resident or source.shard_cycle):
        print("warning: the host's memory cannot keep them, so that draws wait for the disk; see data.shard_cycle")
    return Source(path, size, resident)


def load_data(config: ConfigDict, where: Source) -> TrainingData:
    """The data, with the configured tasks' rewards."""
    domain, source, tasks, path = envs.DOMAINS[config.env], config.data, list(config.tasks), where.path
    suite = envs.suite_of(domain)
    with interrupt.at_once():
        arrays = suite.load(path, domain, tasks, domain.horizon, sparse=source.sparse, shards=source.shards)
    for task, masks in zip(tasks, arrays.masks, strict=True):
        print(f"  task {task}: solved in {(masks == 0).mean():.2%} of them")
    scaling = _scaling(config, arrays.observations) if source.scale_observations else None
    if scaling is not None:
        arrays = arrays._replace(observations=scaling.apply(arrays.observations))
    dataset = data.to_device(arrays, source.shard_cycle) if where.resident else Stream(arrays, source.shard_cycle)
    return TrainingData(dataset, scaling)


def _scaling(config: ConfigDict, observations: np.ndarray) -> Scaling:
    """That of the given BC policy, which has seen no others; of an imported one, or without one, the data's own."""
    stored = _given_policy(config).get("scaling")
    if stored is None:
        print("observations: scaled to [-1, 1] by their range in the data")
        return Scaling.of(observations)
    scaling, given = Scaling.from_json(stored), config.bc.checkpoint
    have, want = len(scaling.low), observations.shape[1]
    if have != want:
        raise UserError(f"{given}: this BC policy saw observations of {have} numbers, {config.env} has {want}")
    print(f"observations: scaled as the BC policy {given} saw them")
    return scaling
