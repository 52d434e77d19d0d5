"""Become a job of a sweep: python experiments/sweeps/attempt.py SWEEP_FOLDER NAME. Imports no JAX.

The process is replaced by the run, so that whoever started it hears the run's own exit status, and a signal to it
reaches the run itself, once.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # a checkout works without being installed

from experiments.sweeps import logs, manifest

PROCESSORS = "TRQAM_JAX_PROCESSORS"  # environment variable: numbers of the processors that the run may use, as 0,2
#: How often a job whose device fails is started, before it is one that has failed.
MOST = 3


def become(folder: str, name: str) -> None:
    """Write the output to the job's log, and run it; does not return."""
    sweep = manifest.read(pathlib.Path(folder))
    command = [sys.executable, "-u", sweep.program, *sweep.jobs[name].argv]
    descriptor = os.open(sweep.log(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    with open(descriptor, "wb", closefd=False) as file:  # which writes again what the system takes only in parts
        file.write(os.fsencode(logs.start_line(command)))
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if numbers := os.environ.get(PROCESSORS):
        os.sched_setaffinity(0, map(int, numbers.split(",")))
    os.chdir(sweep.cwd)
    os.execv(command[0], command)


if __name__ == "__main__":
    become(*sys.argv[1:])
