"""The prose agrees with the code: links, flags, settings, values by domain, columns."""

import functools
import pathlib
import re

import jax
import pytest
import tiny

import agents
import envs
from experiments import cli
from experiments import config as configuration
from trqam_jax.settings import Effect

ROOT = pathlib.Path(__file__).parents[1]
METHODS = ROOT / "docs" / "methods"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "tests/golden/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
#: Names that stand for what a reader is to write.
PLACEHOLDERS = re.compile(r"NAME|mine")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
every_agent = pytest.mark.parametrize("name", agents.AGENTS)


def prose(text):
    """Without fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(path):
    """Those that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(text):
    """Cells of all lines that look like a table's."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@functools.cache
def known_flags():
    """Of all commands: the declared ones, and those that a command defines itself."""
    known = {*cli.SHARED, *configuration.flags()}
    for room in ("experiments", "envs", "benchmarks", "trqam_jax"):
        for path in (ROOT / room).rglob("*.py"):
            known |= set(re.findall(r"""DEFINE_\w+\(\s*"(\w+)"|add(?:_argument)?\(\s*"--(\w+)\"""", path.read_text()))
    return {name for found in known for name in (found if isinstance(found, tuple) else (found,)) if name}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@every_page
def test_files_that_are_named_exist(page):
    rooms = "trqam_jax|agents|envs|experiments|benchmarks|tests|docs"
    named = re.findall(rf"(?<![\w/.])(?:{rooms})/[\w/]+\.\w+", page.read_text())
    missing = [name for name in named if not PLACEHOLDERS.search(name) and not (ROOT / name).exists()]
    assert not missing


@every_page
def test_flags_that_are_named_exist(page):
    text = re.sub(r"pip install [^\n`]*", "", page.read_text())  # those flags are pip's
    named = set(re.findall(r"(?<![\w-])--(\w+)", text)) - {"config"}
    unknown = {name for name in named if name not in known_flags() and name.removeprefix("no") not in known_flags()}
    assert not unknown
    keys = {key for name in agents.AGENTS for key in configuration.declared(name)} | {"x", "agent.anything"}
    settings = re.findall(r"--config\.([\w.]*\w)", text)
    assert not [key for key in settings if key not in keys and not re.search("[A-Z]", key)]


@every_page
def test_numbers_have_their_leading_zero(page):
    assert not re.findall(r"(?<![\w.)\]/*-])\.\d+", prose(page.read_text()))


def test_every_method_has_its_page_and_its_place_in_the_table():
    pages = {path.stem for path in METHODS.glob("*.md")} - {"README"}
    assert pages == set(agents.AGENTS)
    for index in (ROOT / "README.md", METHODS / "README.md"):
        linked = set(re.findall(r"\[(\w+)\]\((?:docs/methods/)?\1\.md\)", index.read_text()))
        assert linked >= set(agents.AGENTS), index


@every_agent
def test_a_methods_page_has_its_own_settings(name):
    own = {key: setting for key, setting in agents.settings(name).items() if agents.SHARED.get(key) != setting}
    defaults = {row[0]: row[1] for row in rows((METHODS / f"{name}.md").read_text()) if len(row) == 3}
    for key, setting in own.items():
        if setting.effect is Effect.RESULT:
            expected = "none" if setting.default is None else f"`{setting.default}`"
            assert defaults.get(f"`{key}`") == expected


@every_agent
def test_a_methods_page_has_its_values_by_domain(name):
    """A table whose head is "domain" and settings; what the suites set and the page lacks is found, too."""
    text = (METHODS / f"{name}.md").read_text()
    _, head, table = text.partition("| domain | ")
    keys = re.findall(r"`(\w+)`", table.partition("\n")[0])
    shown = {}
    for domain, *values in rows(head + table.partition("\n\n")[0])[1:]:
        shown |= {(domain, key): float(value) for key, value in zip(keys, values, strict=True)}
    for protocol in ("trqam", "qam"):
        expected = {}
        for domain in envs.DOMAINS.values():
            for key, value in envs.settings(domain, protocol, name).items():
                section, _, setting = key.rpartition(".")
                if section == "agent" and setting in agents.AGENTS[name].SETTINGS:
                    expected[domain.name, setting] = value
        assert shown == expected


@every_agent
def test_a_methods_page_names_its_columns(name):
    agent = tiny.agent(name)
    _, info = jax.eval_shape(lambda: agent.update(tiny.batch(), jax.random.key(2)))
    columns = (METHODS / f"{name}.md").read_text().partition("## Columns of train.csv")[2]
    assert {row[0] for row in rows(columns)[1:]} == {f"`{key}`" for key in info}


def test_every_figure_is_in_the_table_of_figures():
    from experiments.analysis.figures import FIGURES

    shown = {row[0] for row in rows((ROOT / "docs" / "tables_and_figures.md").read_text())}
    assert {f"`{name}`" for name in FIGURES} <= shown
