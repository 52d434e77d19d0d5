"""Where a run is, read from its files and its output."""

import contextlib
import pathlib
import re
from typing import NamedTuple

PHASES = {"bc": "cloning", "offline": "offline", "online": "online"}
PLACES = ("set-up", "cloning", "offline", "online", "evaluation", "checkpoint", "rows", "ending", "sweep", "download")


class Where(NamedTuple):
    """place: one of PLACES; phase: bc, offline, online or ""; step: of the last row or a checkpoint being made."""

    place: str
    phase: str = ""
    step: int = 0

    def __str__(self) -> str:
        return " ".join(filter(None, (self.phase, str(self.step or ""))))


def where(folder: pathlib.Path, output: str) -> Where:
    """Of a run of main.py below `folder`, whose process has printed `output`."""
    for path in folder.glob("default/*/*/checkpoints/.*.new"):
        match = re.fullmatch(r"\.(?:([a-z]+)-)?(\d+)\.new", path.name)
        if match:
            return Where("checkpoint", match[1] or "bc", int(match[2]))
    begun = re.findall(r"^(bc|offline|online): memory", output, re.MULTILINE)
    run = next((p for p in folder.glob("default/*/*") if p.is_dir() and not p.name.startswith("cloned-")), None)
    if run is None or (not begun and "BC policy:" not in output):
        return Where("set-up")
    trained, evaluated = last_row(run / "train.csv"), last_row(run / "eval.csv")
    if begun and begun[-1] == "bc" and "BC policy:" not in output:
        cloned = next(iter(folder.glob("default/*/cloned-*/train.csv")), None)
        return Where("cloning", "bc", last_row(cloned)[1] if cloned else 0)
    if not begun or begun[-1] == "bc":
        return Where("set-up", *trained) if evaluated[0] else Where("evaluation", "bc")
    phase = begun[-1]
    step = trained[1] if trained[0] == phase else 0
    if trained[0] == phase and step % 80 == 0 and evaluated != trained:
        return Where("evaluation", phase, step)
    if (run / "DONE").exists():
        return Where("ending", phase, step)
    return Where(PHASES[phase], phase, step)


def last_row(path: pathlib.Path) -> tuple[str, int]:
    """Phase and step of a table's last whole row."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            lines = file.read().rpartition(b"\n")[0].split(b"\n")
        cells = lines[-1].decode().split(",")
        return cells[4], int(cells[5])
    return "", 0


def of_file(path: str, now: Where) -> Where:
    """Where a run is that is busy with this file of its own, and that is otherwise `now`."""
    match = re.search(r"/checkpoints/\.?(?:([a-z]+)-)?(\d+)(?:\.new|\.old)?(?:/|$)", path)
    if match:
        return Where("checkpoint", match[1] or "bc", int(match[2]))
    if "/checkpoints" in path:
        return Where("checkpoint", now.phase, now.step)
    name = path.rpartition("/")[2]
    if re.match(r"(train|eval|times)\.csv", name):
        return Where("rows", now.phase or ("bc" if "/cloned-" in path else ""), now.step)
    if name.startswith(("DONE", "summary")):
        return Where("ending", now.phase, now.step)
    return Where("set-up", now.phase, now.step)
