"""A leading ~ is the home folder wherever a path is given; in --out=~/x the shell leaves it as it is."""

import importlib
import pathlib

import pytest

from experiments import config as configuration
from experiments.sweeps import manifest
from experiments.training import policies_by_name
from experiments.training.stages import FINE_TUNING
from trqam_jax import console

#: Every command that reads its arguments by `console.Parser` and takes a path.
COMMANDS = {
    "experiments.exact": ["--out=~/x"],
    "experiments.export": ["~/a", "~/b", "--out=~/x"],
    "experiments.figures": ["~/a", "~/b", "--out=~/x"],
    "experiments.policy": ["export", "~/a", "--out=~/x"],
    "experiments.report": ["~/a", "--out=~/x"],
    "experiments.small": ["show", "--out=~/x"],
    "experiments.table": ["~/a", "~/b"],
    "envs.ogbench.convert": ["~/a", "--env=cube-double"],
    "trqam_jax.interop.checkpoints": ["~/a", "~/x"],
}


class Parsed(Exception):
    """Instead of what a command would do."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def parsed(module, arguments, monkeypatch):
    parse = console.Parser.parse_args

    def stop(*given):
        raise Parsed(parse(*given))

    monkeypatch.setattr(console.Parser, "parse_args", stop)
    with pytest.raises(Parsed) as raised:
        importlib.import_module(module).main(arguments)
    return vars(raised.value.args[0])


@pytest.mark.parametrize("module", COMMANDS)
def test_commands(module, home, monkeypatch):
    found = parsed(module, COMMANDS[module], monkeypatch)
    values = [one for value in found.values() for one in (value if isinstance(value, list) else [value])]
    paths = [one for one in values if isinstance(one, pathlib.Path)]
    assert len(paths) == sum("~" in argument for argument in COMMANDS[module])
    assert {path.parent for path in paths} == {home}


def test_no_command_is_left_out():
    root = pathlib.Path(__file__).parents[2]
    folders = [root / name for name in ("experiments", "envs", "trqam_jax", "agents")]
    with_paths = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for folder in folders
        for path in folder.rglob("*.py")
        if "type=pathlib.Path" in path.read_text()
    }
    assert with_paths == set(COMMANDS)


def test_settings_of_a_run(home):
    settings = {"run.out_dir": "~/runs", "run.group": "g", "bc.checkpoint": "~/bc", "bc.steps": 0}
    config = configuration.resolve(agent="trqam", env="cube-single-task1", protocol="quick", settings=settings)
    assert FINE_TUNING.folder(config).parent == home / "runs" / "g" / "cube-single"
    assert policies_by_name.folder(config) == home / "bc"
    assert manifest.folder_of("~/runs", "g") == home / "runs" / "g" / "sweep"


def test_without_such_a_home_the_error_says_so(capsys):
    with pytest.raises(SystemExit, match="--out: ~nobody-of-that-name/x: there is no such home folder here"):
        importlib.import_module("experiments.exact").main(["--out=~nobody-of-that-name/x"])
    assert not capsys.readouterr().out
