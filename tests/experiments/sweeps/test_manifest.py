"""A sweep's manifest."""

import json

import pytest
from made_sweeps import job

from experiments.sweeps import manifest
from experiments.sweeps.merge import merged
from trqam_jax.errors import UserError


def test_a_manifest_is_read_as_it_was_written_and_grows(sweep):
    assert manifest.read(sweep.folder) == sweep
    assert merged(sweep) == sweep
    more = sweep._replace(jobs={"qam/maze": job("qam/maze")})
    assert list(merged(more).jobs) == [*sweep.jobs, "qam/maze"]
    changed = sweep._replace(jobs={"fql/maze": job("fql/maze", argv=["--offline_steps=7"])})
    with pytest.raises(UserError, match=r"fql/maze with .*, not with --offline_steps=7; choose another --group"):
        merged(changed)
    (sweep.folder / "manifest.json").write_text('{"program": "", "cwd": "", "jobs": [{"name": "x"}]}')
    with pytest.raises(UserError, match="damaged"):
        manifest.read(sweep.folder)
    with pytest.raises(UserError, match="there is no sweep"):
        manifest.read(sweep.folder / "elsewhere")


def test_a_sweep_that_was_moved_keeps_its_runs_beside_it(sweep, tmp_path):
    root = sweep.folder.parent.rename(tmp_path / "elsewhere")
    moved = manifest.read(root / "sweep")
    for job_ in moved.jobs.values():
        assert {f"--out_dir={tmp_path}", "--group=elsewhere"} <= set(job_.argv)
        assert "--group=g" not in job_.argv
    same = {name: job_.argv[:3] for name, job_ in sweep.jobs.items()}
    assert {name: job_.argv[:3] for name, job_ in moved.jobs.items()} == same


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda jobs: jobs.append(jobs[1]), "two jobs are called trqam/cube"),
        (lambda jobs: jobs[1].update(after=["cloning/cub"]), "trqam/cube comes after 'cloning/cub', and no such job"),
        (lambda jobs: jobs[0].update(after=["trqam/cube"]), "cloning/cube comes after 'trqam/cube', and no such job"),
    ],
)
def test_an_edited_manifest_has_no_job_twice_and_none_that_waits_for_nothing(sweep, edit, words):
    path = sweep.folder / "manifest.json"
    content = json.loads(path.read_text())
    edit(content["jobs"])
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        manifest.read(sweep.folder)
