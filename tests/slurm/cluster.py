"""A Slurm of one node on this machine's loopback: python tests/slurm/cluster.py FOLDER runs it until Ctrl-C.

Debian's slurm-wlm and munge suffice; nothing of it is configured or started outside the folder. A job in the partition
`high` preempts those of `low`, the default one, and Slurm queues these again.
"""

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")

CONFIGURATION = """
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=60
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes=localhost Default=YES PriorityTier=1
PartitionName=high Nodes=localhost PriorityTier=2
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    commands = [command for command in COMMANDS if shutil.which(command) is None]
    if commands:
        return f"{', '.join(commands)} not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """The cluster, in an empty folder; yields the environment in which Slurm's commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    ports = [_free_port(), _free_port()]
    text = CONFIGURATION.format(folder=folder, controller_port=ports[0], node_port=ports[1])
    (folder / "slurm.conf").write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D", "-N", "localhost"],
    ]
    processes: list[subprocess.Popen] = []
    try:
        for command in commands:
            output = (folder / f"{command[0]}.out").open("w")
            with output:
                processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
            time.sleep(1)
        _wait_until_idle(environment, processes, folder)
        yield environment
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_idle(environment: dict[str, str], processes: list[subprocess.Popen], folder: pathlib.Path) -> None:
    for _ in range(60):
        command = ["sinfo", "--noheader", "--format=%T"]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if "idle" in answer.stdout:
            return
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.5)
    raise RuntimeError(f"the cluster did not come up; its logs are in {folder}")


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1]).resolve()
    place.mkdir(mode=0o755, parents=True)
    with running(place), contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={place}/slurm.conf", flush=True)
        signal.pause()
