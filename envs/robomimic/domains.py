"""Robomimic's domains as data: one task each, low-dimensional observations, multi-human demonstrations.

Episode limits are TRQAM's and QC's, 300, 300 and 400 environment steps. Robomimic's own registry says 500 for
multi-human sets, so a success rate means something only with its limit beside it.
"""

import functools
from collections.abc import Mapping

from envs import base
from envs.base import Domain

SUITE_NAME = "robomimic"
#: What an observation is made of, in this order.
OBSERVATION_KEYS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
_ROBOT_WIDTHS = (3, 4, 2)  # of all keys but the object's
#: robosuite's names of the domains' environments.
ENV_NAMES: Mapping[str, str] = {
    "robomimic-lift": "Lift",
    "robomimic-can": "PickPlaceCan",
    "robomimic-square": "NutAssemblySquare",
}


def _domain(short: str, object_width: int, episode_limit: int) -> Domain:
    return Domain(
        suite=SUITE_NAME,
        name=f"{SUITE_NAME}-{short}",
        title=f"{short}-mh",
        task_title=f"{short}-mh-low_dim",
        observation_dim=sum(_ROBOT_WIDTHS) + object_width,
        action_dim=7,
        episode_limit=episode_limit,
        horizon=5,
        default_task=1,
        num_tasks=1,
        benchmark=False,
    )


_DOMAINS = (
    _domain("lift", 10, 300),
    _domain("can", 14, 300),
    _domain("square", 14, 400),
)
DOMAINS: Mapping[str, Domain] = {domain.name: domain for domain in _DOMAINS}


def short_name(domain: Domain) -> str:
    """The task as files and papers name it: lift, can or square."""
    return domain.name.removeprefix(f"{SUITE_NAME}-")


def observation_widths(domain: Domain) -> dict[str, int]:
    """{key: numbers} of what an observation is made of."""
    object_width = domain.observation_dim - sum(_ROBOT_WIDTHS)
    return dict(zip(OBSERVATION_KEYS, (*_ROBOT_WIDTHS, object_width), strict=True))


def parse(text: str) -> Domain:
    """The domain of its name or title, for example robomimic-can or can-mh; UserError if there is none."""
    return base.split_env(text, [(DOMAINS, functools.partial(base.split_name, DOMAINS))])[0]
