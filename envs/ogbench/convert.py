"""Shards of a large release as memory-mapped files, in a folder beside them: once, one shard in memory at a time.

    python -m envs.convert ~/.ogbench/data/puzzle-4x4-play-100m-v0 --env=puzzle-4x4 --shards=10 --tasks=4

A run does the same for its own tasks when it first meets a folder of shards. Tasks that come later add their rewards
and masks, for which every shard is read again; --tasks=all spares that.
"""

import pathlib
import sys
import time
from collections.abc import Sequence

from envs.base import check_task
from envs.ogbench import domains, files
from trqam_jax.console import Parser
from trqam_jax.errors import UserError
from trqam_jax.files import expand


def main(argv: Sequence[str]) -> None:
    """The command line."""
    parser = Parser(prog="python -m envs.convert", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=pathlib.Path, help="the folder of shards, *-000.npz, *-001.npz, ...")
    parser.add_argument("--env", required=True, help="the domain, for example puzzle-4x4")
    parser.add_argument("--shards", type=int, default=0, help="how many of them; 0: all")
    parser.add_argument("--tasks", help="1,3 or all; by default the domain's default task")
    parser.add_argument("--sparse", action="store_true", help="rewards for the qam protocol: -1 but where solved")
    arguments = parser.parse_args(argv)
    try:
        print(convert(arguments.path, arguments.env, arguments.tasks, shards=arguments.shards, sparse=arguments.sparse))
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


def convert(path: pathlib.Path, env: str, tasks: str | None = None, *, shards: int = 0, sparse: bool = False) -> str:
    """Convert what is missing; returns what there is then, in one line."""
    domain, task = domains.parse(env)
    path = expand(path)
    if not path.is_dir():
        raise UserError(f"{path}: not a folder; only shards are converted, a plain file is read as it is")
    if tasks == "all":
        numbers = list(range(1, domain.num_tasks + 1))
    elif all(part.isdecimal() for part in (tasks or str(task)).split(",")):
        numbers = [int(part) for part in (tasks or str(task)).split(",")]
    else:
        raise UserError(f"--tasks={tasks}: expected numbers like 1,3 or the word all")
    for number in numbers:
        check_task(domain, number)
    started = time.perf_counter()
    arrays = files.load(path, domain, numbers, domain.horizon, sparse=sparse, shards=shards)
    return (
        f"{files.converted_folder(path, domain, shards)}: {len(arrays.actions):,} transitions, tasks "
        f"{', '.join(map(str, numbers))}, in {time.perf_counter() - started:.1f} s"
    )
