"""What a run is waited for: python -m benchmarks.start --csv=benchmarks/results/start-cpu.csv

From the start of a process to its first fine-tuning update, as main.py makes it at the paper's size: "cold"; "kept",
with the programs that the cold one kept; and "cloned", cold and after a few updates of behaviour cloning. "released" is
the plain loop with the released update's arithmetic (`benchmarks.update`), a process that reads no data and starts no
simulators. They take turns, --rounds times; the table has medians, the file every run.
"""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import app, flags

from trqam_jax import console
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
KINDS = ("released", "cold", "kept", "cloned")


class Row(NamedTuple):
    """One process; seconds. What is done ahead overlaps, so that parts do not add up to the whole."""

    kind: str
    imports: float  # from the process's start to the run's
    data: float
    trace: float  # tracing and lowering, in the main thread
    compile: float  # the fine-tuning program's, in a thread; or the one that creates and the update's
    waited: float  # by the main thread, for programs
    update: float  # the first one
    whole: float  # from the process's start to the end of the first fine-tuning update
    processor: float  # of the process until then, all threads, no simulators
    after_imports: float
    after_cloning: float  # from the end of its last update to the end of the first fine-tuning update
    after_cloning_processor: float  # of that
    memory_mib: float  # the process's peak


def started() -> float:
    """When this process started, as `time.time` tells it."""
    fields = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    uptime = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")


class Clock:
    """Seconds spent in calls, by name, and moments."""

    def __init__(self):
        self.spent: dict[str, float] = {}
        self.moments: dict[str, float] = {}

    def timed(self, owner: Any, name: str, part: str) -> None:
        """Have the calls of owner.name counted to `part`."""
        call = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - start

        setattr(owner, name, counted)

    def now(self, moment: str) -> None:
        self.moments[moment] = time.time()


def a_run(report: pathlib.Path, arguments: list[str]) -> None:
    """main.py in this process, up to its first fine-tuning update."""
    clock = Clock()
    sys.argv = ["experiments/main.py", *arguments]
    from experiments import cli, main
    from experiments.training import run, stage_run
    from trqam_jax import ahead, replicas

    clock.timed(run, "load_data", "data")
    clock.timed(replicas.Creation, "__init__", "trace")
    clock.timed(replicas.Creation, "compile_ahead", "trace")
    clock.timed(stage_run, "zero_totals", "trace")
    clock.timed(replicas, "_lower", "trace")
    clock.timed(ahead.Ahead, "result", "waited")
    compile_one, begin, advance = ahead.Ahead._compile, run.locate, replicas.Population.run

    def compile_and_tell(program: Any, *given: Any) -> None:
        start = time.perf_counter()
        compile_one(program, *given)
        clock.spent["compile"] = max(clock.spent.get("compile", 0.0), time.perf_counter() - start)

    def begin_and_tell(*given: Any) -> Any:
        clock.now("imported")
        return begin(*given)

    def advance_and_tell(population: Any, first: Any, count: Any) -> None:
        start = time.perf_counter()
        advance(population, first, count)
        if type(population.agents).__name__ == "BC":
            clock.now("cloned")
            clock.spent["processor"] = time.process_time()
            return
        clock.spent["update"] = time.perf_counter() - start
        write(report, clock)
        os._exit(0)

    ahead.Ahead._compile, run.locate, replicas.Population.run = compile_and_tell, begin_and_tell, advance_and_tell
    app.run(main.main, argv=sys.argv, flags_parser=cli.parse)


def the_released_loop(report: pathlib.Path, arguments: list[str]) -> None:
    """Of `benchmarks.update`, up to its first update."""
    from unittest import mock

    from benchmarks import update

    clock = Clock()
    loop = update.Loop("trqam", "released", 1, tuple(map(int, arguments)), 0, 0.0)
    agent_class, config = update.configured(loop)
    clock.now("imported")
    with mock.patch("trqam_jax.adjoint.sample_path", update._second_pass):
        measured = update.before(agent_class, config, loop)
    clock.spent["compile"] = measured["create_seconds"] + measured["first_seconds"]
    write(report, clock)


