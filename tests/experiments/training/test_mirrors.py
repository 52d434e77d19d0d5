"""Mirrors."""

import sys
import types

from experiments.training.mirrors import Mirrors


def test_a_run_that_goes_on_is_the_same_one_in_wandb(monkeypatch, tmp_path, capsys):
    """As long as its folder is the same."""
    begun = []

    def init(**settings):
        begun.append(settings)
        return types.SimpleNamespace(id=settings.get("id", f"run-{len(begun)}"), finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, first, first, second):
        folder.mkdir(exist_ok=True)
        Mirrors(["wandb"], folder, {"a": 1}).close()
    assert capsys.readouterr().err == ""
    assert [settings.get("id") for settings in begun] == [None, "run-1", "run-1", None]
    assert [settings.get("resume") for settings in begun] == [None, "allow", "allow", None]
    (first / "wandb.json").write_text("{")
    Mirrors(["wandb"], first, {}).close()
    assert "wandb is off, the CSV files go on" in capsys.readouterr().err


def test_a_mirror_tells_replicas_apart(monkeypatch, tmp_path, capsys):
    """By task, seed and, where the rows have one, variant."""
    scalars = {}
    add = lambda _, name, value, step: scalars.update({(name, step): value})
    writer = type("SummaryWriter", (), {"__init__": lambda *_: None, "add_scalar": add, "flush": lambda _: None})
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=writer))
    row = {"env": "scene", "task": 1, "agent": "trqam", "seed": 2, "phase": "offline", "step": 3, "status": "ok"}
    mirrors = Mirrors(["tensorboard"], tmp_path, {})
    mirrors.write("train", [row | {"loss": 4.0}, *(row | {"variant": f"kl_budget={b}", "loss": b} for b in (0.5, 1.0))])
    assert capsys.readouterr().err == ""
    name = "train/offline/loss/task1-seed2"
    assert scalars == {(name, 3): 4.0, (f"{name}-kl_budget=0.5", 3): 0.5, (f"{name}-kl_budget=1.0", 3): 1.0}
