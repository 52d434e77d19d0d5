"""Disturb small runs, sweeps, generated data and downloads, go on, and compare with what nothing disturbed.

    python -m benchmarks.kill --events=1000 --seed=0 --folder=/tmp/kill --table=benchmarks/results/kill.csv
    python -m benchmarks.kill --table=benchmarks/results/kill.csv --summary

A row per event: the seed, the run, what was disturbed, the kind of event, the place where it hit, the moment, what
happened, whether the process ended as it should, and whether what the run left in the end is equal to the byte.
The campaign goes on where it was when it is started again with the same folder and table; a file `stop` in the folder
ends it after the runs under way. It takes root on Linux, cc,
and about a CPU minute for 15 events. The exit status is non-zero if anything was not as it should be.
"""

import os
import pathlib
import subprocess
import sys

from benchmarks.kill import conditions, faults, record
from benchmarks.kill.process import ROOT
from trqam_jax import console


def main() -> None:
    parser = console.Parser(prog="python -m benchmarks.kill", description=__doc__)
    parser.add_argument("--events", type=int, default=1000, help="so many in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what happens when")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/trqam_jax-kill"))
    parser.add_argument("--table", type=pathlib.Path, default=pathlib.Path("kill.csv"))
    parser.add_argument("--lanes", type=int, default=2, help="runs at a time")
    parser.add_argument("--scenes", default="", help="only these: fql;trqam;cube;sweep;generate;download")
    parser.add_argument("--kinds", default="", help="only these kinds of events, also with ; between them")
    parser.add_argument("--summary", action="store_true", help="only print what the table holds")
    given = parser.parse_args()
    if not given.summary:
        if reason := conditions.allowed():
            sys.exit(f"error: {reason}")
        _run(given)
    rows = record.Table(given.table).rows()
    print(record.summary(rows))
    sys.exit(any(row["outcome"] != record.RIGHT or row["left"] != record.EQUAL for row in rows))


def _run(given) -> None:
    folder, table = given.folder.resolve(), given.table.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record.Table(table)
    library = faults.build(folder)
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.kill.lane", folder, table, str(given.seed)]
    lanes = [
        subprocess.Popen(
            [*command, str(number), str(given.lanes), str(given.events), given.scenes, given.kinds],
            cwd=ROOT,
            env=environment,
        )
        for number in range(given.lanes)
    ]
    failed = [lane.wait() for lane in lanes]
    if any(failed):
        sys.exit(f"error: a lane ended with status {max(failed)}")


if __name__ == "__main__":
    console.prepare()
    main()
