"""Rows shown elsewhere while a run goes on: optional, and unable to stop a run or to hold it up. Imports no JAX.

A mirror shows the rows of train.csv and eval.csv. A replica is what TensorBoard and W&B call a run; a row's numbers are
under TABLE/PHASE/COLUMN (eval/offline/success), at the row's step. When a run goes on, all rows that stayed are shown
again from the first, in place of what was there: so a mirror equals the tables, whatever a kill has cut off them, and
also where it was not asked for at first.
"""

import concurrent.futures
import functools
import json
import os
import pathlib
import queue
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from experiments.row_format import PHASES, parse_variant
from trqam_jax.errors import UserError, start_thread
from trqam_jax.files import read_json, write_json

#: How long a run that is over waits for a mirror that has not shown everything yet.
CLOSE_SECONDS = 30

#: Columns that say of what a row is, and are no numbers to show.
_ABOUT = ("env", "task", "agent", "seed", "phase", "step", "status", "variant")

Row = Mapping[str, Any]
Rows = Sequence[Row]  # of all replicas, in their order, at one step of one table


class Mirrored(NamedTuple):
    """What is shown of a run beside its rows."""

    folder: pathlib.Path
    config: Mapping[str, Any]  # nested, as config.json has it
    replicas: Rows  # task, seed and, where they differ in one, variant

    @property
    def names(self) -> list[str]:
        """By replica: task1-seed7-kl_budget=0.5."""
        return [_name(replica) for replica in self.replicas]

    def config_of(self, replica: Row) -> dict[str, Any]:
        """The configuration with the replica's own task, seed and values of the swept settings on top."""
        values = parse_variant(replica.get("variant") or "")
        agent = {**self.config.get("agent", {}), **values}
        return {**self.config, "agent": agent, "task": replica["task"], "seed": replica["seed"]}

    def position(self, phase: str, step: int) -> int:
        """Where in the run a row stands: it grows from row to row. Behaviour cloning stands before the first update of
        a method, except where it is itself what is trained."""
        if phase == "bc":
            return step if self.config["agent_name"] == "bc" else 0
        return step + (self.config["train"]["offline_steps"] if phase == "online" else 0)


class Mirror(Protocol):
    """Somewhere else that rows are shown."""

    def write(self, table: str, rows: Rows) -> None:
        """table: "train" or "eval"."""

    def flush(self) -> None:
        """Let what was written be seen: for now no more rows wait."""

    def close(self, finished: bool) -> None:
        """No more rows will come. finished: else the run is to be continued."""


class TensorBoard:
    """Event files, a folder for each replica: tensorboard/task1-seed7/."""

    def __init__(self, run: Mirrored):
        from tensorboardX import event_file_writer, summary  # pyright: ignore[reportMissingImports]  # an extra
        from tensorboardX.proto import event_pb2, summary_pb2  # pyright: ignore[reportMissingImports]

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writers = []
        for name, replica in zip(run.names, run.replicas, strict=True):
            folder = run.folder / "tensorboard" / name
            folder.mkdir(parents=True, exist_ok=True)
            for earlier in folder.glob("events.*"):
                earlier.unlink()
            # Not SummaryWriter, which has two threads and a queue for each replica, and where a full disk goes unseen.
            writer = event_file_writer.EventsWriter(str(folder / "events"))
            self._writers.append(writer)
            # A TensorBoard that watches forgets what it has read of this folder.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            writer.write_event(self._at(0, session_log=start))
            text = json.dumps(run.config_of(replica), indent=2, sort_keys=True)
            writer.write_event(self._at(0, summary=summary.text("config", re.sub("^", "    ", text, flags=re.M))))

    def _at(self, step: int, **content: Any) -> Any:
        return self._event(wall_time=time.time(), step=step, **content)

    def write(self, table: str, rows: Rows) -> None:
        for writer, row in zip(self._writers, rows, strict=True):
            values = [self._summary.Value(tag=key, simple_value=x) for key, x in _numbers(table, row).items()]
            writer.write_event(self._at(int(row["step"]), summary=self._summary(value=values)))

    def flush(self) -> None:
        for writer in self._writers:
            writer.flush()  # and to the disk, which takes milliseconds

    def close(self, finished: bool) -> None:
        for writer in self._writers:
            writer.close()


