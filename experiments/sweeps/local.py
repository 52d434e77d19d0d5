"""The jobs of a sweep on this machine, some at a time. Imports no JAX."""

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from experiments.cli import EXIT_DEVICE_FAILED, EXIT_INTERRUPTED
from experiments.sweeps import attempt, logs
from experiments.sweeps.manifest import Job, Sweep
from experiments.training import interrupt

POLL_SECONDS = 0.1
ENDS = {0: "done", EXIT_INTERRUPTED: "interrupted", EXIT_DEVICE_FAILED: "its device failed:"}  # by exit status
MOST_FAILURES = 2  # of a device, in a row, before it gets no further job
Say = Callable[[str], None]
Environment = Mapping[str, str]


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA names them: -1 hides itself and what stands behind it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in itertools.takewhile(lambda gpu: gpu.strip() != "-1", named.split(",")) if gpu]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def environments(count: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Of `count` jobs at a time: the GPUs in turn; a job has several, or several jobs share one. Without GPUs each has
    processors of its own as long as there are enough: two small networks on a processor each make 1.7 times the updates
    of one on both."""
    if not gpus:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        if not 1 < count <= len(cores):
            return [{} for _ in range(count)]
        return [{attempt.PROCESSORS: ",".join(map(str, cores[i::count]))} for i in range(count)]
    result = [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i::count] or [gpus[i % len(gpus)]])} for i in range(count)]
    sharing = -(-count // len(gpus))
    if sharing > 1 and not {"XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"} & os.environ.keys():
        for environment in result:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.2f}"
    return result


def run(sweep: Sweep, done: Collection[str], environments: Sequence[Environment], say: Say) -> None:
    """Run the sweep's jobs, as many at a time as there are environments, each after the jobs that it names.

    done: names of jobs that need not run. One that fails stops none but those that come after it. One whose device
    failed is started again behind the others, until it has been MOST times; an environment whose device failed
    MOST_FAILURES times in a row gets no further job. A signal makes all of them checkpoint and stop, and raises
    Interrupted when they have.
    """
    pool = _Pool(sweep, done, environments, say)
    with interrupt.watched():
        while pool.has_work():
            if interrupt.pending():
                pool.stop()
            pool.start_ready()
            time.sleep(POLL_SECONDS)
            pool.collect_ended()
    pool.say_what_waits()


@dataclasses.dataclass
class _Place:
    """Where one job at a time can run."""

    environment: Environment
    failures: int = 0  # of its device, since a job came to its end there

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.environment.items())


class _Pool:
    """Jobs that wait, that run, and that are done, and the places that are free."""

    def __init__(self, sweep: Sweep, done: Collection[str], environments: Sequence[Environment], say: Say):
        self._sweep, self._say = sweep, say
        self._done = set(done)
        self._waiting = dict(sweep.jobs)
        self._running: dict[str, tuple[subprocess.Popen, _Place]] = {}
        self._free = [_Place(environment) for environment in environments]
        self._attempts: Counter[str] = Counter()  # whose device failed
        self._stopping = False

    def has_work(self) -> bool:
        """Whether a job runs, or could."""
        return bool(self._running or (self._free and self._ready()))

    def _ready(self) -> list[str]:
        return [name for name, job in self._waiting.items() if set(job.after) <= self._done]

    def start_ready(self) -> None:
        """Start as many jobs as there are free places."""
        for name in self._ready()[: len(self._free)]:
            place = self._free.pop(0)
            self._running[name] = _start(self._sweep, self._waiting.pop(name), place.environment), place
            self._say(f"started {name} {place}".rstrip())

    def stop(self) -> None:
        """Ask every job that runs to checkpoint and stop, once, and start no other."""
        if self._stopping:
            return
        self._say(f"{len(self._running)} job(s) are asked to checkpoint and stop")
        self._stopping = True
        self._waiting.clear()
        for process, _ in self._running.values():
            process.terminate()

    def collect_ended(self) -> None:
        """Write down how jobs ended, and free their places."""
        for name, (process, place) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                self._end(name, process.returncode)
                self._free_place(place, process.returncode)
                if process.returncode == EXIT_DEVICE_FAILED:
                    self._start_again(name)

    def _free_place(self, place: _Place, status: int) -> None:
        if status == 0:
            place.failures = 0
        if status == EXIT_DEVICE_FAILED:
            place.failures += 1
        if place.failures < MOST_FAILURES:
            self._free.append(place)
        else:
            where = str(place) or "this machine"
            self._say(f"no further job gets {where}: its device failed {place.failures} times in a row")

    def _start_again(self, name: str) -> None:
        """Behind the others, unless it has had its attempts."""
        self._attempts[name] += 1
        if self._attempts[name] < attempt.MOST and not self._stopping:
            self._waiting[name] = self._sweep.jobs[name]

    def say_what_waits(self) -> None:
        """A line if there are jobs, and no place for them."""
        ready = self._ready()
        if ready and not self._stopping:
            self._say(f"{len(ready)} job(s) wait for a device; `retry` starts them: {', '.join(ready)}")

    def _end(self, name: str, status: int) -> None:
        if self._stopping and status == -signal.SIGTERM:  # before it had come to listen for signals: nothing is lost
            status = EXIT_INTERRUPTED
        with self._sweep.log(name).open("a") as log:
            log.write(logs.end_line(status))
        if status == 0:
            self._done.add(name)
        self._say(f"{ENDS.get(status, 'failed')} {name}")


def _start(sweep: Sweep, job: Job, environment: Environment) -> subprocess.Popen:
    """In a session of its own: Ctrl-C at the terminal reaches the pool alone, which passes it on."""
    sweep.log(job.name).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, attempt.__file__, str(sweep.folder), job.name]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, start_new_session=True
    )
