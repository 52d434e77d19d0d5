"""What Slurm is asked for, with stand-ins for its commands."""

import os
import subprocess

import pytest
from made_sweeps import kinds

from experiments.sweeps import slurm
from trqam_jax.errors import UserError

FAKES = {
    "sbatch": 'n=$(ls $FAKE/*.sh 2> /dev/null | wc -l); cp "$1" $FAKE/$n.sh; echo "Submitted batch job 1$((n + 1))"',
    "srun": "exit ${FAKE_STATUS:-0}",
    "squeue": "cat $FAKE/queue",
    "scontrol": 'echo "$*" >> $FAKE/asked',
}


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """Slurm's commands as far as a submission uses them; sbatch keeps the scripts as 0.sh, 1.sh, ..."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    return folder


def test_slurm_gets_arrays_after_their_cloning_and_nothing_twice(sweep, fake_slurm):
    lines = slurm.submit(sweep, [], [], {"time": 30, "partition": "gpu", "array_parallelism": 2})
    assert lines == [
        "submitted 11_0 to 11_1: cloning/cube, fql/maze",
        "submitted 12_0 to 12_2: trqam/cube, qam/cube, fql/cube",
    ]
    first, second = ((fake_slurm / f"{i}.sh").read_text() for i in range(2))
    for line in ("--partition=gpu", "--time=30", "--requeue", "--signal=USR1@120", "--kill-on-invalid-dep=yes"):
        assert f"#SBATCH {line}\n" in first
    assert "dependency" not in first
    assert "#SBATCH --dependency=afterok:11_0\n" in second
    assert "#SBATCH --array=0-2%2\n" in second
    (fake_slurm / "queue").write_text("11_1 PENDING\n12_0 RUNNING\n99 RUNNING\n")
    assert slurm.under_way(sweep) == {"fql/maze": "queued", "trqam/cube": "running"}
    lines = slurm.submit(sweep, ["cloning/cube"], slurm.under_way(sweep), {})
    assert lines == ["submitted 13_0 to 13_1: qam/cube, fql/cube"]
    assert "dependency" not in (fake_slurm / "2.sh").read_text()


@pytest.mark.parametrize(("status", "kind"), [(0, "waiting"), (75, "interrupted"), (1, "failed"), (137, "failed")])
def test_a_batch_script_requeues_what_checkpointed_and_writes_down_what_came(sweep, fake_slurm, status, kind):
    slurm.submit(sweep, [], [], {})
    script = fake_slurm / "1.sh"
    environment = {**os.environ, "FAKE_STATUS": str(status), "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "77"}
    assert subprocess.run(["bash", script], env=environment, check=False).returncode == status
    assert kinds(sweep)["fql/cube"] == kind
    assert (fake_slurm / "asked").exists() == (status == 75)
    if status == 75:
        assert (fake_slurm / "asked").read_text() == "requeue 77\n"


def test_a_job_whose_device_failed_is_requeued_twice(sweep, fake_slurm):
    slurm.submit(sweep, [], [], {})
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "77"}

    def asked(status):
        (fake_slurm / "asked").unlink(missing_ok=True)
        subprocess.run(["bash", fake_slurm / "1.sh"], env={**environment, "FAKE_STATUS": str(status)}, check=False)
        return (fake_slurm / "asked").exists()

    assert [asked(status) for status in (69, 69, 69, 75, 69, 1, 69)] == [True, True, False, True, True, False, True]


def test_no_array_is_larger_than_slurm_takes(sweep, fake_slurm, monkeypatch):
    monkeypatch.setattr(slurm, "MOST_IN_AN_ARRAY", 2)
    lines = slurm.submit(sweep, ["cloning/cube", "fql/maze"], [], {})
    assert lines == ["submitted 11_0 to 11_1: trqam/cube, qam/cube", "submitted 12 to 12: fql/cube"]


def test_slurm_errors_name_what_is_missing(sweep, fake_slurm, monkeypatch):
    with pytest.raises(UserError, match=r"--slurm: Unavailable parameter.*'partitoin'"):
        slurm.submit(sweep, [], [], {"partitoin": "gpu"})
    (fake_slurm / "sbatch").write_text("#!/bin/bash\necho 'invalid account' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"Slurm took no job: .*invalid account"):
        slurm.submit(sweep, [], [], {})
    (fake_slurm / "squeue").write_text("#!/bin/bash\necho 'no controller' >&2\nexit 1\n")
    (sweep.folder / "submitted.json").write_text('{"fql/maze": "1"}')
    with pytest.raises(UserError, match="squeue: no controller"):
        slurm.under_way(sweep)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="sbatch is not on this machine"):
        slurm.submit(sweep, [], [], {})
