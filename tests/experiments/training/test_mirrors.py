"""Mirrors. What tensorboardX and wandb leave is read back where they are installed:

pip install tensorboardX wandb && python -m pytest tests/experiments/training/test_mirrors.py
"""

import json
import struct
import sys
import threading
import types

import numpy as np
import pytest
from needs import needs

from experiments.training import mirrors
from experiments.training.mirrors import Mirrored, Mirrors, in_order

CONFIG = {
    "agent_name": "trqam",
    "env": "scene",
    "agent": {"inv_temp": [3.0, 10.0], "rho": 0.5},
    "run": {"group": "g"},
    "train": {"offline_steps": 40},
}
REPLICAS = [{"task": 1, "seed": 7, "variant": f"inv_temp={x}"} for x in (3.0, 10.0)]
NAMES = ["task1-seed7-inv_temp=3.0", "task1-seed7-inv_temp=10.0"]
#: Of a run that is killed after its checkpoint at offline step 20, and in one go.
STEPS = [("eval", "bc", 90), *(("train", "offline", step) for step in (10, 20))]
KILLED = [*STEPS, ("eval", "offline", 20), ("train", "offline", 30)]
WHOLE = [*KILLED, ("train", "offline", 40), ("eval", "offline", 40), ("train", "online", 10), ("eval", "online", 10)]


def rows_of(table, phase, step):
    """A replica's numbers differ, and one is none."""
    about = {"env": "scene", "agent": "trqam", "phase": phase, "step": step, "status": "ok"}
    value = np.float32(0.1 * step)
    return table, [{**about, **replica, "loss": value + r, "odd": np.nan} for r, replica in enumerate(REPLICAS)]


def as_read(places):
    """The tables as they are read when a run goes on."""
    tables = {"train": [], "eval": []}
    for table, rows in (rows_of(*place) for place in places):
        tables[table] += [{key: str(value) for key, value in row.items()} for row in rows]
    return in_order(tables, len(REPLICAS))


def show(name, folder, places, before=(), finished=True):
    folder.mkdir(exist_ok=True)
    shown = Mirrors([name], Mirrored(folder, CONFIG, REPLICAS), before)
    for place in places:
        shown.write(*rows_of(*place))
    shown.close(finished=finished)


def expected(places, r):
    """{name: [(step, value)]} of a replica."""
    points = {}
    for table, rows in (rows_of(*place) for place in places):
        row = rows[r]
        for column in ("loss", "odd"):
            points.setdefault(f"{table}/{row['phase']}/{column}", []).append((row["step"], str(row[column])))
    return points


@pytest.fixture
def resumed(request, tmp_path, capsys):
    """The folder of a run that was killed and went on, mirrored by the test's parameter."""
    show(request.param, tmp_path / "run", KILLED, finished=False)
    kept = [place for place in KILLED if place != ("train", "offline", 30)]
    show(request.param, tmp_path / "run", [place for place in WHOLE if place not in kept], as_read(kept))
    assert "warning" not in capsys.readouterr().err
    return tmp_path / "run"


def events(folder):
    """TensorBoard's events of a folder: a length, its checksum, the event, its checksum."""
    from tensorboardX.proto import event_pb2

    (path,) = folder.iterdir()
    data = path.read_bytes()
    while data:
        (size,) = struct.unpack_from("<Q", data)
        yield event_pb2.Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]


@needs("tensorboardX", how="make install")
@pytest.mark.parametrize("resumed", ["tensorboard"], indirect=True)
def test_tensorboard_has_the_rows_once_and_a_run_for_each_replica(resumed):
    assert sorted(folder.name for folder in (resumed / "tensorboard").iterdir()) == sorted(NAMES)
    for r, name in enumerate(NAMES):
        points = {}
        found = list(events(resumed / "tensorboard" / name))
        for event in found:
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    points.setdefault(value.tag, []).append((event.step, str(np.float32(value.simple_value))))
        assert points == expected(WHOLE, r)
        assert any(event.session_log.status == event.session_log.START for event in found)  # what was read is forgotten
        (text,) = (value for event in found for value in event.summary.value if value.HasField("tensor"))
        assert json.loads(text.tensor.string_val[0])["agent"] == {"inv_temp": (3.0, 10.0)[r], "rho": 0.5}


@needs("tensorboard", how="pip install tensorboard")
@pytest.mark.parametrize("resumed", ["tensorboard"], indirect=True)
def test_tensorboard_itself_reads_it(resumed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(resumed / "tensorboard" / NAMES[0]))
    accumulator.Reload()
    found = [(event.step, np.float32(event.value)) for event in accumulator.Scalars("train/offline/loss")]
    assert found == [(step, np.float32(0.1 * step)) for step in (10, 20, 30, 40)]


