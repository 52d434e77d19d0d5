"""A run that is stopped, at whatever moment and however, and started again leaves the files of one that was not."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from made_runs import shown
from odd_names import WORST

from envs.vector.actors import Transitions
from experiments import cli
from experiments import config as configuration
from experiments.analysis.summary import summarise
from experiments.row_format import PHASES
from experiments.training import interrupt, mirrors, phases, records
from experiments.training import run as running
from experiments.training.csv_rows import CsvWriter, read_csv
from experiments.training.inputs import locate
from experiments.training.schedule import starting_place
from experiments.training.stages import FINE_TUNING
from trqam_jax import ahead, backend, checkpoint, replicas
from trqam_jax.checkpoint import Checkpoints
from trqam_jax.errors import DeviceFailed, UserError

ROOT = pathlib.Path(__file__).parents[3]
SETTINGS = {
    "bc.steps": 30,
    "train.offline_steps": 50,
    "train.log_interval": 20,
    "train.save_interval": 15,
    "eval.interval": 40,
    "eval.episodes": 2,
    "online.steps": 50,
    "online.start_training": 12,
    "online.save_interval": 15,
}


class Killed(BaseException):
    """As good as kill -9 for what is on the disk: nothing catches it."""


class FakeSlots:
    """Episodes of three chunks without a simulator: what a policy does in them is their return, to the bit."""

    hook = staticmethod(lambda: None)  # called at every step

    def __init__(self, factories, observation_dim, num_episodes, **_):
        self.shape, self.size = (len(factories), max(1, num_episodes)), observation_dim

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self):
        pass

    def begin(self, seeds):
        self.state = np.stack([[np.random.default_rng(seed).normal(size=self.size) for seed in row] for row in seeds])
        self.decision, self.returns = np.zeros(self.shape, np.int32), np.zeros(self.shape)

    def wait(self):
        episode = np.where(self.decision < 3, np.arange(self.shape[1], dtype=np.int32), -1)
        return None if (episode < 0).all() else (0, self.state.astype(np.float32), episode, self.decision)

    def play(self, group, chunks):
        self.hook()
        self.returns += chunks.sum((2, 3))
        self.state = 0.9 * self.state + chunks.mean((2, 3))[..., None]
        self.decision = self.decision + 1

    def results(self):
        return {
            "success": (self.returns > 0).astype(float),
            "return": self.returns,
            "length": np.full(self.shape, 15),
        }


class FakeActors:
    """Episodes of seven steps that depend on the entropy they began with and on the actions."""

    def __init__(self, factories, observation_dim, action_dim, horizon, **_):
        self.replicas, self.sizes = len(factories), (observation_dim, action_dim)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self):
        pass

    def begin(self, entropy):
        self.draws = [np.random.default_rng(row) for row in entropy]
        self.current = np.stack([draw.normal(size=self.sizes[0]) for draw in self.draws])
        self.age = np.arange(self.replicas)  # so that their episodes end at different steps
        return self.current.astype(np.float32)

    def play(self, chunks, start, count):
        played = Transitions.empty(self.replicas, chunks.shape[1], *self.sizes)
        for r in range(self.replicas):
            for i, action in enumerate(chunks[r, start[r] : start[r] + count[r]]):
                played.observations[r, i], played.actions[r, i] = self.current[r], action
                self.current[r] = 0.9 * self.current[r] + action.mean()
                played.next_observations[r, i], played.rewards[r, i] = self.current[r], action.sum()
                played.masks[r, i], played.length[r] = 1, i + 1
                self.age[r] += 1
                if self.age[r] == 7:
                    self.age[r], self.current[r] = 0, self.draws[r].normal(size=self.sizes[0])
                    played.terminals[r, i], played.ended[r] = True, True
                    break
        return played._replace(current=self.current.astype(np.float32))


LOAD_DATA, LOADED = running.load_data, {}


def loaded(config, where):
    """The data, read once."""
    if where not in LOADED:
        LOADED[where] = LOAD_DATA(config, where)
    return LOADED[where]


@pytest.fixture(autouse=True)
def fake_slots(monkeypatch):
    monkeypatch.setattr(running, "VectorSlots", FakeSlots)
    monkeypatch.setattr(running, "Actors", FakeActors)
    monkeypatch.setattr(running, "load_data", loaded)
    monkeypatch.setattr(phases, "DISPATCH_SECONDS", 0.02)  # so that rows and saves fall between dispatches, too


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def make(tmp_path, data):
    """A configuration: two replicas of tiny networks; settings by flat key."""

    def make(out=tmp_path, agent="fql", seeds=("1", "2"), overrides=None, **settings):
        by_key = {key.replace("__", "."): value for key, value in settings.items()}
        return configuration.resolve(
            agent=agent,
            env="cube-single-task1",
            protocol="quick",
            seeds=list(seeds),
            settings={
                **SETTINGS,
                "data.dataset": "generate",
                "data.dir": str(data),
                "data.episodes": 2,
                "run.out_dir": str(out),
                **by_key,
            },
            overrides={
                "agent.hidden_dims": "8,8",
                "agent.flow_steps": "2",
                "train.batch_size": "16",
                **(overrides or {}),
            },
        )

    return make


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data):
    """What the run leaves that nothing disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "VectorSlots", FakeSlots)
        patch.setattr(running, "Actors", FakeActors)
        return left_by(running.run(make.__wrapped__(tmp_path_factory.mktemp("unbroken"), data)()))