def write(report: pathlib.Path, clock: Clock) -> None:
    """What a process has measured, at its first update."""
    import resource

    end, start, moments = time.time(), started(), clock.moments
    parts = {name: clock.spent.get(name, 0.0) for name in ("data", "trace", "compile", "waited", "update")}
    row = Row(
        kind="",
        imports=moments["imported"] - start,
        **parts,
        whole=end - start,
        processor=time.process_time(),
        after_imports=end - moments["imported"],
        after_cloning=end - moments.get("cloned", float("nan")),
        after_cloning_processor=time.process_time() - clock.spent.get("processor", float("nan")),
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    report.write_text(json.dumps(row._asdict()))


def measure(kind: str, folder: pathlib.Path, kept: pathlib.Path) -> Row:
    """A process of this kind. kept: where programs are."""
    report = folder / "report.json"
    widths, critics = FLAGS.hidden_dims, FLAGS.num_critics
    if kind == "released":
        arguments = widths
    else:
        given = {
            "env": "cube-single",
            "dataset": "generate",
            "dataset_dir": folder / "data",
            "dataset_episodes": FLAGS.episodes,
            "out_dir": tempfile.mkdtemp(dir=folder),
            "bc_steps": FLAGS.cloning_steps if kind == "cloned" else 0,
            "config.agent.hidden_dims": ",".join(widths),
            "config.agent.num_critics": critics,
        }
        given |= {"eval_episodes": 0} if kind == "cloned" else {}
        arguments = [f"--{key}={value}" for key, value in given.items()]
    function: Callable[..., None] = the_released_loop if kind == "released" else a_run
    call = f"start.{function.__name__}(pathlib.Path(sys.argv[1]), sys.argv[2:])"
    code = f"import pathlib, sys; from benchmarks import start; {call}"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(kept)}
    command = [sys.executable, "-c", code, str(report), *arguments]
    report.unlink(missing_ok=True)
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode or not report.exists():
        raise UserError(f"{kind}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Row(**json.loads(report.read_text()) | {"kind": kind})


def table(rows: list[Row]) -> str:
    """Medians by kind."""
    titles = [name.replace("_", " ") for name in Row._fields[1:]]
    lines = ["  ".join([f"{'kind':<9}", *titles])]
    for kind in dict.fromkeys(row.kind for row in rows):
        own = [row[1:] for row in rows if row.kind == kind]
        medians = (statistics.median(column) for column in zip(*own, strict=True))
        cells = [f"{x:>{len(title)}.2f}" for x, title in zip(medians, titles, strict=True)]
        lines.append("  ".join([f"{kind:<9}", *cells]))
    return "\n".join(lines)


def main(_) -> None:
    for kind in FLAGS.kinds:
        if kind not in KINDS:
            sys.exit(f"error: --kinds={kind}: expected some of {', '.join(KINDS)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        measure("cold", folder, folder / "first")  # generates the data
        for turn in range(FLAGS.rounds):
            for kind in FLAGS.kinds:
                kept = folder / ("cold" if kind in ("cold", "kept") else kind) / str(turn)
                rows.append(measure(kind, folder, kept))
                print(kind, " ".join(f"{x:.2f}" for x in rows[-1][1:]), flush=True)
                if FLAGS.csv:
                    with pathlib.Path(FLAGS.csv).open("w", newline="") as file:
                        writer = csv.writer(file, lineterminator="\n")
                        writer.writerow(Row._fields)
                        writer.writerows([f"{x:.4g}" if isinstance(x, float) else x for x in row] for row in rows)
    print(table(rows))


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_list("kinds", list(KINDS), "What is started: released, cold, kept (after cold), cloned.")
    flags.DEFINE_integer("rounds", 3, "Turns.", lower_bound=1)
    flags.DEFINE_list("hidden_dims", ["512"] * 4, "Widths of all networks.")
    flags.DEFINE_integer("num_critics", 10, "Critics.")
    flags.DEFINE_integer("episodes", 4, "Of data.")
    flags.DEFINE_integer(
        "cloning_steps", 1000, "Updates of behaviour cloning in a cloned one; protocols have 5,000 on."
    )
    flags.DEFINE_string("csv", None, "Where the rows are written.")
    app.run(main)
