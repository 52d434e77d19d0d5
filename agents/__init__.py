"""The algorithms, one file each. Adding one: write the file, add its class here (CONTRIBUTING.md has the steps)."""

from typing import Any

from ml_collections import ConfigDict

from agents.bam import BAM
from agents.bc import BC
from agents.cgql import CGQL
from agents.cgql_linex import CGQLLinex
from agents.cgql_mse import CGQLMSE
from agents.dac import DAC
from agents.dsrl import DSRL
from agents.fawac import FAWAC
from agents.fbrac import FBRAC
from agents.fedit import FEdit
from agents.fql import FQL
from agents.ifql import IFQL
from agents.qam import QAM
from agents.qam_edit import QAMEdit
from agents.qam_fql import QAMFQL
from agents.qsm import QSM
from agents.rebrac import ReBRAC
from agents.rlpd import RLPD
from agents.rql import RQL
from agents.shared import NO_CLIP
from agents.sqam import SQAM
from agents.trqam import TRQAM
from agents.trqam_external import TRQAMExternal
from trqam_jax.agent import AbstractAgent
from trqam_jax.agent_config import AgentConfig
from trqam_jax.settings import Setting

AGENTS: dict[str, type[AbstractAgent]] = {
    "bc": BC,
    "trqam": TRQAM,
    "trqam_external": TRQAMExternal,
    "qam": QAM,
    "qam_edit": QAMEdit,
    "qam_fql": QAMFQL,
    "fql": FQL,
    "fedit": FEdit,
    "fbrac": FBRAC,
    "fawac": FAWAC,
    "bam": BAM,
    "sqam": SQAM,
    "dsrl": DSRL,
    "cgql": CGQL,
    "cgql_mse": CGQLMSE,
    "cgql_linex": CGQLLinex,
    "ifql": IFQL,
    "qsm": QSM,
    "dac": DAC,
    "rebrac": ReBRAC,
    "rlpd": RLPD,
    "rql": RQL,
}

#: What every algorithm reads; an algorithm's own SETTINGS come on top.
SHARED: dict[str, Setting] = {
    "discount": Setting(0.995, "gamma, per environment step", low=0.0, high=1.0),
    "hidden_dims": Setting((512, 512, 512, 512), "widths of the hidden layers of all networks", low=1),
    "actor_hidden_dims": Setting(
        None, "those of flows and other policies; None: hidden_dims", low=1, optional=True, type=tuple, since="0.2"
    ),
    "critic_hidden_dims": Setting(
        None, "those of critics and values; None: hidden_dims", low=1, optional=True, type=tuple, since="0.2"
    ),
    "actor_layer_norm": Setting(False, "layer norm in policies, but not in tanh-Gaussian ones; critics always have it"),
    "num_critics": Setting(10, "critics of the ensemble", low=1),
    "rho": Setting(0.5, "pessimism: ensemble standard deviations subtracted from the target's mean", low=0.0),
    "tau": Setting(0.005, "step of the Polyak averages", low=0.0, high=1.0),
    "flow_steps": Setting(10, "Euler steps of a flow's ODE and of an SDE rollout", low=1),
    "best_of_n": Setting(1, "candidates of which the one of the highest mean critic acts", low=1),
    "learning_rate": Setting(3e-4, "of Adam, for all networks", low=0.0),
    "clip_norm": Setting(1.0, NO_CLIP.help, low=0.0, optional=True, type=float),
}


def settings(name: str) -> dict[str, Setting]:
    """All settings of agent `name`, by their bare keys: the shared ones and its own."""
    return {**SHARED, **AGENTS[name].SETTINGS}


def default_config(name: str) -> ConfigDict:
    """The defaults of agent `name`, before any environment's or protocol's."""
    return ConfigDict({key: setting.default for key, setting in settings(name).items()})


def bc_config(config: ConfigDict) -> ConfigDict:
    """The settings of the BC stage from which a method with these settings starts.

    For a swept setting its first value: no BC policy is trained then, and the given one is only evaluated.
    """
    result = default_config("bc")
    for key in BC.INHERITS:
        is_swept = isinstance(config[key], tuple) and isinstance(SHARED[key].default, float)
        result[key] = config[key][0] if is_swept else config[key]
    return result


def make_config(name: str, **values: Any) -> AgentConfig:
    """The configuration of agent `name` with these values of its settings, and defaults for the others."""
    return AgentConfig.create(settings(name), values)