def left_by(folder):
    """{file: content} of the tables and {checkpoint: fingerprint or files}, of the run and of its cloning."""
    (cloned,) = folder.parent.glob("cloned-*")
    (policy,) = cloned.glob("checkpoints/[0-9]*")
    tables = {
        f"{place.name}/{t}": (place / f"{t}.csv").read_bytes()
        for place in (folder, cloned)
        for t in ("train", "eval")
        if (place / f"{t}.csv").exists()
    }
    last = Checkpoints(folder / "checkpoints", PHASES).newest()
    assert (folder / "DONE").exists()
    assert (cloned / "DONE").exists()
    return {
        **tables,
        "cloned": checkpoint.read_meta(policy)["fingerprint"],
        "last": last,
        "state": final_state(folder, last),
    }


def final_state(folder, place):
    """The arrays of a checkpoint, as bytes by their name."""
    path = folder.resolve() / "checkpoints" / f"{place.phase}-{place.step}"
    with checkpoint._plain(path) as plain, ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(plain / checkpoint.TREE)
    return {
        jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def steps(folder, table):
    return [(row["phase"], int(row["step"])) for row in read_csv(folder / f"{table}.csv") if row["seed"] == "1"]


def test_the_unbroken_run(unbroken):
    (train,) = (text for name, text in unbroken.items() if name.startswith("fql") and name.endswith("train"))
    phase = [*[b"20"] * 2, *[b"40"] * 2, *[b"50"] * 2]
    assert [line.split(b",")[5] for line in train.splitlines()] == [b"step", *phase, *phase]
    assert unbroken["last"] == ("online", 50)
    assert b"ok" in train


def after_calls(count, original, action):
    """The function, with `action` before its call number `count`."""
    left = [count]

    def wrapped(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            action()
        return original(*args, **kwargs)

    return wrapped


def killed():
    raise Killed


def torn(path):
    """Half a row at the end of a table, as of a kill while it is written."""
    with path.open("ab") as file:
        file.write(b"cube-single,1,fql,1,off")
    raise Killed


MOMENTS = {
    "the first file": (os, "fsync", 1),
    "a checkpoint of the cloning": (pathlib.Path, "rename", 2),
    "the first evaluation": (FakeSlots, "play", 2),
    "an update": (replicas.Population, "run", 12),
    "playing": (FakeActors, "play", 9),
    "a save online": (FakeActors, "begin", 3),
    "half a row": (CsvWriter, "write", 8),
    "a checkpoint": (os, "fsync", 150),
    "a late checkpoint": (os, "fsync", 230),
    "DONE": (records.Recorder, "done", 2),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at(moment, make, unbroken, monkeypatch, capfd):
    owner, name, count = MOMENTS[moment]
    with monkeypatch.context() as patch:
        original = getattr(owner, name)
        if name == "write":
            half = lambda self, rows: torn(self._path) if next(calls) == count else original(self, rows)
            calls = iter(range(1, 1000))
            patch.setattr(owner, name, half)
        else:
            patch.setattr(owner, name, after_calls(count, original, killed))
        with pytest.raises(Killed):
            running.run(make())
    monkeypatch.setattr(mirrors, "MIRRORS", {"tensorboard": Remembered})
    folder = running.run(make(run__mirrors=("tensorboard",)))
    assert left_by(folder) == unbroken
    assert Remembered.rows[folder] == {table: read_csv(folder / f"{table}.csv") for table in ("train", "eval")}


class Remembered:
    """A mirror: {folder: {table: rows}} of what it was shown, anew each time that it is made."""

    rows = {}

    def __init__(self, run):
        self.shown = self.rows[run.folder] = {"train": [], "eval": []}

    def write(self, table, rows):
        self.shown[table] += [{key: str(value) for key, value in row.items()} for row in rows]

    def flush(self):
        pass

    def close(self, finished):
        assert finished


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGINT, "evaluating"),
        (signal.SIGTERM, "updating"),
        (signal.SIGUSR1, "evaluating"),
        (signal.SIGHUP, "updating"),
    ],
)
def test_a_signal_saves_and_says_so(number, where, make, unbroken, monkeypatch):
    handlers = [signal.getsignal(number) for number in interrupt.SIGNALS]
    owner, name, count = (FakeSlots, "play", 5) if where == "evaluating" else (replicas.Population, "run", 12)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, after_calls(count, getattr(owner, name), lambda: os.kill(os.getpid(), number)))
        with pytest.raises(interrupt.Interrupted, match=number.name):
            running.run(make())
    assert [signal.getsignal(number) for number in interrupt.SIGNALS] == handlers
    folder = FINE_TUNING.folder(locate(make())[0])
    assert not (folder / "DONE").exists()
    place = Checkpoints(folder / "checkpoints", PHASES).newest()
    if where == "evaluating":
        assert place == ("offline", 40)
        assert ("offline", 40) in steps(folder, "train")
        assert ("offline", 40) not in steps(folder, "eval")
    assert left_by(running.run(make())) == unbroken


