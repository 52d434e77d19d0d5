"""A sweep's manifest."""

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
