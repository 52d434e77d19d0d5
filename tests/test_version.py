"""One version, and settings that are not newer than it."""

import pathlib
import re

from packaging.version import Version

import trqam_jax
from experiments import config as configuration

ROOT = pathlib.Path(__file__).parents[1]


def test_every_file_has_the_same_version():
    in_setup = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())[1]
    in_readme = re.search(r"version\s*=\s*\{([^}]+)\}", (ROOT / "README.md").read_text())[1]
    assert trqam_jax.__version__ == in_setup == in_readme


def test_no_setting_is_newer_than_the_version():
    """At its default a newer setting enters no digest, so a missing version would hide a change of results."""
    for agent in ("trqam", "qam_edit", "bc"):
        for key, setting in configuration.declared(agent).items():
            assert not setting.since or Version(setting.since) <= Version(trqam_jax.__version__), key