def hang_up_twice():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
    assert interrupt.pending()


def test_a_terminal_that_closes_is_told_of_twice_and_outlived_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.watched():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.pending()
        signal.signal(signal.SIGHUP, lambda *_: None)  # not the default: this process would end if none were set
        with pytest.raises(interrupt.Interrupted, match="SIGHUP"), interrupt.watched():
            hang_up_twice()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("where", "kept"), [("an update", 30), ("a checkpoint", 15)])
def test_a_device_that_fails_leaves_the_last_checkpoint_and_no_other(where, kept, make, unbroken, monkeypatch):
    run = replicas.Population.run

    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered")

    with monkeypatch.context() as patch:
        if where == "an update":
            late = lambda self, step, count: fail() if np.max(step) > 30 else run(self, step, count)
            patch.setattr(replicas.Population, "run", late)
        else:
            save = ocp.Checkpointer.save
            patch.setattr(ocp.Checkpointer, "save", after_calls(5, save, fail))
        with pytest.raises(DeviceFailed, match="ECC_UNCORRECTABLE"), backend.explained():
            running.run(make())
    folder = FINE_TUNING.folder(locate(make())[0])
    assert not (folder / "DONE").exists()
    assert max(path.name for path in (folder / "checkpoints").iterdir()) == f"offline-{kept}"
    assert left_by(running.run(make())) == unbroken


def test_a_signal_waits_for_no_program(make, unbroken, monkeypatch):
    """It comes while both updates are being compiled, and the cloning's is waited for."""
    compiling, late, resumed = [], [], threading.Event()
    original = ahead.Ahead._compile

    def compile_for_long(program, *given):
        if isinstance(program.shapes, tuple):  # of an update; a program that creates returns no more than agents
            compiling.append(program)
            if len(compiling) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            if not resumed.wait(60):
                late.append(program)
        original(program, *given)

    with monkeypatch.context() as patch:
        patch.setattr(ahead.Ahead, "_compile", compile_for_long)
        with pytest.raises(interrupt.Interrupted, match="SIGTERM"):
            running.run(make())
        assert (len(compiling), late) == (2, [])
    resumed.set()
    assert left_by(running.run(make())) == unbroken


