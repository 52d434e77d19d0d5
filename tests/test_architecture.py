"""The one sentence of the architecture, enforced: who may import whom, and who may name what."""

import ast
import collections
import pathlib
import re
import subprocess
import sys

import envs

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = {"trqam_jax", "agents", "envs", "experiments", "benchmarks"}
MAY_IMPORT = {
    "trqam_jax": {"trqam_jax"},
    "agents": {"agents", "trqam_jax"},
    "envs": {"envs", "trqam_jax"},
}


#: What a suite's package alone may name: the suite and the distributions that it brings.
SUITE_WORDS = [(word, name) for name, suite in envs.SUITES.items() for word in (name, *suite.packages)]
FLAG = re.compile(r"(?<![\w-])--[a-z]\w*")


def modules(*rooms):
    """{module: its path} of everything in the rooms."""
    paths = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(tree):
    """Full names of what the nodes import: modules, and what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def docstrings(tree):
    """The nodes of strings that document."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            yield body[0].value


def words(tree):
    """(line, text) of every string but docstrings, and of every name."""
    documenting = set(map(id, docstrings(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documenting:
            yield node.lineno, node.value
        for field in ("id", "attr", "arg", "name", "module", "asname"):
            if isinstance(getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), getattr(node, field)


def parse(path):
    return ast.parse(path.read_text())


def test_imports_go_one_way():
    wrong = [
        f"{module} imports {name}"
        for folder, allowed in MAY_IMPORT.items()
        for module, path in modules(folder).items()
        for name in imports(parse(path))
        if (room := name.split(".")[0]) in ROOMS and room not in allowed
    ]
    assert not wrong, wrong


def test_no_imports_go_in_a_circle():
    """Of modules, by the statements that are executed when they are imported."""
    known = modules(*ROOMS)
    edges = collections.defaultdict(set)
    for module, path in known.items():
        tree = parse(path)
        tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        for node in tree.body:
            names = set(imports(node)) & known.keys()
            # `from package import module` needs the module, not what else the package's own file imports.
            edges[module] |= names - {getattr(node, "module", None)} or names
        edges[module] -= {module}
    circles = []

    def follow(module, way):
        if module in way:
            circles.append(" -> ".join([*way[way.index(module) :], module]))
        elif module not in done:
            for name in edges[module]:
                follow(name, [*way, module])
            done.add(module)

    done = set()
    for module in known:
        follow(module, [])
    assert not circles, circles


def test_only_its_own_package_names_a_suite():
    """Neither by strings nor by names; envs/__init__.py does once, in the list of packages, and a benchmark's list of
    tasks holds the names of domains."""
    wrong = []
    for module, path in modules("trqam_jax", "agents", "envs", "experiments").items():
        for line, text in words(parse(path)):
            for word in {word for word, _ in SUITE_WORDS if word in text.lower()}:
                suites = {suite for of_suite, suite in SUITE_WORDS if of_suite == word}  # two may bring one package
                listed = module == "envs" and text in suites
                listed |= module == "experiments.small_benchmark.design" and text in envs.DOMAINS
                if not listed and not any(module.startswith(f"envs.{suite}") for suite in suites):
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {word}: {text!r:.80}")
    assert not wrong, "\n".join(wrong)
    (listed,) = (ast.literal_eval(node.value) for node in parse(ROOT / "envs" / "__init__.py").body
                 if isinstance(node, ast.Assign) and node.targets[0].id == "_PACKAGES")  # fmt: skip
    assert listed == tuple(envs.SUITES)


def test_suites_know_neither_each_other_nor_the_workers_a_suite():
    for module, path in modules("envs").items():
        for suite in envs.SUITES:
            if not module.startswith(f"envs.{suite}"):
                assert not [name for name in imports(parse(path)) if name.startswith(f"envs.{suite}")], module


def own_flags(tree):
    """Flags that a module defines: it is a command itself, or what commands parse by."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    first = [call.args[0] for call in calls if call.func.attr == "add_argument" and call.args]
    flags = {one.value for one in first if isinstance(one, ast.Constant) and one.value.startswith("--")}
    parsers = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and "ArgumentParser" in bases_of(node)]
    return {*flags, "--help"} if flags or parsers else flags


def bases_of(node):
    """The last names of a class's bases."""
    return {ast.unparse(base).rpartition(".")[2] for base in node.bases}


def test_the_library_names_no_command_line_flag():
    """Nor do the worker processes: how a value was given is the command's business, and so is a message about it."""
    wrong = []
    for room in ("trqam_jax", "agents", "envs/vector"):
        for path in modules(room).values():
            own = own_flags(parse(path))
            for node in ast.walk(parse(path)):
                text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
                flags = [flag for flag in FLAG.findall(text) if flag not in own]
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {flag}" for flag in flags]
    assert not wrong, "\n".join(wrong)


def test_only_networks_imports_linen():
    users = {p.name for p in (ROOT / "trqam_jax").rglob("*.py") if "linen" in p.read_text().replace("# linen", "")}
    users |= {p.name for p in (ROOT / "agents").rglob("*.py") if "linen" in p.read_text()}
    assert users == {"networks.py"}


def test_what_workers_import_never_imports_jax():
    """Spawned workers import these and the main module; a worker with JAX would take a second and 300 MB more."""
    own = ["envs", "envs.vector.slots", "envs.vector.actors", "envs.commands", "experiments.main"]
    own += [module for module in modules("envs") if module.split(".")[1:2] and module.split(".")[1] in envs.SUITES]
    code = f"import sys, {', '.join(own)}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
