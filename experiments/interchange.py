"""Results in the papers' released format, a pickle of {(scope, method): success (evaluations, seeds)}, fractions.

    python experiments/interchange.py RUNS... --out=results.pkl --release=trqam

writes the results of runs so; `table.py results.pkl --release=trqam` reads such a file, of anyone. A scope is a task by
OGBench's full name, a domain or "all". Evaluations are 50,000 updates apart, the online ones after the offline ones; of
a method that was only trained online there may be only those. What a run has not evaluated is nan.
"""

import pathlib
import pickle
import sys
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import envs
from experiments import cli
from experiments.analysis.cells import ALL, BENCHMARK, parse_scope, scope
from experiments.analysis.rows import Curves, Line, Point, Source, mixtures, name_unfinished, read_runs, sources
from trqam_jax.errors import UserError
from trqam_jax.interop import safe_pickle

INTERVAL, OFFLINE, ONLINE_ROWS = 50_000, 1_000_000, 10


class Release(NamedTuple):
    """The shape of a release's arrays and the protocol they were made under."""

    protocol: str
    rows: int
    seeds: int
    first_step: int  # of row 0; 0 is the cloned policy

    def steps(self, rows: int) -> list[int] | None:
        """Of an array with so many rows; None if there is no such array."""
        first = {self.rows: self.first_step, ONLINE_ROWS: OFFLINE + INTERVAL}.get(rows)
        return None if first is None else [first + INTERVAL * i for i in range(rows)]


RELEASES = {
    "qam": Release("qam", 30, 12, INTERVAL),
    "trqam": Release("trqam", 30, 8, INTERVAL),
    "sqam": Release("trqam", 31, 8, 0),
}


def phase_of(step: int) -> str:
    """The phase that a release's evaluation at a step belongs to."""
    return "bc" if step == 0 else "offline" if step <= OFFLINE else "online"


def load(path: pathlib.Path, release_name: str, phase: str) -> Source:
    """The curves of a released file in one phase. A UserError if it is not of that shape."""
    release, content, curves = RELEASES[release_name], safe_pickle.load(path), {}
    if not (isinstance(content, dict) and content and all(_is_key(key) for key in content)):
        raise UserError(f"{path}: expected a dict with keys (task, domain or 'all'; method)")
    for (name, method), array in content.items():
        where = f"{path}: ({name}, {method})"
        steps = _checked_steps(where, array, release, release_name)
        if name == ALL:
            continue  # is made anew from the domains
        domain, task = parse_scope(name)
        for seed, column in enumerate(np.asarray(array, float).T):
            curve = {s: Point(float(x)) for s, x in zip(steps, column, strict=True) if phase_of(s) == phase}
            known = {step: point for step, point in curve.items() if not np.isnan(point.success)}
            curves[Line(method, domain, task, seed)] = known
    _check_domains(path, curves)
    if not any(curves.values()):
        raise UserError(f"{path}: nothing of phase {phase!r} in it")
    return Source(str(path), release.protocol, release.seeds, curves)


def _is_key(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key)


def _checked_steps(where: str, array: Any, release: Release, name: str) -> list[int]:
    if not (isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "fiu"):
        raise UserError(f"{where}: expected an array (evaluations, seeds)")
    rows, seeds = array.shape
    steps = release.steps(rows)
    if steps is None or seeds > release.seeds:
        known = ", ".join(f"{name} ({of.rows}, {of.seeds})" for name, of in RELEASES.items())
        raise UserError(
            f"{where}: shape {array.shape} is none of --release={name}; releases: {known}, at most so many seeds, and "
            f"{ONLINE_ROWS} rows for a method that was only trained online"
        )
    if not np.all(np.isnan(array) | ((array >= 0) & (array <= 1))):
        raise UserError(f"{where}: expected fractions from 0 to 1, it holds {np.nanmin(array)} to {np.nanmax(array)}")
    return steps


