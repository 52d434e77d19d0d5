"""The log of a job: the output of its attempts, between the lines `== start` and `== end`. Imports no JAX."""

import mmap
import os
import pathlib
import platform
import re
import signal
import time
from typing import NamedTuple

from experiments.cli import EXIT_INTERRUPTED, GOES_ON

#: How much of a log's end is looked at for how an attempt ended and why, in bytes.
TAIL = 20_000


class Attempt(NamedTuple):
    """The last time that a job was started, as its log has it."""

    pid: int | None
    host: str
    status: int | None  # None: it has not ended, or nobody was left to say so
    error: str

    def is_running(self, program: str) -> bool:
        """Whether the process is there, as far as this machine can tell."""
        if self.status is not None or self.pid is None or self.host != platform.node():
            return False
        try:
            return os.fsencode(program) in pathlib.Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False


def start_line(command: list[str]) -> str:
    """The line of a log that an attempt begins with, for the process that writes it; what is before may have no end."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"\n== start: pid {os.getpid()} on {platform.node()}, {when}: {' '.join(command)}\n"


def end_line(status: int | str) -> str:
    """The line of a log that an attempt ends with."""
    return f"\n== end: status {status}\n"


def last_attempt(log: pathlib.Path) -> Attempt | None:
    """None if the job was never started."""
    if not log.exists():
        return None
    start, text = _last_part(log)
    pid, host = (int(start[1]), start[2]) if start else (None, "")
    ends = re.findall(r"^== end: status (-?\d+)$", text, re.MULTILINE)
    status = int(ends[-1]) if ends else EXIT_INTERRUPTED if _was_interrupted(text) else None
    return Attempt(pid, host, status, _error(text, status) if status else "")


def _was_interrupted(text: str) -> bool:
    """Whether the run itself says so: where Slurm ends a job, nobody is left to write down a status."""
    return any(line.endswith(GOES_ON) for line in text.splitlines())


def _last_part(log: pathlib.Path) -> tuple[re.Match[str] | None, str]:
    """The last attempt's first line, and the end of what came after it: logs of long runs have many lines."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return None, ""
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            place = data.rfind(b"\n== start: pid ") + 1  # 0: the file's first line, if it is one
            line = data[place : max(data.find(b"\n", place), place)]
            start = re.fullmatch(r"== start: pid (\d+) on (.*), \S+ \S+: .*", line.decode(errors="replace"))
            begin = place + len(line) if start else 0
            return start, data[max(begin, size - TAIL) :].decode(errors="replace")


def _error(text: str, status: int | None) -> str:
    """The last line that says `error:`, else the last one at all, and the signal that ended the process."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("== ")]
    words = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
    number = _signal_number(status or 0)
    if number in set(signal.Signals):
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        killed = f"ended by {signal.Signals(number).name}{hint}"
        return f"{killed}; {words}" if words else killed
    return words or f"ended with status {status}"


def _signal_number(status: int) -> int:
    """Of the signal that a status speaks of: negative as Python has it, 128 more as a shell; else no signal's."""
    return -status if status < 0 else status - 128
