"""Requests of sweeps, and sweeps whose jobs run a stand-in for main.py."""

import json
import pathlib
import time

from absl import flags

from experiments import cli
from experiments.sweeps import local, states
from experiments.sweeps.manifest import Job
from experiments.sweeps.plan import Request

ROOT = pathlib.Path(__file__).parents[1]
STAND_IN = str(ROOT / "tests" / "stand_in.py")


def request(**own):
    asked = dict(agents=["trqam", "fql"], envs=["cube-single"], tasks="1,2", seeds=["1", "2", "3"], num_seeds=None)
    rest = dict(protocol="quick", flags={"out_dir": "/runs", "group": "g"}, overrides={}, max_replicas=None)
    return Request(**{**asked, **rest, **own})


def methods(jobs):
    return [job for job in jobs.values() if job.after]


def as_resolved(job):
    """The configuration that main.py makes of the job's arguments."""
    cli.define_agents_flags()
    try:
        program, agent, *rest = flags.FLAGS(["main.py", *job.argv], known_only=True)
        return cli.resolve(agent.removeprefix("--agent="), [program, *rest])
    finally:
        for name in cli.SHARED:
            flags.FLAGS[name].unparse()
        flags.FLAGS.unparse_flags()


def job(name, after=(), **own):
    agent, env, *_ = name.split("/")
    agent = "bc" if agent == "cloning" else agent
    argv = [f"--agent={agent}", f"--env={env}", f"--config.run.part={name}", *own.pop("argv", [])]
    return Job(name, agent, env, argv, list(after), 2, 100, {"agent_name": agent, "run.part": name})


def order(sweep, **what):
    """What the stand-in does, by the job's name with __ for the slash."""
    text = json.dumps({name.replace("__", "/"): action for name, action in what.items()})
    (sweep.folder.parents[1] / "do.json").write_text(text)


def diary(sweep):
    return [line.split(" ") for line in (sweep.folder.parents[1] / "diary").read_text().splitlines()]


def kinds(sweep):
    return {name: states.state(sweep, job, {}).kind for name, job in sweep.jobs.items()}


def run(sweep, places=({}, {})):
    done = [name for name, kind in kinds(sweep).items() if kind == "done"]
    said = []
    local.run(sweep.only(sweep.jobs.keys() - done), done, places, said.append)
    return said


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