def records(path):
    """What a .wandb file holds: LevelDB's log format behind seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@needs("wandb", how="pip install wandb")
def test_wandb_has_the_rows_once_and_a_run_for_each_replica(tmp_path, monkeypatch, capsys, request):
    monkeypatch.setenv("WANDB_MODE", "offline")
    request.param = "wandb"
    folder = resumed.__wrapped__(request, tmp_path, capsys)
    ids = json.loads((folder / "wandb.json").read_text())["ids"]
    assert list(ids) == sorted(NAMES)
    for r, name in enumerate(NAMES):
        (path,) = folder.glob(f"wandb/offline-run-*/run-{ids[name]}.wandb")
        points, runs, ends = {}, [], []
        for record in records(path):
            kind = record.WhichOneof("record_type")
            runs += [record.run] * (kind == "run")
            ends += [record.exit.exit_code] * (kind == "exit")
            values = {(item.key or item.nested_key[0]): item.value_json for item in record.history.item}
            for key, text in values.items():
                if "/" in key:
                    value = np.float32(json.loads(text))
                    points.setdefault(key, []).append((json.loads(values["step"]), str(value)))
        assert points == expected(WHOLE, r)
        assert (runs[0].run_group, runs[0].display_name) == ("g/scene/run", f"run-{name}")
        config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
        assert (config["seed"], config["task"], config["agent"]["inv_temp"]) == (7, 1, (3.0, 10.0)[r])
        assert ends == [0]


class FakeRun:
    """wandb's, of which a server has a part already."""

    def __init__(self, step):
        self.step, self.offline, self.url, self.logged, self.ended = step, False, "https://somewhere", [], None

    def define_metric(self, *_, **__):
        pass

    def log(self, values, step):
        self.logged.append((step, {key for key in values if key != "step"}))

    def finish(self, exit_code):
        self.ended = exit_code


def fake_wandb(monkeypatch, runs, begun):
    def init(**settings):
        begun.append(settings)
        return runs[len(begun) - 1]

    module = types.SimpleNamespace(init=init, setup=lambda _: None, Settings=lambda **own: own)
    monkeypatch.setitem(sys.modules, "wandb", module)


def test_a_server_gets_what_it_lacks_under_the_same_ids(monkeypatch, tmp_path, capsys):
    """A signal in an evaluation leaves a step without it: its place is behind the losses of that step."""
    runs, begun = [FakeRun(step) for step in (0, 0, 41, 0)], []
    fake_wandb(monkeypatch, runs, begun)
    show("wandb", tmp_path / "run", STEPS, finished=False)
    show("wandb", tmp_path / "run", [("eval", "offline", 20)], as_read(STEPS))
    assert "warning" not in capsys.readouterr().err
    assert [step for step, _ in runs[0].logged] == [1, 20, 40]
    assert [step for step, _ in runs[2].logged] == [41]
    assert [step for step, _ in runs[3].logged] == [1, 20, 40, 41]
    assert [run.ended for run in runs] == [1, 1, 0, 0]
    assert [settings["id"] for settings in begun[:2]] == [settings["id"] for settings in begun[2:]]
    assert {settings["resume"] for settings in begun} == {"allow"}
    assert len({settings["id"] for settings in begun}) == 2


def test_of_a_bc_policys_own_training_steps_count():
    run = Mirrored(None, CONFIG | {"agent_name": "bc"}, [{"task": "", "seed": 7}])
    assert run.names == ["seed7"]
    assert [run.position("bc", step) for step in (10, 20)] == [10, 20]
    assert Mirrored(None, CONFIG, []).position("online", 10) == 50


class Broken(Exception):
    pass


@pytest.mark.parametrize("moment", ["made", "written", "closed"])
def test_a_mirror_that_fails_is_named_once_and_the_run_goes_on(moment, monkeypatch, tmp_path, capsys):
    def fail(now, error):
        if moment == now:
            raise error

    class Mirror:
        def __init__(self, run):
            fail("made", SystemExit("gone\nfor good"))

        def write(self, table, rows):
            fail("written", Broken("gone\nfor good"))

        def flush(self):
            pass

        def close(self, finished):
            fail("closed", Broken("gone\nfor good"))

    monkeypatch.setattr(mirrors, "MIRRORS", {"tensorboard": Mirror})
    show("tensorboard", tmp_path, WHOLE)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: tensorboard is off, the CSV files go on (")
    assert line.endswith(": gone for good)")


def test_a_mirror_whose_thread_the_system_refuses_is_off_and_the_run_goes_on(monkeypatch, tmp_path, capsys):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    show("tensorboard", tmp_path, KILLED)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: tensorboard is off, the CSV files go on (can't start new thread; ")


def test_a_mirror_that_hangs_holds_up_nothing(monkeypatch, tmp_path, capsys):
    hang = threading.Event()
    monkeypatch.setattr(mirrors, "MIRRORS", {"wandb": lambda run: hang.wait(60)})
    monkeypatch.setattr(mirrors, "CLOSE_SECONDS", -4.9)
    show("wandb", tmp_path, WHOLE)
    (line,) = capsys.readouterr().err.splitlines()
    assert "wandb is off" in line
    hang.set()
