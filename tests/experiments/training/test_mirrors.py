"""Mirrors."""

import sys
import types

from experiments.training.mirrors import Mirrors


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
