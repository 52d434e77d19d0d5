"""A sweep that is asked for again."""

import shutil

import pytest
from made_sweeps import ROOT, methods, request

from experiments.sweeps import manifest
from experiments.sweeps.manifest import Sweep
from experiments.sweeps.merge import merged
from experiments.sweeps.plan import expand
from trqam_jax.errors import UserError


def asked(folder, agent="trqam", flags=(), **own):
    where = {"out_dir": str(folder.parents[1]), "group": folder.parent.name}
    return Sweep(folder, "p", "c", expand(request(agents=[agent], flags={**where, **dict(flags)}, **own)))


def swept(folder, **values):
    return asked(folder, overrides={f"agent.{key}": text for key, text in values.items()})


def test_a_sweep_does_not_train_a_value_twice(tmp_path):
    manifest.write(merged(swept(tmp_path, kl_budget="0.5,1")))
    for overlapping in ("0.5,1,2", "1,3"):
        with pytest.raises(UserError, match=r"kl_budget=0.5,1.0, with kl_budget=.*1.0 already"):
            merged(swept(tmp_path, kl_budget=overlapping))
    with pytest.raises(UserError, match=r"with kl_budget=1.0 already"):
        merged(swept(tmp_path, kl_budget="1"))
    replicas = [job.replicas for job in methods(merged(swept(tmp_path, kl_budget="2,3")).jobs)]
    assert replicas == [2 * 3 * 2] * 2
    assert merged(swept(tmp_path, kl_budget="1,0.5")) == manifest.read(tmp_path)


def test_products_overlap_where_all_their_settings_do(tmp_path):
    manifest.write(merged(swept(tmp_path, kl_budget="0.5,1", eta="1,2")))
    for other in (dict(kl_budget="1,3", eta="2,4"), dict(kl_budget="1,3", eta="2"), dict(kl_budget="1", eta="1")):
        with pytest.raises(UserError, match=r"with eta=.*, kl_budget=1.0 already; ask for the others alone"):
            merged(swept(tmp_path, **other))
    for other in (dict(kl_budget="2,3", eta="1,2"), dict(kl_budget="0.5,1", eta="3,4"), dict(kl_budget="1", eta="3")):
        assert len(merged(swept(tmp_path, **other)).jobs) == 3
    assert len(merged(swept(tmp_path, kl_budget="0.5,1", eta="1,2", rho="0,0.1")).jobs) == 3


def test_the_default_is_a_value_too(tmp_path):
    manifest.write(merged(asked(tmp_path, agent="qam")))
    (job,) = methods(manifest.read(tmp_path).jobs)
    default = job.settings["agent.inv_temp"]
    with pytest.raises(UserError, match=f"inv_temp={default} already"):
        merged(asked(tmp_path, agent="qam", overrides={"agent.inv_temp": f"{default},{2 * default}"}))


def test_a_manifest_of_version_0_1_is_continued(tmp_path):
    """Its arguments are in another order, and its jobs lack the settings that are younger."""
    shutil.copy(ROOT / "tests" / "golden" / "sweep_manifest.json", tmp_path / "manifest.json")
    flags = {"bc_steps": 20, "dataset": "generate", "offline_steps": 40}
    again = lambda budgets: asked(
        tmp_path,
        flags=flags,
        overrides={"agent.kl_budget": budgets, "agent.hidden_dims": "8,8"},
        max_replicas=8,
    )
    old, new = manifest.read(tmp_path), again("0.5,1")
    assert [*old.jobs] == [*new.jobs]
    assert old.jobs != new.jobs
    assert merged(new) == new
    with pytest.raises(UserError, match=r"with kl_budget=1.0 already"):
        merged(again("1,2"))