@pytest.mark.parametrize("simulators", [FakeSlots, FakeActors])
def test_a_signal_does_not_wait_for_a_simulator_that_hangs(simulators, make, unbroken, monkeypatch):
    late = []
    with monkeypatch.context() as patch:

        def hang():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)
            late.append("answered")

        patch.setattr(simulators, "play", after_calls(9, simulators.play, hang))
        with pytest.raises(interrupt.Interrupted, match="SIGTERM"):
            running.run(make())
        assert not late
    assert left_by(running.run(make())) == unbroken


def test_a_second_signal_ends_the_process_at_once():
    code = """
import os, signal
from experiments.training import interrupt
with interrupt.watched():
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.pending()
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (-signal.SIGTERM, b"")


def test_longer(make, unbroken, capsys):
    """A finished run goes on from its last state as one that was as long from the first: no row of an old end stays."""
    for total, expected in ((25, [20, 25]), (33, [20, 33]), (50, [20, 40, 50])):
        folder = running.run(make(train__offline_steps=total, online__steps=0))
        assert steps(folder, "train") == [("offline", step) for step in expected]
    for total, expected in ((12, [12]), (17, [20, 17]), (33, [20, 33]), (50, [20, 40, 50])):
        running.run(make(online__steps=total))
        online = [step for phase, step in steps(folder, "train") if phase == "online"]
        assert online == [step for step in expected if step <= total]
    assert left_by(folder) == unbroken
    capsys.readouterr()
    assert running.run(make(run__resume="must", eval__workers=1, train__save_interval=7)) == folder
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"is finished with train.offline_steps = 50, more than 49"):
        running.run(make(train__offline_steps=49))
    assert left_by(folder) == unbroken
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(UserError, match=r"no checkpoint to be continued from.*--resume=never"):
        running.run(make(online__steps=51))
    assert (folder / "DONE").exists()


def test_a_finished_run_whose_checkpoint_cannot_be_loaded_stays_as_it_is(make, monkeypatch):
    """DONE goes, and tables are cut, once there is something to go on from."""
    folder = running.run(make(online__steps=0, train__offline_steps=33))
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "load", raising(UserError("does not fit these networks")))
        with pytest.raises(UserError, match="does not fit"):
            running.run(make(online__steps=0))
    assert (folder / "DONE").exists()
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


def raising(error):
    def function(*_, **__):
        raise error

    return function


def test_folders_of_any_name(make, data, tmp_path, unbroken):
    """Trained, continued, and read: group, out_dir and the data's place."""
    locate(make())
    elsewhere = shutil.copytree(data, tmp_path / f"data {WORST}")
    there = dict(out=tmp_path / WORST / "~", run__group=WORST, data__dir=str(elsewhere))
    running.run(make(train__offline_steps=25, online__steps=0, **there))
    folder = running.run(make(**there))
    assert left_by(folder) == unbroken
    assert "FQL" in shown(tmp_path / WORST)


@pytest.mark.parametrize("steps", [0, 40])
def test_a_run_that_only_evaluated_its_bc_policy_begins_when_it_gets_longer(steps, tmp_path):
    checkpoints, schedules = Checkpoints(tmp_path / "checkpoints", PHASES), {"offline": None}
    (tmp_path / "DONE").touch()
    (tmp_path / "config.json").write_text(json.dumps({"train": {"offline_steps": steps}, "online": {"steps": 0}}))
    if steps:
        with pytest.raises(UserError, match="has no checkpoint to be continued from; --resume=never"):
            starting_place(tmp_path, checkpoints, schedules)
    else:
        assert starting_place(tmp_path, checkpoints, schedules) == ("offline", 0)


def test_without_an_intact_checkpoint_the_way_out_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, ("offline",))
    checkpoints.save(checkpoint.Place("offline", 1), {"w": np.zeros(2)})
    (checkpoints.path(checkpoint.Place("offline", 1)) / checkpoint.META).unlink()
    with pytest.raises(UserError, match=r"no checkpoint is intact.*offline-1.*--resume=never"):
        starting_place(tmp_path, checkpoints, {"offline": None})


