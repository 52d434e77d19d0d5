"""The preloaded library that makes calls fail (faults.c), and the shared memory by which it is told what to do."""

import ctypes
import enum
import mmap
import os
import pathlib
import subprocess

SOURCE = pathlib.Path(__file__).with_name("faults.c")
VARIABLE = "KILL_CONTROL"


class Call(enum.IntFlag):
    """Kinds of calls, as faults.c has them."""

    WRITE, OPEN, SYNC, RENAME, MKDIR, ALLOCATE, TRUNCATE, UNLINK, LOCK, READ = (2**bit for bit in range(10))


SPACE = Call.WRITE | Call.OPEN | Call.MKDIR | Call.ALLOCATE  # what takes room on a disk
CHANGE = SPACE | Call.RENAME | Call.TRUNCATE | Call.UNLINK  # what a read-only file system refuses
SAVING = Call.WRITE | Call.SYNC | Call.RENAME | Call.MKDIR | Call.OPEN


class Action(enum.IntEnum):
    """What becomes of a call."""

    NOTHING, FAIL, SHORT, SIGNAL, PRETEND = range(5)


class Control(ctypes.Structure):
    """struct control of faults.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("active", "action", "classes", "number")),
        *((name, ctypes.c_long) for name in ("skip", "count", "fired", "back")),
        ("busy", ctypes.c_int),
        ("prefix", ctypes.c_char * 256),
        ("call", ctypes.c_char * 16),
        ("path", ctypes.c_char * 512),
    ]


def build(folder: pathlib.Path) -> pathlib.Path:
    """The compiled library, made with cc."""
    library = folder / "faults.so"
    subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Faults:
    """What is to go wrong in the processes that are attached to the file `path`; this one's own calls stay right."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        path.write_bytes(bytes(ctypes.sizeof(Control)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.control = Control.from_buffer(self._memory)

    def clear(self) -> None:
        """Nothing goes wrong, and the clock is right."""
        ctypes.memset(ctypes.byref(self.control), 0, ctypes.sizeof(Control))

    def arm(
        self, action: Action, calls: Call, below: pathlib.Path, *, number: int = 0, skip: int = 0, count: int = 1
    ) -> None:
        """After `skip` such calls on files below the folder, `count` (-1: all) fail with errno `number`, or so."""
        control = self.control
        control.active, control.fired, control.call, control.path = 0, 0, b"", b""
        control.action, control.classes, control.number = action, calls, number
        control.skip, control.count, control.prefix = skip, count, os.fsencode(below)
        control.active = 1

    def turn_back(self, seconds: int) -> None:
        """The clock, of the processes that are attached."""
        self.control.back += seconds

    def struck(self) -> str:
        """The first call that was hit and its file; "" if none was."""
        control = self.control
        return f"{control.call.decode()} {os.fsdecode(control.path)}" if control.fired else ""


def attach(path: pathlib.Path) -> None:
    """This process, in which the library is preloaded, and those that it starts."""
    os.environ[VARIABLE] = str(path)
    ctypes.CDLL(None).faults_attach(os.fsencode(path))
