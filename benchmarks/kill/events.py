"""What is done to a process: signals, failing calls, a clock that jumps, dead workers, a second process elsewhere."""

import contextlib
import errno
import os
import pathlib
import random
import re
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.kill import faults, scenes
from benchmarks.kill.faults import Action, Call
from benchmarks.kill.places import Where, of_file
from benchmarks.kill.process import Circumstances, Process, running_in

INTERRUPTED = 75  # the exit status of a run that a signal stopped


class Event(NamedTuple):
    """A row of the campaign's table, but for its outcome."""

    kind: str
    place: str
    moment: str
    happened: str


class Kind(NamedTuple):
    """A kind of event. ends: whether the process is to end by it. needs: of a scene's kinds, those that it fits."""

    name: str
    ends: bool
    needs: tuple[str, ...] = ("run", "sweep", "files")
    circumstances: Callable[[random.Random], Circumstances] | None = None  # which are the event


class Failure(NamedTuple):
    """What a failing call of a kind is: its errno, the calls, and how many of them (-1: all from then on)."""

    action: Action
    calls: Call
    number: int
    times: int


FAILURES = {
    "ENOSPC": Failure(Action.FAIL, faults.SPACE, errno.ENOSPC, -1),
    "EDQUOT": Failure(Action.FAIL, faults.SPACE, errno.EDQUOT, -1),
    "EIO, writing": Failure(Action.FAIL, Call.WRITE | Call.SYNC, errno.EIO, 1),
    "EIO, reading": Failure(Action.FAIL, Call.READ, errno.EIO, 1),
    "EROFS": Failure(Action.FAIL, faults.CHANGE, errno.EROFS, -1),
    "short writes": Failure(Action.SHORT, Call.WRITE, 0, 5),
    "short reads": Failure(Action.SHORT, Call.READ, 0, 5),
    "SIGKILL in a call": Failure(Action.SIGNAL, faults.SAVING, signal.SIGKILL, 1),
    "ENOLCK": Failure(Action.FAIL, Call.LOCK, errno.ENOLCK, -1),
}
SIGNALS = {name: signal.Signals[name] for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGUSR1")}
KINDS = {
    kind.name: kind
    for kind in (
        *(Kind(name, True) for name in SIGNALS),
        *(Kind(f"{name}, group", True) for name in SIGNALS),
        *(Kind(name, True) for name in ("ENOSPC", "EDQUOT", "EIO, writing", "EROFS", "SIGKILL in a call")),
        Kind("EIO, reading", True, ("run",)),
        Kind("a worker killed", True, ("run",)),
        Kind("a job killed", True, ("sweep",)),
        Kind("a worker hangs", True, ("run",), lambda draw: Circumstances(worker_timeout=20.0)),
        Kind("ulimit -n", True, circumstances=lambda draw: Circumstances(most_files=draw.randint(8, 110))),
        Kind("ulimit -u", True, circumstances=lambda draw: Circumstances(most_processes=draw.randint(1, 60))),
        Kind("SIGSTOP, SIGCONT", False),
        Kind("short writes", False),
        Kind("short reads", False),
        Kind("the clock jumps back", False),
        Kind("two hosts", False, ("run",)),
        Kind("two hosts, locks not honoured", False, ("run",)),
        Kind(
            "a dead host's lock", False, ("run", "files"), lambda draw: Circumstances(host=f"gpu{draw.randint(1, 99)}")
        ),
        Kind("ENOLCK", False, ("run", "files")),
        Kind("a full /dev/shm", False, circumstances=lambda draw: Circumstances(shared_memory_full=True)),
    )
}


class Target(NamedTuple):
    """A process and all that an event needs to know of it. where: is read anew at each call."""

    process: Process
    folder: pathlib.Path
    harm: faults.Faults
    where: Callable[[], Where]
    second: Callable[[Circumstances, bool], tuple[int | None, str]]  # another of the same command: (status, output)


def carry_out(kind: Kind, target: Target, draw: random.Random) -> Event | None:
    """Do it now; None if it did not come to pass."""
    process, now = target.process, target.where()
    name = kind.name.removesuffix(", group")
    if name in SIGNALS:
        process.send(SIGNALS[name], group=kind.name != name)
        return Event(kind.name, now.place, str(now), "sent")
    if name in FAILURES:
        return _fail(kind, FAILURES[name], target, now, draw)
    if name in ("a worker killed", "a worker hangs"):
        workers = process.workers()
        if not workers or process.poll() is not None:
            return None
        kill(draw.choice(workers), signal.SIGKILL if name == "a worker killed" else signal.SIGSTOP)
        return Event(name, now.place, str(now), f"one of {len(workers)} workers")
    if name == "a job killed":
        jobs = running_in(target.folder)
        if not jobs or process.poll() is not None:
            return None
        kill(draw.choice(jobs), draw.choice((signal.SIGKILL, signal.SIGTERM)))
        return Event(name, now.place, str(now), f"one of {len(jobs)}")
    if name == "SIGSTOP, SIGCONT":
        process.send(signal.SIGSTOP, group=draw.random() < 0.5)
        time.sleep(draw.random() * 0.5)
        process.send(signal.SIGCONT, group=True)
        return Event(name, now.place, str(now), "stopped and continued")
    if name == "the clock jumps back":
        seconds = draw.choice((1, 60, 3600, 86400 * 365))
        target.harm.turn_back(seconds)
        return Event(name, now.place, str(now), f"by {seconds} s")
    if name.startswith("two hosts"):
        return _second_host(kind, target, now, draw)
    raise ValueError(name)


def _fail(kind: Kind, failure: Failure, target: Target, now: Where, draw: random.Random) -> Event | None:
    """Arm it, and wait until a call was hit or the process has ended."""
    skip = draw.choice((0, 0, 1, 3, 10, 30, 80)) if kind.name != "ENOLCK" else 0
    target.harm.arm(failure.action, failure.calls, target.folder, number=failure.number, skip=skip, count=failure.times)
    patience = time.monotonic() + (240 if kind.ends else 20)
    while not target.harm.struck() and target.process.poll() is None and time.monotonic() < patience:
        now = target.where()
        time.sleep(0.01)
    time.sleep(0.05 if not kind.ends else 0)
    if not kind.ends:
        target.harm.control.active = 0
    hit = target.harm.struck()
    if not hit:
        return None
    call, _, path = hit.partition(" ")
    place = of_file(path, now) if now.place not in ("sweep", "download", "generation") else now
    return Event(kind.name, place.place, str(place), f"{call} {pathlib.PurePath(path).name}")


def _second_host(kind: Kind, target: Target, now: Where, draw: random.Random) -> Event | None:
    if target.process.poll() is not None or not any(target.folder.glob("default/*/*/lock")):
        return None
    dishonoured = kind.name != "two hosts"
    status, text = target.second(Circumstances(host=f"gpu{draw.randint(100, 199)}"), dishonoured)
    if target.process.poll() is not None:
        return None  # it ended meanwhile, so that the second had every right
    last = text.strip().splitlines()[-1] if text.strip() else ""
    refused = status == 1 and last.startswith("error: ") and "is being written by" in last and "Traceback" not in text
    return Event(
        kind.name, now.place, str(now), "refused" if refused else f"NOT REFUSED: status {status}: {last[:200]}"
    )


def kill(pid: int, number: int) -> None:
    """A signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def ended_well(kind: Kind | None, scene: scenes.Scene, process: Process, happened: Event | None) -> str:
    """Whether a process may end with this status and output after what was done to it: "" or what is wrong."""
    status, text = process.status, process.text()
    name = kind.name.removesuffix(", group") if kind else ""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    if status == 0:
        return ""
    if (
        scene.kind == "sweep"
        and status == 1
        and re.search(r"^\S+: 3 jobs, .*\d (running|failed|interrupted)", text, re.M)
    ):
        return ""  # a job that a killed pool left, or that was killed itself; its log says more
    if "Traceback (most recent call last)" in text:
        return f"a traceback: {last[:300]}"
    if kind is None or happened is None or not (kind.ends or kind.name == "a full /dev/shm"):
        return f"status {status} for no reason: {last[:300]}"
    if name in SIGNALS:
        return _ended_by_signal(SIGNALS[name], scene, status, last)
    if name == "SIGKILL in a call":
        return "" if status == -signal.SIGKILL else f"status {status}: {last[:300]}"
    last = next((line for line in reversed(text.splitlines()[-4:]) if "error: " in line), last)  # threads print, too
    clear = status == 1 and "error: " in last
    if name.startswith("a worker"):
        words = "died with exit code -9" if name == "a worker killed" else "has not answered for"
        clear = clear and words in last
    return "" if clear else f"status {status}: {last[:300]}"


def _ended_by_signal(number: signal.Signals, scene: scenes.Scene, status: int | None, last: str) -> str:
    allowed = {-number}
    if number == signal.SIGINT:
        allowed.add(130)
    if number != signal.SIGKILL and scene.kind != "files":
        allowed.add(INTERRUPTED)
    if status not in allowed:
        return f"status {status} after {number.name}: {last[:300]}"
    if status == INTERRUPTED and "interrupted by" not in last and scene.kind == "run":
        return f"its last line: {last[:300]}"
    return ""
