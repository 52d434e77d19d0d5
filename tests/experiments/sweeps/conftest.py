"""A sweep of stand-ins."""

import pytest
from made_sweeps import STAND_IN, job

from experiments.sweeps import manifest
from experiments.sweeps.manifest import Sweep


@pytest.fixture
def sweep(tmp_path):
    """A cloning, three methods after it, and a domain without one."""
    folder = manifest.folder_of(str(tmp_path), "g")
    where = [f"--out_dir={tmp_path}", "--group=g"]
    jobs = [job("cloning/cube", argv=where)]
    jobs += [job(f"{agent}/cube", ["cloning/cube"], argv=where) for agent in ("trqam", "qam", "fql")]
    jobs += [job("fql/maze", argv=where)]
    result = Sweep(folder, STAND_IN, str(tmp_path), {job.name: job for job in jobs})
    manifest.write(result)
    return result
