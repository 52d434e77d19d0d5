"""What SECURITY.md says is never done: no statement of the code runs what a file holds, or hands a text to a shell."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("trqam_jax", "agents", "envs", "experiments", "benchmarks", ".ci")
#: Modules that load what programs can hide in.
RUNNING = {"dill", "cloudpickle", "joblib", "marshal", "shelve", "torch", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"}
CALLS |= {"subprocess.getstatusoutput", "pandas.read_pickle", "pd.read_pickle", "runpy.run_path", "runpy.run_module"}
#: The one reader of pickles, which looks up no name; and a worker, of whose own error it is asked whether it survives.
ALLOWED = {("envs/vector/workers.py", "pickle.loads")}


def dangers(text):
    """What in the code of a module may run what it reads."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in RUNNING)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {*RUNNING, "pickle", "_pickle"}:
            yield f"from {node.module} import"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
            yield ast.unparse(node)
        if isinstance(node, ast.Call):
            yield from of_call(node)


def of_call(call):
    name, given = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name in CALLS:
        yield name
    if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
        yield f"{name} without allow_pickle=False"
    if given.get("shell", "False") != "False":
        yield f"{name} with shell={given['shell']}"


def test_nothing_runs_what_it_reads():
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(paths) > 100
    found = {(str(path.relative_to(ROOT)), danger) for path in paths for danger in dangers(path.read_text())}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "from pickle import load",
        "import yaml",
        "from torch import load",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "pd.read_pickle(path)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
    ],
)
def test_each_danger_is_seen(line):
    assert [*dangers(line)]


def test_it_is_said_where_people_look():
    """Every file of the code that SECURITY.md names is there."""
    words = (ROOT / "SECURITY.md").read_text().replace("`", " ").split()
    named = [word for word in words if word.endswith(".py") and "/" in word]
    assert len(named) > 3
    assert not [name for name in named if not (ROOT / name).exists()]
