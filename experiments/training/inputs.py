"""What a run starts from: its data, and the checkpoint of a pretrained policy where one is given."""

import os
import pathlib

from ml_collections import ConfigDict

import envs
from experiments import config as configuration
from experiments.training import interrupt
from trqam_jax import checkpoint, data, replicas
from trqam_jax.errors import UserError
from trqam_jax.streaming import Stream

RESIDENT_SHARE = 0.75  # of a device's memory that data may take; the rest is the replicas'


def locate(config: ConfigDict) -> tuple[ConfigDict, pathlib.Path]:
    """The configuration with the fingerprints of what it is to start from, and where the data are."""
    domain, source, given = envs.DOMAINS[config.env], config.data, ""
    suite = envs.suite_of(domain)
    if config.agent_name == "bc" and not (config.bc.checkpoint or config.bc.steps):
        raise UserError("--agent=bc has nothing to do: give --bc_steps or --bc_checkpoint")
    if config.bc.checkpoint:
        given = checkpoint.read_meta(pathlib.Path(config.bc.checkpoint).expanduser(), checkpoint.POLICY)["fingerprint"]
    path = suite.find(
        domain, source.dataset, source.dir, episodes=source.episodes, seed=source.seed, shards=source.shards
    )
    return configuration.with_fingerprints(config, data=suite.fingerprint(path, source.shards), checkpoint=given), path


def load_data(config: ConfigDict, path: pathlib.Path) -> data.Dataset | Stream:
    """The dataset at `path`, with the configured tasks' rewards: on the device, or streamed if it would fill that."""
    domain, source, tasks = envs.DOMAINS[config.env], config.data, list(config.tasks)
    suite = envs.suite_of(domain)
    size = suite.measure(path, domain, shards=source.shards, horizon=domain.horizon)
    needed, memory = size.nbytes(domain, len(tasks)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = replicas.memory_limit() or memory
    resident = needed < RESIDENT_SHARE * limit if source.resident == "auto" else source.resident == "true"
    print(
        f"data: {size.transitions:,} transitions, {needed / 2**30:,.2f} GiB (the device has {limit / 2**30:,.1f} GiB): "
        f"{'resident' if resident else 'streamed'}, from {path}"
    )
    if needed > memory and not (resident or source.shard_cycle):
        print("warning: the host's memory cannot keep them, so that draws wait for the disk; see data.shard_cycle")
    with interrupt.at_once():
        arrays = suite.load(path, domain, tasks, domain.horizon, sparse=source.sparse, shards=source.shards)
    for task, masks in zip(tasks, arrays.masks, strict=True):
        print(f"  task {task}: solved in {(masks == 0).mean():.2%} of them")
    return data.to_device(arrays, source.shard_cycle) if resident else Stream(arrays, source.shard_cycle)
