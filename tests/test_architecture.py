"""The one sentence of the architecture, enforced: who may import whom."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = {"trqam_jax", "agents", "envs", "experiments", "benchmarks"}
MAY_IMPORT = {
    "trqam_jax": {"trqam_jax"},
    "agents": {"agents", "trqam_jax"},
    "envs": {"envs", "trqam_jax"},
}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in ROOMS)


def test_imports_go_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports {room}"
        for folder, allowed in MAY_IMPORT.items()
        for path in (ROOT / folder).rglob("*.py")
        for room in imported_rooms(path)
        if room not in allowed
    ]
    assert not wrong, wrong


def test_only_networks_imports_linen():
    users = {p.name for p in (ROOT / "trqam_jax").rglob("*.py") if "linen" in p.read_text().replace("# linen", "")}
    users |= {p.name for p in (ROOT / "agents").rglob("*.py") if "linen" in p.read_text()}
    assert users == {"networks.py"}


def test_what_workers_import_never_imports_jax():
    """Spawned workers import these and the main module; a worker with JAX would take a second and 300 MB more."""
    modules = "envs.vector.slots, envs.vector.actors, envs.ogbench.files, envs.ogbench.generate, experiments.main"
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
