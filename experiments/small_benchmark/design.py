"""What is tuned and compared: methods with their four values each, tasks, seeds. Imports no JAX.

The values span what the QAM paper's release uses over its ten domains, and for the KL budget what the TRQAM paper
states. A method whose two main settings are both tuned by domain has two values of each.
"""

from collections.abc import Mapping
from typing import NamedTuple

PROTOCOL = "small"
TUNING, COMPARISON = "small-tuning", "small-comparison"  # groups of runs

#: The values of each method's main settings, as --config.agent.KEY takes them. Their product has VALUES entries.
VALUES = 4
#: The slowest come first, so that no core waits for a long job at the end.
METHODS: Mapping[str, Mapping[str, str]] = {
    "cgql_linex": {"guidance_coef": "0.01,0.1", "noisy_coef": "0.001,0.1"},
    "qam_edit": {"inv_temp": "1,3", "edit_scale": "0.1,0.3"},
    "trqam": {"kl_budget": "0.1,0.3,1,3"},
    "qam": {"inv_temp": "0.3,1,3,10"},
    "sqam": {"kl_budget": "0.3,1", "gap_coef": "0,0.3"},
    "dsrl": {"noise_scale": "0.4,0.8,1,1.4"},
    "fql": {"alpha": "3,30,100,300"},
    "ifql": {"kappa": "0.7,0.8,0.9,0.95"},
    "rebrac": {"alpha_actor": "0.01,0.1", "actor_noise": "0,0.2"},
}

FIRST = "trqam"  # the method that the others are compared with
TUNING_SEEDS = ("1", "2")
NUM_SEEDS = 4  # the comparison's: the protocol's first, which the tuning has not seen


class Task(NamedTuple):
    """A domain of the benchmark and how its data are made."""

    env: str
    tuned_on: str  # tasks of the domain, as --tasks takes them
    compared_on: str
    dataset_episodes: int  # generated
    tuning_episodes: int  # per evaluation and replica


TASKS = (
    Task("cube-single", tuned_on="1", compared_on="1,2", dataset_episodes=60, tuning_episodes=40),
    Task("robomimic-can", tuned_on="1", compared_on="1", dataset_episodes=100, tuning_episodes=20),
)
