"""The words of rows and run folders: written by runs, read by everything else. Imports no JAX."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

#: The phases of a run, in their order, as checkpoints and rows name them.
PHASES = ("bc", "offline", "online")
#: The column `status`.
OK, DIVERGED = "ok", "diverged"
#: The column `task` where there is none, or only the mean over several is known: suites count theirs from 1.
NO_TASK = 0
#: How the folder of a BC stage begins. Folders of earlier versions are named so.
BC_PREFIX = "cloned"


def aside(folder: pathlib.Path, number: int) -> pathlib.Path:
    """Where --resume=never moves what is in a run's folder, for the number-th time."""
    return folder.with_name(f"old-{number}-{folder.name}")


def is_aside(folder: pathlib.Path) -> bool:
    """Whether a run's folder, or what a link of another name leads to, was set aside: its rows are no results."""
    return any(re.match(r"old-\d+-", place.name) for place in (folder, folder.resolve()))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"section.key": value} of a configuration, as a run has it or as config.json does."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if hasattr(value, "items"):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def variant_text(settings: Mapping[str, Any]) -> str:
    """{"inv_temp": 3.0, "kl_budget": 0.5} as the column `variant` has it: the agent's settings first, by name."""
    keys = sorted(settings, key=lambda key: ("." in key, key))
    return ", ".join(f"{key}={settings[key]}" for key in keys)


def parse_variant(text: str) -> dict[str, float]:
    """The swept settings that the column `variant` of a file names. A ValueError if it holds something else."""
    settings = {}
    for part in text.split(", ") if text else []:
        key, _, value = part.partition("=")
        settings[key] = float(value)
    return settings