@pytest.fixture
def unfinished(make, monkeypatch):
    """The folder of a run that was killed at update 40."""
    with monkeypatch.context() as patch:
        patch.setattr(FakeSlots, "play", after_calls(5, FakeSlots.play, killed))
        with pytest.raises(Killed):
            running.run(make())
    return FINE_TUNING.folder(locate(make())[0])


def test_what_may_not_change_is_named(unfinished, make):
    for settings, words in (
        (dict(seeds=("1",)), r"an unfinished run with run.seeds = \[1, 2\], not \[1\]"),
        (dict(train__log_interval=10), "train.log_interval = 20, not 10"),
        (dict(eval__episodes=3), "eval.episodes = 2, not 3"),
        (dict(train__offline_steps=20), "is at offline step 30 already, past 20"),
    ):
        with pytest.raises(UserError, match=words + ".*--group"):
            running.run(make(**settings))
    content = (unfinished / "config.json").read_text()
    (unfinished / "config.json").write_text(content[:100])
    with pytest.raises(UserError, match=r"config.json: missing or damaged.*--resume=never"):
        running.run(make())


def test_moved_and_with_its_newest_checkpoint_damaged(unfinished, make, unbroken, tmp_path, capsys):
    """The folder is all that is needed: not its place, and not the cloned policy beside it."""
    new = tmp_path / "elsewhere"
    (new / "default").mkdir(parents=True)
    cloned = next(unfinished.parent.glob("cloned-*")).rename(tmp_path / "cloned")
    unfinished.parent.rename(new / "default" / "cube-single")
    (newest,) = (new / "default" / "cube-single" / unfinished.name).glob("checkpoints/offline-30")
    next(newest.glob(f"{checkpoint.TREE}/d/*")).write_bytes(b"")
    config = make(out=new, eval__workers=1, run__resume="must")
    folder = running.run(config)
    assert "checkpoints/offline-30" in (warning := capsys.readouterr().err)
    assert "offline-15" in warning
    assert not list(folder.parent.glob("cloned-*"))
    cloned.rename(folder.parent / cloned.name.replace("cloned", "cloned-1"))
    assert left_by(folder) == {
        name.replace(f"{cloned_name(unbroken)}/", "cloned-1/"): x for name, x in unbroken.items()
    }


def cloned_name(left):
    return next(name.split("/")[0] for name in left if name.startswith("cloned-"))


def test_never_sets_aside(unfinished, make, unbroken, capsys):
    folder = running.run(make(run__resume="never"))
    assert folder == unfinished
    aside = folder.with_name(f"old-1-{folder.name}")
    assert str(aside) in capsys.readouterr().out
    assert steps(aside, "train")[-1] == ("offline", 40)
    assert left_by(folder) == unbroken


def test_must_names_the_nearest_run(make, unfinished):
    with pytest.raises(UserError, match=r"there is no run .*; nor another of qam on cube-single"):
        running.run(make(agent="qam", run__resume="must"))
    words = (
        rf"the nearest is {unfinished}, its settings -> yours: agent.alpha: [\d.]+ -> 77.0; run.group: default -> g$"
    )
    with pytest.raises(UserError, match=words):
        running.run(make(run__resume="must", run__group="g", overrides={"agent.alpha": "77"}))
    assert not (unfinished.parents[2] / "g").exists()


