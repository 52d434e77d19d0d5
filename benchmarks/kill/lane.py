"""Runs one after the other, each disturbed again and again until it is done, and then compared with one left alone."""

import os
import pathlib
import random
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.kill import conditions, events, faults, record, scenes, server
from benchmarks.kill.events import KINDS, Event, Kind
from benchmarks.kill.places import Where, where
from benchmarks.kill.process import Circumstances, Process, running_in
from trqam_jax import console

MOST_ENDINGS = 9  # of a run's processes; the one after that is left alone
PATIENCE = 300.0  # seconds for one process
#: Seconds in which something happens to what has no places of its own; other processes slow it down.
DURATIONS = {"sweep": 25.0, "generate": 2.0, "download": 0.8}
ENDING = 60.0  # seconds that what a process leaves may take to end by itself


class Lane:
    """One at a time. number: of this lane, out of `lanes`."""

    def __init__(self, folder: pathlib.Path, table: record.Table, seed: int, number: int, lanes: int):
        self.folder, self.table, self.seed, self.number, self.lanes = folder, table, seed, number, lanes
        self.own = folder / f"lane-{number}"
        self.own.mkdir(parents=True, exist_ok=True)
        self.harm = faults.Faults(self.own / "control")
        self.other = faults.Faults(self.own / "control-second")
        conditions.empty_shared_memory()
        self.environment = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        os.environ.update(self.environment)
        scenes.import_all()
        self.scenes = scenes.scenes(folder / "data", self._serve())
        self.expected: dict[str, scenes.Content] = {}

    def _serve(self) -> str:
        place = self.own / "url"
        place.unlink(missing_ok=True)
        if os.fork() == 0:
            try:
                server.serve(place)
            finally:
                os._exit(0)
        while not place.exists() or not place.read_text():
            time.sleep(0.02)
        return place.read_text()

    def run_until(self, total: int, only: tuple[str, ...], kinds: tuple[str, ...]) -> None:
        """Runs, until the table has so many events; of these scenes and kinds alone, if any are named."""
        self.kinds = [kind for kind in KINDS.values() if not kinds or kind.name in kinds]
        number = self.number
        while self.table.count() < total and not (self.folder / "stop").exists():
            if not self.table.has(self.seed, number):
                draw = random.Random(f"{self.seed}-{number}")
                scene = self._next_scene(only)
                self.table.add(self.seed, number, scene.name, *self.disturb(scene, number, draw))
            number += self.lanes

    def _next_scene(self, only: tuple[str, ...]) -> scenes.Scene:
        """That which lacks most of its share of the events."""
        counts, total = self.table.counts("scene"), self.table.count()
        known = [scene for scene in self.scenes.values() if not only or scene.name in only]
        return max(known, key=lambda scene: scene.share * (total + 10 * self.number + 10) - counts.get(scene.name, 0))

    def alone(self, scene: scenes.Scene) -> scenes.Content:
        """What the scene leaves undisturbed; kept beside the runs, so that all lanes compare with one."""
        if scene.name not in self.expected:
            self.expected[scene.name] = record.once(
                self.folder / f"alone-{scene.name}.json", lambda: self._alone(scene)
            )
        return self.expected[scene.name]

    def _alone(self, scene: scenes.Scene) -> scenes.Content:
        folder = self.own / f"alone-{scene.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        process = self._start(scene, folder, Circumstances(), self.harm)
        if process.wait(PATIENCE) != 0:
            raise RuntimeError(f"{scene.name}, left alone: status {process.status}\n{process.text()[-3000:]}")
        content = scenes.in_a_fork(lambda: scene.left_by(folder))
        return content

    def _start(
        self, scene: scenes.Scene, folder: pathlib.Path, circumstances: Circumstances, harm: faults.Faults
    ) -> Process:
        log = self.own / ("second.log" if harm is self.other else "process.log")
        return Process(scene.program, scene.argv(folder), log, harm.path, circumstances, self.environment)

    def disturb(self, scene: scenes.Scene, number: int, draw: random.Random) -> tuple[list[list[Any]], list[str]]:
        """A whole run: its events, each with what was wrong about it, and what was wrong with what it left."""
        expected = self.alone(scene)
        folder = self.own / f"run-{self.seed}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        rows: list[list[Any]] = []
        for life in range(MOST_ENDINGS + 3):
            if life >= MOST_ENDINGS or draw.random() < 0.7:
                _await_jobs(folder)
            status, lived = self._live(scene, folder, draw, last=life >= MOST_ENDINGS)
            rows += lived
            if status == 0 and self._is_done(scene, folder):
                break
        wrong = self._compare(scene, folder, expected)
        if not wrong and not any(row[-1] for row in rows):
            shutil.rmtree(folder)
        return rows, wrong

    def _is_done(self, scene: scenes.Scene, folder: pathlib.Path) -> bool:
        return scene.kind != "sweep" or all(
            (path.parent / "DONE").exists() for path in folder.glob("default/*/*/config.json")
        )

    def _compare(self, scene: scenes.Scene, folder: pathlib.Path, expected: scenes.Content) -> list[str]:
        try:
            found = scenes.in_a_fork(lambda: scene.left_by(folder))
        except RuntimeError as error:
            return [f"cannot be read: {str(error).strip().splitlines()[-1]}"]
        wrong = [f"{name} differs" for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        return [*wrong, *(f"left {name}" for name in scenes.leftovers(folder))]

    def _live(
        self, scene: scenes.Scene, folder: pathlib.Path, draw: random.Random, *, last: bool
    ) -> tuple[int | None, list[list[Any]]]:
        """One process, from its start to its end."""
        self.harm.clear()
        kinds = [] if last else self._draw_kinds(scene, draw, dead_host=bool(_lock_files(folder)))
        conditional = next((kind for kind in kinds if kind.circumstances), None)
        circumstances = (
            conditional.circumstances(draw) if conditional and conditional.circumstances else Circumstances()
        )
        if conditional and conditional.name == "a dead host's lock":
            _leave_a_dead_hosts_lock(folder)
        process = self._start(scene, folder, circumstances, self.harm)
        happened: list[Event] = []
        ending: Event | None = None

        def now() -> Where:
            if scene.kind == "run":
                return where(folder, process.text())
            return Where({"sweep": "sweep", "download": "download"}.get(scene.name, "generation"))

        def second(other: Circumstances, dishonoured: bool) -> tuple[int | None, str]:
            return self._second(scene, folder, other, dishonoured)

        target = events.Target(process, folder, self.harm, now, second)
        for kind in kinds:
            if kind is conditional and kind.name != "a worker hangs":
                continue
            if not self._await(scene, kind, target, draw):
                break
            event = events.carry_out(kind, target, draw)
            if event is not None:
                happened.append(event)
                ending = event if kind.ends else ending
        if process.wait(PATIENCE) is None:
            process.end_by_force()
            happened.append(Event("none", now().place, str(now()), f"HANGS: {process.text()[-300:]}"))
        if conditional and conditional.name != "a worker hangs":
            # What ends by a limit ends where it is; the others hold from the start.
            at = now() if conditional.ends or scene.kind != "run" else Where("set-up")
            happened.append(Event(conditional.name, at.place, str(at), _what(circumstances)))
            ending = ending or happened[-1]
        did = ", ".join(f"{event.kind} at {event.place}" for event in happened)
        print(
            f"{folder.name} {scene.name}: status {process.status}, {process.cpu_seconds:.1f} CPU s: {did}", flush=True
        )
        ended_by = KINDS[ending.kind] if ending else None
        wrong = events.ended_well(ended_by, scene, process, ending)
        left = self._ended(process, folder)
        self.harm.clear()
        problems = "; ".join(filter(None, (wrong, *left)))
        if problems:
            shutil.copy(process.log, self.own / f"problem-{time.time():.0f}.log")
        rows = []
        for event in happened:
            own = event.happened if event.happened.startswith(("NOT", "HANGS")) else ""
            last_one = event is (ending or happened[-1])
            rows.append(
                [
                    *event[:3],
                    f"{event.happened}; status {process.status}" if last_one else event.happened,
                    "; ".join(filter(None, (own, problems if last_one else ""))),
                ]
            )
        if problems and not happened:
            rows.append(["none", now().place, str(now()), f"status {process.status}", problems])
        return process.status, rows

    def _draw_kinds(self, scene: scenes.Scene, draw: random.Random, *, dead_host: bool) -> list[Kind]:
        """Up to two that the process survives, and mostly one that ends it; the rarest so far are the likeliest."""
        counts = self.table.counts("kind")
        fitting = [kind for kind in self.kinds if scene.kind in kind.needs]
        fitting = [kind for kind in fitting if dead_host or kind.name != "a dead host's lock"]

        def pick(ends: bool) -> list[Kind]:
            able = [kind for kind in fitting if kind.ends == ends]
            return draw.choices(able, [1 / (1 + counts.get(kind.name, 0)) for kind in able]) if able else []

        several = draw.choice((3, 4, 5, 6)) if scene.kind != "sweep" else 0
        gentle = [kind for _ in range(several) for kind in pick(False)]
        chosen = [*dict.fromkeys(gentle), *(pick(True) if draw.random() < 0.93 else [])]
        conditional = [kind for kind in chosen if kind.circumstances]
        return [kind for kind in chosen if kind not in conditional[:-1]]

    def _await(self, scene: scenes.Scene, kind: Kind, target: events.Target, draw: random.Random) -> bool:
        """A random moment of the process; False if it has ended. Of a run after so many steps of its progress, or, for
        what ends it, often in a place that was rare so far."""
        process = target.process
        if scene.kind != "run":
            process.wait(draw.random() * DURATIONS[scene.kind if scene.kind != "files" else scene.name])
        elif kind.ends and draw.random() < 0.5:
            counts = self.table.counts("place")
            places = _to_come(target.folder, target.where())
            place = draw.choices(places, [(1 + counts.get(place, 0)) ** -2 for place in places])[0]
            _watch(target, lambda now: now.place == place)
        else:
            seen, left = target.where(), draw.randint(0, 12 if kind.ends else 3)

            def far_enough(now: Where) -> bool:
                nonlocal seen, left
                left -= now != seen
                seen = now
                return left <= 0

            _watch(target, far_enough)
        process.wait(draw.choice((0, 0.01, 0.1, 1)) * draw.random())
        return process.poll() is None

    def _second(
        self, scene: scenes.Scene, folder: pathlib.Path, other: Circumstances, dishonoured: bool
    ) -> tuple[int | None, str]:
        self.other.clear()
        if dishonoured:
            self.other.arm(faults.Action.PRETEND, faults.Call.LOCK, folder, count=-1)
        process = self._start(scene, folder, other, self.other)
        if process.wait(PATIENCE) is None:
            process.end_by_force()
        self._end_strays(process)
        return process.status, process.text()

    def _ended(self, process: Process, folder: pathlib.Path) -> list[str]:
        """What an ended process has left that it should not have."""
        wrong = [f"stray process {line[:100]}" for line in self._end_strays(process)]
        if not running_in(folder):
            wrong += [f"still locked: {name}" for name in scenes.locked(folder)]
        for path in pathlib.Path("/dev/shm").iterdir():
            wrong.append(f"left /dev/shm/{path.name}")
            path.unlink()
        return wrong

    def _end_strays(self, process: Process) -> list[str]:
        """The processes of its session that have not ended by themselves in time. A sweep's jobs have their own."""
        deadline = time.monotonic() + ENDING
        while (left := process.session()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            events.kill(pid, 9)
        return list(left.values())


def _watch(target: events.Target, until: Callable[[Where], bool]) -> None:
    """Until that is so, or the process has ended."""
    deadline = time.monotonic() + 300
    while target.process.poll() is None and not until(target.where()) and time.monotonic() < deadline:
        time.sleep(0.015)


def _to_come(folder: pathlib.Path, now: Where) -> list[str]:
    """The places that the process of a run can still come to."""
    reached = [path.name.partition("-")[0] for path in folder.glob("default/*/*/checkpoints/[a-z]*-*")]
    cloned = any(folder.glob("default/*/cloned-*/DONE"))
    gone = {"cloning": cloned, "offline": "online" in reached, "set-up": now.place != "set-up"}
    return [
        place for place in ("set-up", "cloning", "evaluation", "offline", "checkpoint", "online") if not gone.get(place)
    ]


def _what(circumstances: Circumstances) -> str:
    return ", ".join(f"{key}={value}" for key, value in circumstances._asdict().items() if value)


def _await_jobs(folder: pathlib.Path) -> None:
    """Until the jobs that a killed pool has left have ended."""
    deadline = time.monotonic() + PATIENCE
    while running_in(folder) and time.monotonic() < deadline:
        time.sleep(0.1)


def _leave_a_dead_hosts_lock(folder: pathlib.Path) -> None:
    """As its holder would, had its host lost power: the text of the lock stays."""
    for path in _lock_files(folder):
        path.write_text("pid 7 on host dead")


def _lock_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [*folder.rglob("lock"), *folder.rglob(".*.lock")]


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(";")))


def main() -> None:
    """python -m benchmarks.kill.lane FOLDER TABLE SEED NUMBER LANES EVENTS SCENES KINDS; __main__ starts it."""
    folder, table, seed, number, lanes, total, only, kinds = sys.argv[1:]
    lane = Lane(pathlib.Path(folder), record.Table(pathlib.Path(table)), int(seed), int(number), int(lanes))
    lane.run_until(int(total), _names(only), _names(kinds))


if __name__ == "__main__":
    console.prepare()
    main()
