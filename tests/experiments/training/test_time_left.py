"""How long a run still takes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.training.evaluator import Evaluator
from experiments.training.schedule import Schedule
from experiments.training.time_left import Ahead, Left, Pace, WorkingClock, ahead, evaluations_after, in_words, left

CONFIG = {
    "agent_name": "trqam",
    "bc.steps": 300,
    "train.offline_steps": 1050,
    "online.steps": 500,
    "eval.interval": 100,
    "eval.episodes": 50,
}


@pytest.mark.parametrize(("total", "interval"), [(100, 10), (105, 10), (7, 10), (0, 10)])
def test_evaluations_ahead_are_those_of_the_schedule(total, interval):
    schedule = Schedule(total, log=1, eval=interval, save=1)
    for step in range(total + 1):
        assert evaluations_after(step, total, interval) == sum(map(schedule.evaluates, range(step + 1, total + 1)))


def test_what_is_ahead_is_the_rest_of_the_run():
    assert ahead(CONFIG, "bc", 300) == {"offline": Ahead(1050, 11), "online": Ahead(500, 5)}
    assert ahead(CONFIG, "offline", 1000) == {"offline": Ahead(50, 1), "online": Ahead(500, 5)}
    assert ahead(CONFIG, "online", 450) == {"online": Ahead(50, 1)}
    assert ahead(CONFIG, "online", 500) == {}
    assert ahead(CONFIG | {"eval.episodes": 0}, "online", 450) == {"online": Ahead(50, 0)}
    assert ahead(CONFIG | {"agent_name": "bc"}, "bc", 100) == {"bc": Ahead(200, 0)}


def test_what_was_not_measured_is_not_guessed():
    todo = {"offline": Ahead(1000, 10), "online": Ahead(500, 5)}
    assert left(todo, {}, 30) == Left(None)
    assert left(todo, {"offline": 0.1}, None) == Left(None)
    assert left(todo, {"offline": 0.1}, 30) == Left(400, ("online",))
    assert str(Left(9660, ("online",))) == "2 h 41 min + online"
    assert left(todo, {"offline": 0.1, "online": 1}, 30) == Left(1050)
    assert left({}, {}, None) == Left(0)
    assert str(Left(None)) == "-"


def test_a_pace_forgets_the_compilation_and_follows_the_latest_rates():
    pace, todo = Pace(), {"offline": Ahead(1000, 0)}
    pace.trained("offline", 0.0)  # a run that goes on, at its first row
    assert pace.left(todo) == Left(None)
    pace.trained("offline", 1.0)
    assert pace.left(todo) == Left(1000)
    pace.trained("offline", 100.0)
    assert pace.left(todo).seconds == pytest.approx(10)
    for _ in range(10):
        pace.trained("offline", 50.0)
    assert pace.left(todo).seconds == pytest.approx(20)
    for seconds in (90, 10, 20, 30):
        pace.evaluated(seconds)
    assert pace.left({"offline": Ahead(1000, 2)}).seconds == pytest.approx(20 + 2 * 20)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "1 h 0 min"), (9660, "2 h 41 min"), (86400 * 3.2, "3 d 5 h")],
)
def test_in_words(seconds, words):
    assert in_words(seconds) == words


CLOCK = """
import sys, time
from experiments.training.time_left import WorkingClock
clock = WorkingClock(tick=0.05, longest=0.5)
began, real = clock(), time.monotonic()
print("ready", flush=True)
sys.stdin.readline()
print(time.monotonic() - real - (clock() - began))
"""


def test_a_stop_is_no_work():
    """A process that is stopped for a second while its main thread waits: as long is left out, less a tick or two."""
    with subprocess.Popen(
        [sys.executable, "-c", CLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(process.pid, signal.SIGCONT)
        left_out = float(process.communicate("\n")[0])
    assert left_out > 0.8


def test_a_clock_that_is_asked_right_after_a_stop_knows_of_it():
    now = [0.0]
    clock = WorkingClock(tick=1e6, longest=10, now=lambda: now[0])
    clock._tick = 1
    readings = []
    for now[0] in (5.0, 10.0, 3610.0, 3615.0):
        readings.append(clock())
    np.testing.assert_allclose(readings, [5, 10, 11, 16])


def test_the_line_of_an_evaluation():
    class Recorder:
        flat_config = CONFIG

        def sound(self):
            return [0, 1]

    pace = Pace()
    line = lambda phase, step, success: Evaluator(None, Recorder(), [], 50, 0, None, pace)._line(phase, step, success)
    pace.evaluated(30)
    assert line("bc", 300, np.array([0.1, 0.2])) == (
        "BC policy | success 0.150 (0.10 to 0.20, 2 replicas x 50 episodes) | evaluation 30 s | left -"
    )
    pace.trained("offline", 812.4)
    assert line("offline", 1000, np.array([0.1, 0.5, 0.9])) == (
        "offline 1,000/1,050 | success 0.300 (0.10 to 0.50, 3 replicas x 50 episodes, 1 diverged) | "
        "812 updates/s, evaluation 30 s | left 30 s + online"
    )
