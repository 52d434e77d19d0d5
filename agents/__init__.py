"""The algorithms, one file each. Adding one: write the file, add its class here (CONTRIBUTING.md shows an example)."""

from ml_collections import ConfigDict

from agents.bc import BC
from agents.cgql import CGQL
from agents.cgql_linex import CGQLLinex
from agents.cgql_mse import CGQLMSE
from agents.dsrl import DSRL
from agents.fql import FQL
from agents.ifql import IFQL
from agents.qam import QAM
from agents.qam_edit import QAMEdit
from agents.qam_fql import QAMFQL
from agents.sqam import SQAM
from agents.trqam import TRQAM
from agents.trqam_external import TRQAMExternal
from trqam_jax.agent import AbstractAgent

AGENTS: dict[str, type[AbstractAgent]] = {
    "bc": BC,
    "trqam": TRQAM,
    "trqam_external": TRQAMExternal,
    "qam": QAM,
    "qam_edit": QAMEdit,
    "qam_fql": QAMFQL,
    "fql": FQL,
    "sqam": SQAM,
    "dsrl": DSRL,
    "cgql": CGQL,
    "cgql_mse": CGQLMSE,
    "cgql_linex": CGQLLinex,
    "ifql": IFQL,
}

#: What every algorithm reads; an algorithm's own DEFAULTS come on top.
SHARED_DEFAULTS = dict(
    discount=0.995,
    hidden_dims=(512, 512, 512, 512),
    actor_layer_norm=False,
    num_critics=10,
    rho=0.5,  # pessimism: standard deviations of the ensemble subtracted from the target's mean
    tau=0.005,
    flow_steps=10,
    best_of_n=1,
    learning_rate=3e-4,
    clip_norm=1.0,
)


def default_config(name: str) -> ConfigDict:
    """The settings of agent `name`, before any environment's or protocol's."""
    return ConfigDict({**SHARED_DEFAULTS, **AGENTS[name].DEFAULTS})