HOLD = """
import sys, time, pathlib
from experiments.training import lock
with lock.hold(pathlib.Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder, code=HOLD):
    return subprocess.Popen([sys.executable, "-c", code, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_do_not_write_one_run(make, unfinished, capfd):
    holder = hold(unfinished)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"is being written by pid {holder.pid} on host"):
            running.run(make())
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    running.run(make())


def test_a_cloning_is_waited_for(tmp_path):
    """Two processes: the second goes on once the first is killed."""
    holder = hold(tmp_path)
    waits = HOLD.replace("wait=False", "wait=True").replace("time.sleep(60)", "0")
    try:
        assert holder.stdout.readline() == "held\n"
        second = hold(tmp_path, waits)
        assert second.stdout.readline().startswith(f"waiting for pid {holder.pid} on host")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert second.communicate(timeout=60)[0] == "held\n"
    assert second.returncode == 0


def poison(patch, replicas):
    """Their critics have parameters that are no numbers, from the start of the offline phase."""
    load_pretrained_ahead = running.load_pretrained_ahead

    def poisoned(*shapes):
        program = load_pretrained_ahead(*shapes)

        def load_pretrained(agents, velocity):
            made = program.result()(agents, velocity)
            layer = made.train.params["critic"]["Dense_0"]
            layer["kernel"] = layer["kernel"].at[replicas].set(np.nan)
            return made

        return types.SimpleNamespace(result=lambda: load_pretrained)

    patch.setattr(running, "load_pretrained_ahead", poisoned)


def test_a_diverged_replica_is_in_the_rows_and_the_other_does_not_notice(make, monkeypatch, capsys, unbroken):
    """Through a restart."""
    poison(monkeypatch, 1)
    with monkeypatch.context() as patch:
        patch.setattr(FakeSlots, "play", after_calls(5, FakeSlots.play, killed))
        with pytest.raises(Killed):
            running.run(make())
    folder = running.run(make())
    assert "task 1, seed 2 diverged: offline update 0 was not finite" in capsys.readouterr().err
    of_first = lambda text: [line for line in text.splitlines() if b",1,fql,1," in line]
    for table in ("train", "eval"):
        rows = read_csv(folder / f"{table}.csv")
        diverged = {(row["seed"], row["phase"]) for row in rows if row["status"] == "diverged"}
        assert diverged == {("2", "offline"), ("2", "online")}
        expected = of_first(unbroken[f"{folder.name}/{table}"])
        assert of_first((folder / f"{table}.csv").read_bytes()) == expected
        assert expected
    assert "seeds x episodes" in summarise(folder)


def test_if_all_diverge_the_run_fails(make, monkeypatch):
    poison(monkeypatch, slice(None))
    with pytest.raises(records.Diverged, match=r"seed 1: offline update 0 was not finite, and no replica is left"):
        running.run(make())


REAL = {
    **{"offline_steps": 3000, "online_steps": 0, "log_interval": 250, "save_interval": 250},
    **{"eval_interval": 4000, "eval_episodes": 0},
}


def command(config):
    """Of main.py, for what `make` gives."""
    settings = configuration.flatten(config)
    flags = {flag: settings[key] for flag, key in configuration.flags().items() if settings[key] is not None}
    flags |= {"agent": "fql", "env": "cube-single-task1", "protocol": "quick", "seeds": "1,2"}
    flags["config.online.save_interval"] = settings["online.save_interval"]
    flags |= {"config.agent.hidden_dims": "8,8", "config.agent.flow_steps": 2, "config.train.batch_size": 16}
    return [sys.executable, "experiments/main.py", *(f"--{key}={value}" for key, value in flags.items())]


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_real_signals(tmp_path, make):
    """SIGTERM, which reaches the simulators' processes too; then kill -9; then to the end."""
    settings = {configuration.flags()[flag].replace(".", "__"): value for flag, value in REAL.items()}
    config = make(**settings)
    folder = FINE_TUNING.folder(locate(config)[0])

    def started():
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command(config), cwd=ROOT, start_new_session=True, **pipes)

    with started() as process:
        wait_for(folder / "checkpoints" / "offline-250", process)
        os.killpg(process.pid, signal.SIGTERM)
        error = process.communicate()[1]
    assert process.returncode == cli.EXIT_INTERRUPTED == 75, error
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "interrupted by SIGTERM; the same command goes on from there"
    place = Checkpoints(folder / "checkpoints", PHASES).newest()
    assert 250 <= place.step < 3000
    with started() as process:
        wait_for(folder / "checkpoints" / f"offline-{place.step // 250 * 250 + 250}", process)
        os.killpg(process.pid, signal.SIGKILL)
    unbroken = running.run(make(out=tmp_path / "unbroken", **settings))
    assert left_by(running.run(config)) == left_by(unbroken)