class Wandb:
    """Weights & Biases: a run for each replica, grouped by the folder. Their ids are kept in the folder.

    W&B ignores what comes before its own last step, so of rows that are shown again the server takes those that it
    lacks. Offline it cannot go on with a run: a new folder has all rows, and replaces the one before.
    """

    def __init__(self, run: Mirrored):
        import wandb  # pyright: ignore[reportMissingImports]  # an extra

        self._place = run.position
        wandb.setup(wandb.Settings(silent=True))  # else it asks at the terminal for an account
        ids, group = _kept_ids(run), f"{run.config['run']['group']}/{run.config['env']}/{run.folder.name}"
        self._runs = []
        for name, replica in zip(run.names, run.replicas, strict=True):
            settings = wandb.Settings(
                silent=True,
                console="off",
                init_timeout=2 * CLOSE_SECONDS,
                finish_timeout=CLOSE_SECONDS,
                finish_timeout_raises=True,
                x_disable_stats=bool(self._runs),  # the machine's load: once
            )
            shown = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "trqam_jax"),
                group=group[-128:],  # as long as W&B allows
                name=f"{run.folder.name}-{name}",
                id=ids[name],
                resume="allow",
                dir=str(run.folder),
                config=run.config_of(replica),
                tags=[run.config["agent_name"], run.config["env"]],
                reinit="create_new",
                settings=settings,
            )
            shown.define_metric("*", step_metric="step")
            self._runs.append(shown)
            if shown.offline:
                new = pathlib.Path(shown.dir).parent
                for earlier in new.parent.glob(f"offline-run-*-{ids[name]}"):
                    if earlier != new:
                        shutil.rmtree(earlier)
        where = f"offline, in {run.folder / 'wandb'}" if self._runs[0].offline else self._runs[0].url
        if where:  # not where WANDB_MODE=disabled
            _say(f"wandb: group {group}, {len(self._runs)} run(s): {where}")

    def write(self, table: str, rows: Rows) -> None:
        for run, row in zip(self._runs, rows, strict=True):
            # train and eval of a step come at different times, and one of them may be there from before.
            place = 2 * self._place(row["phase"], int(row["step"])) + (table == "eval")
            if place >= run.step:
                run.log({**_numbers(table, row), "step": int(row["step"])}, step=place)

    def flush(self) -> None:
        """It does by itself."""

    def close(self, finished: bool) -> None:
        finish = functools.partial(_finish, exit_code=int(not finished))
        with concurrent.futures.ThreadPoolExecutor(len(self._runs)) as pool:
            list(pool.map(finish, self._runs))


def _finish(run: Any, exit_code: int) -> None:
    run.finish(exit_code=exit_code)


def _kept_ids(run: Mirrored) -> dict[str, str]:
    """W&B's id of every replica, as wandb.json has it, which is made first. It moves away with its folder."""
    path = run.folder / "wandb.json"
    known = read_json(path).get("ids", {}) if path.exists() else {}
    ids = {name: known.get(name) or secrets.token_hex(4) for name in run.names}
    write_json(path, {"ids": {**known, **ids}})
    return ids


MIRRORS: Mapping[str, Callable[[Mirrored], Mirror]] = {"tensorboard": TensorBoard, "wandb": Wandb}


def _name(replica: Row) -> str:
    """A BC policy has no task."""
    task = f"task{replica['task']}" if replica["task"] != "" else ""
    return "-".join(filter(None, (task, f"seed{replica['seed']}", (replica.get("variant") or "").replace(", ", "-"))))


def _numbers(table: str, row: Row) -> dict[str, float]:
    """By name, exactly as the table has them, which holds the shortest text of a float32."""
    return {f"{table}/{row['phase']}/{key}": float(str(value)) for key, value in row.items() if key not in _ABOUT}


def in_order(tables: Mapping[str, Rows], replicas: int) -> list[tuple[str, Rows]]:
    """The rows of the tables as they were written: (table, rows of all replicas at one step)."""
    groups = [
        (table, rows[start : start + replicas])
        for table, rows in tables.items()
        for start in range(0, len(rows), replicas)
    ]
    return sorted(
        groups, key=lambda group: (PHASES.index(group[1][0]["phase"]), int(group[1][0]["step"]), group[0] == "eval")
    )


class Mirrors:
    """The mirrors that a run was asked for, each in a thread of its own. One that fails is named on stderr, in a line,
    and gets no more rows; the run goes on."""

    def __init__(self, names: Sequence[str], run: Mirrored, before: Sequence[tuple[str, Rows]] = ()):
        """before: what is to be shown first, as `in_order` has it."""
        self._followers = [_Follower(name, functools.partial(MIRRORS[name], run)) for name in names]
        for table, rows in before:
            self.write(table, rows)

    def write(self, table: str, rows: Rows) -> None:
        """Show the rows wherever it still works."""
        for follower in self._followers:
            follower.put((table, rows))

    def close(self, *, finished: bool) -> None:
        """No more rows will come; wait for the mirrors, at most CLOSE_SECONDS. A second call does nothing."""
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.put(finished)
        for follower in followers:
            follower.join()


class _Follower:
    """A mirror and its thread."""

    def __init__(self, name: str, make: Callable[[], Mirror]):
        self._name, self._make = name, make
        self._is_off = False
        self._waiting: queue.SimpleQueue[tuple[str, Rows] | bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._follow, name=f"mirror-{name}", daemon=True)
        try:
            start_thread(self._thread)
        except UserError as error:
            self._warn(str(error))

    def put(self, item: tuple[str, Rows] | bool) -> None:
        if self._thread.is_alive():
            self._waiting.put(item)

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS + 5)
        if self._thread.is_alive():
            self._warn(f"it was waited for {CLOSE_SECONDS} s")

    def _follow(self) -> None:
        try:
            mirror = self._make()
            while not isinstance(item := self._waiting.get(), bool):
                mirror.write(*item)
                if self._waiting.empty():
                    mirror.flush()
            mirror.close(item)
        except (Exception, SystemExit) as error:  # whatever a third party's service does, training must not stop for it
            self._warn(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _warn(self, reason: str) -> None:
        """Once: of what it does when nobody waits for it any more nothing is said."""
        if not self._is_off:
            self._is_off = True
            _say(f"warning: {self._name} is off, the CSV files go on ({reason})")


def _say(text: str) -> None:
    """In one write, because several threads print."""
    print(f"{text}\n", end="", file=sys.stderr, flush=True)
