"""When a phase writes what, and where a stage that was interrupted goes on."""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments.row_format import PHASES
from experiments.training.stages import Stage
from trqam_jax.checkpoint import Checkpoints, Damaged, Place
from trqam_jax.errors import UserError
from trqam_jax.files import read_json

Keep = Callable[[str, str, int], bool]  # (table, phase, step): whether rows that are there already stay


class Schedule(NamedTuple):
    """When a phase of `total` steps writes what. Intervals are in steps: updates, online those of the environment."""

    total: int
    log: int
    eval: int | None  # None: nothing is evaluated
    save: int

    def evaluates(self, step: int) -> bool:
        """At multiples of the interval, and at the end."""
        return self.eval is not None and (step % self.eval == 0 or step == self.total)

    def logs(self, step: int) -> bool:
        """At multiples of the interval, at evaluations, and at the end."""
        return step % self.log == 0 or step == self.total or self.evaluates(step)

    def saves(self, step: int) -> bool:
        """At multiples of the interval, and at the end, from where a longer run goes on."""
        return step % self.save == 0 or step == self.total

    def next(self, step: int) -> int:
        """The first step after `step` at which there is something to do."""
        intervals = (self.log, self.save, self.eval or self.log)
        return min(self.total, *(step - step % interval + interval for interval in intervals))

    def keeps(self, start: Place) -> Keep:
        """What a run that goes on from `start`, in this phase, keeps of its tables: rows before it, and its own if due.

        The end of a run that is now to be longer need not be a multiple of an interval: then its rows go, as a run
        that was this long from the first would not have them.
        """

        def keep(table: str, phase: str, step: int) -> bool:
            if phase != start.phase:
                return PHASES.index(phase) < PHASES.index(start.phase)
            due = self.evaluates if table == "eval" else self.logs
            return step < start.step or (step == start.step and due(step))

        return keep


def schedules(stage: Stage, config: ConfigDict) -> dict[str, Schedule]:
    """Of every phase of the stage. Cloning is evaluated where it is used, under the seeds of the run that uses it."""
    train, online = config.train, config.online
    known = {
        "bc": Schedule(config.bc.steps, train.log_interval, None, train.save_interval),
        "offline": Schedule(train.offline_steps, train.log_interval, config.eval.interval, train.save_interval),
        "online": Schedule(online.steps, train.log_interval, config.eval.interval, online.save_interval),
    }
    return {phase: known[phase] for phase in stage.phases}


def starting_place(folder: pathlib.Path, checkpoints: Checkpoints, schedules: Mapping[str, Schedule]) -> Place:
    """The newest checkpoint's place, or the beginning of the first phase of `schedules`.

    Online only at a multiple of the interval, or at the very end: elsewhere a run ended whose total was smaller, and
    one with this total would have gone on with its episodes there.
    """

    def usable(place: Place) -> bool:
        schedule = schedules[place.phase]
        return place.phase != "online" or place.step % schedule.save == 0 or place.step == schedule.total

    try:
        newest = checkpoints.newest(usable)
    except Damaged as error:
        raise UserError(f"{error}; --resume=never starts over, and moves this run aside") from error
    if newest is None:
        if (folder / "DONE").exists() and _had_steps(folder):
            raise UserError(
                f"{folder}: is finished and has no checkpoint to be continued from; "
                "--resume=never starts over, and moves it aside"
            )
        return Place(next(iter(schedules)), 0)
    _check_reached(folder, newest, schedules)
    print(f"going on from {checkpoints.path(newest)}")
    return newest


def _had_steps(folder: pathlib.Path) -> bool:
    """Whether the finished run in the folder was to train; one that only evaluated its BC policy begins where it is."""
    stored = read_json(folder / "config.json", ("train",))
    return bool(stored["train"]["offline_steps"] or stored.get("online", {}).get("steps", 0))


def _check_reached(folder: pathlib.Path, newest: Place, schedules: Mapping[str, Schedule]) -> None:
    """UserError if the run is further than it is to be, or online after fewer offline updates."""
    reached = {phase: newest.step if phase == newest.phase else 0 for phase in schedules}
    if newest.phase == "online":
        stored = read_json(folder / "config.json", ("train",))
        reached["offline"] = stored["train"]["offline_steps"]
        if reached["offline"] < schedules["offline"].total:
            raise UserError(
                f"{folder}: is online already, after {reached['offline']} offline updates; ask for as many, or choose "
                "another --group"
            )
    for phase, step in reached.items():
        if step > schedules[phase].total:
            raise UserError(
                f"{folder}: is at {phase} step {step} already, past {schedules[phase].total}; choose another --group"
            )