def _check_domains(path: pathlib.Path, curves: Curves) -> None:
    """A line on stderr where a domain is not the mean of its tasks: the domain's own values are used."""
    for line, curve in curves.items():
        num_tasks = envs.DOMAINS[line.domain].num_tasks
        tasks = [curves.get(line._replace(task=task)) for task in range(1, num_tasks + 1)]
        if line.task is None and all(tasks):
            off = [abs(p.success - np.mean([task[s].success for task in tasks if s in task])) for s, p in curve.items()]
            if max(off, default=0) > 1e-3:
                where = f"{line.domain}, {line.method}, seed {line.seed}"
                print(f"{path}: {where} is not the mean of its tasks; its own values are used", file=sys.stderr)


def dump(by_phase: dict[str, Curves], release: Release) -> dict[tuple[str, str], np.ndarray]:
    """The released format: tasks, and domains and "all" where all tasks are there. Frozen evaluations are nan.

    by_phase: curves of phases bc, offline and online.
    """
    steps = release.steps(release.rows)
    lines = {line for curves in by_phase.values() for line in curves}
    seeds = sorted({line.seed for line in lines})
    result: dict[tuple[str, str], np.ndarray] = {}
    for method, domain in sorted({(line.method, line.domain) for line in lines}):
        tasks = sorted({line.task for line in lines if (line.method, line.domain) == (method, domain)})
        for task in tasks:
            curves = [
                {phase: curves.get(Line(method, domain, task, seed), {}) for phase, curves in by_phase.items()}
                for seed in seeds
            ]
            result[scope(domain, task), method] = np.array([[_at(curve, step) for curve in curves] for step in steps])
        if len(tasks) == envs.DOMAINS[domain].num_tasks:
            result[scope(domain), method] = np.mean([result[scope(domain, task), method] for task in tasks], axis=0)
    for method in sorted({method for _, method in result}):
        if all((domain, method) in result for domain in BENCHMARK):
            result[ALL, method] = np.mean([result[domain, method] for domain in BENCHMARK], axis=0)
    return result


def _at(curves: dict[str, dict[int, Point]], step: int) -> float:
    """A seed's success at a release's step, or nan. The cloned policy counts as step 0, however it was made."""
    curve = curves.get(phase_of(step), {})
    point = curve.get(max(curve) if curve and step == 0 else step)
    return point.success if point and point.status == "ok" else float("nan")


def export(paths: list[pathlib.Path], release_name: str) -> dict[tuple[str, str], np.ndarray]:
    """The released format of runs. A UserError if they are of another protocol or never evaluate at its steps."""
    runs, release = read_runs(paths), RELEASES[release_name]
    if problems := mixtures(runs, {f"--release={release_name}": release.protocol}):
        raise UserError("; ".join(problems))
    name_unfinished(runs)
    present = {row["phase"] for run in runs for row in run.eval}
    by_phase = {phase: sources(runs, phase)[0].curves for phase in ("bc", "offline", "online") if phase in present}
    result = dump(by_phase, release)
    seen = {s for phase, curves in by_phase.items() if phase != "bc" for curve in curves.values() for s in curve}
    if off := sorted(seen - set(release.steps(release.rows))):
        print(f"left out, as the format has no such rows: steps {', '.join(map(str, off))}", file=sys.stderr)
    if not result or all(np.isnan(array).all() for array in result.values()):
        raise UserError(f"nothing to export: no evaluation at a multiple of {INTERVAL:,} updates")
    return result


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__)
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, metavar="RUNS", help="folders of runs, or parents of some"
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the file to write")
    parser.add_argument("--release", choices=RELEASES, default="trqam", help="whose shape (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        content = export(arguments.runs, arguments.release)
        with arguments.out.open("xb") as file:
            pickle.dump(content, file)
    except (UserError, OSError) as error:
        cli.fail(error)
    rows, seeds = next(iter(content.values())).shape
    print(f"{arguments.out}: {len(content)} arrays of {rows} evaluations and {seeds} seeds")


if __name__ == "__main__":
    main()
