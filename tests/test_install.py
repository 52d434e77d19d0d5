"""What is installed: all of the library, and one version of every package that it needs, directly or not."""

import importlib.metadata
import pathlib
import re
import runpy
import sys
import tomllib
from unittest import mock

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
LOCK, ROBOMIMIC = "requirements.txt", "requirements-robomimic.txt"
WAY_OUT = "`make lock` writes the lock files anew"


def lines(name):
    """The requirements in a file."""
    texts = [line.partition("#")[0].strip(" \\") for line in (ROOT / name).read_text().splitlines()]
    return [Requirement(text) for text in texts if text and not text.startswith("--hash=")]


def locked(python, name=LOCK):
    """{package: version} of the lines that apply on Linux with that Python."""
    versions = {}
    for entry in lines(name):
        if applies(entry, python):
            (pin,) = entry.specifier
            assert pin.operator == "=="
            assert canonicalize_name(entry.name) not in versions
            versions[canonicalize_name(entry.name)] = Version(pin.version)
    return versions


def applies(requirement, python, extras=("",)):
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    version = {"python_version": python, "python_full_version": f"{python}.0"}
    environment = {**default_environment(), **linux, **version}
    return not requirement.marker or any(requirement.marker.evaluate({**environment, "extra": e}) for e in extras)


def overrides():
    texts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["override-dependencies"]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, texts)}


@pytest.fixture
def settings(monkeypatch):
    """What setup.py tells setuptools."""
    monkeypatch.chdir(ROOT)
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path("setup.py")
    return setup.call_args.kwargs


def asked_for(settings):
    """Requirements, those of development included."""
    return [Requirement(text) for text in settings["install_requires"] + settings["extras_require"]["dev"]]


def wrong(requirement, versions):
    """Why the lock does not satisfy the requirement, or None."""
    version = versions.get(canonicalize_name(requirement.name))
    if version is None:
        return f"{requirement} is missing"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement} is locked at {version}"
    return None


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_the_ranges_of_setup(settings, python):
    versions = locked(python)
    problems = [wrong(requirement, versions) for requirement in asked_for(settings) if applies(requirement, python)]
    assert not any(problems), f"{list(filter(None, problems))}; {WAY_OUT}"


def test_the_lock_holds_what_the_installed_packages_require(settings):
    """Of those that are installed in the version that is locked."""
    python = "{}.{}".format(*sys.version_info)
    versions, replaced = locked(python), overrides()
    queue = [requirement for requirement in asked_for(settings) if applies(requirement, python)]
    seen, problems = set(), []
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name in replaced and not applies(replaced[name], python):
            continue
        if problem := wrong(requirement, versions):
            problems.append(problem)
            continue
        needs = requirements_of(name, versions[name])
        queue += [need for need in needs if applies(need, python, ("", *requirement.extras))]
    assert not problems, f"{problems}; {WAY_OUT}"
    assert len({name for name, _ in seen}) > 50


def requirements_of(name, version):
    """Of a package that is installed in that version; else nothing."""
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Requirement(text) for text in installed.requires or []] if Version(installed.version) == version else []


@pytest.mark.parametrize("name", [LOCK, ROBOMIMIC])
def test_the_lock_serves_everybody(name):
    """No registry's address, no GPU's packages."""
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith("-")]
    assert not [package for package in locked(PYTHONS[0], name) if package.startswith(("nvidia", "jax-cuda"))]


@pytest.mark.parametrize("name", [LOCK, ROBOMIMIC])
def test_every_locked_file_has_its_digest(name):
    """A line of the lock goes on, up to a comment, with nothing but digests: pip takes no file that has another."""
    text = (ROOT / name).read_text()
    entries = re.findall(r"^[a-z][^\n]*(?:\\\n    --hash=sha256:[0-9a-f]{64} ?)+$", text, re.MULTILINE)
    assert len(entries) == len(lines(name)) > 5


@pytest.mark.parametrize("python", PYTHONS)
def test_robomimics_lock_goes_on_top(python):
    """It changes nothing of the other, and the two hold what its packages require; robosuite's own list is not kept."""
    base, own = locked(python), locked(python, ROBOMIMIC)
    assert not base.keys() & own.keys()
    asked = [need for need in lines("requirements-robomimic.in") if applies(need, python)]
    others = [name for name in own if name != "robosuite"]
    needs = [need for name in others for need in requirements_of(name, own[name]) if applies(need, python)]
    problems = [wrong(need, base | own) for need in asked + needs]
    assert not any(problems), f"{list(filter(None, problems))}; {WAY_OUT}"


def test_all_of_the_library_and_nothing_else_is_packaged(settings):
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "trqam_jax").rglob("*.py")}
    assert set(settings["packages"]) == {".".join(folder.parts) for folder in folders}
    assert settings["python_requires"] == f">={PYTHONS[0]},<3.{int(PYTHONS[-1][2:]) + 1}"
