"""Episodes played for datasets, in worker processes or here, and files that say how they were made."""

import errno
import functools
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from trqam_jax.errors import UserError, start_thread
from trqam_jax.files import lock_target

Episode = dict[str, Any]
Collect = Callable[..., Episode]


class GenerationError(UserError):
    """Episodes could not be played. Its single line names the data and the cause."""


def check_at_least(**bounds: tuple[int, int]) -> None:
    """UserError unless every value is at least what stands beside it: name=(value, least)."""
    for name, (value, least) in bounds.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}.")


def play_all(
    title: str,
    make: Callable[[], Any],
    collect: Collect,
    total: int,
    *,
    workers: int,
    progress: bool,
) -> list[Episode]:
    """Episodes 0 .. total - 1 in order; whatever goes wrong becomes one GenerationError.

    make: the simulator, which has a method close; collect(simulator, episode=number): that episode. Both are pickled
    if there are workers.
    """
    from tqdm import tqdm

    players = _here if workers == 1 else functools.partial(_in_workers, min(workers, total))
    try:
        return list(tqdm(players(make, collect, total), title, total, disable=not progress, unit="episode"))
    except BrokenProcessPool as error:
        hint = 'out of memory, or a script without `if __name__ == "__main__":`; workers=1 starts no processes'
        raise GenerationError(f"Generating {title} failed: a worker process died ({hint}).") from error
    except Exception as error:
        hint = ""
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and workers > 1:
            hint = "; /dev/shm, by which worker processes are told what to do, may be full: workers=1 starts none"
        raise GenerationError(f"Generating {title} failed: {type(error).__name__}: {error}{hint}") from error


def _here(make: Callable[[], Any], collect: Collect, total: int) -> Iterator[Episode]:
    """Episodes played in this process."""
    callers = np.random.get_state()  # noqa: NPY002
    simulator = make()
    try:
        yield from (collect(simulator, episode=episode) for episode in range(total))
    finally:
        simulator.close()
        np.random.set_state(callers)  # noqa: NPY002


def _in_workers(workers: int, make: Callable[[], Any], collect: Collect, total: int) -> Iterator[Episode]:
    """The same episodes, played by worker processes of one thread each."""
    context = multiprocessing.get_context("spawn")  # a fork would copy JAX's threads, if the caller has any
    saved = os.environ.get("OMP_NUM_THREADS")
    with ProcessPoolExecutor(workers, context, _start_worker, (make,)) as pool:
        os.environ["OMP_NUM_THREADS"] = "1"  # numpy reads it when a worker, started by map, imports it
        episodes = pool.map(functools.partial(_work, collect), range(total))
        os.environ.pop("OMP_NUM_THREADS") if saved is None else os.environ.update(OMP_NUM_THREADS=saved)
        yield from episodes


_of_worker: dict[str, Any] = {}  # make; the simulator once it was needed; the error of its start


def _work(collect: Collect, episode: int) -> Episode:
    if "error" in _of_worker:
        raise _of_worker["error"]
    if "simulator" not in _of_worker:  # not when the worker starts: what fails there is not told
        _of_worker["simulator"] = _of_worker["make"]()
    return collect(_of_worker["simulator"], episode=episode)


def _start_worker(make: Callable[[], Any]) -> None:
    """Leave Ctrl-C to the parent, and end with it. What is wrong is kept for `_work`."""
    _of_worker["make"] = make
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        start_thread(threading.Thread(target=_end_with_the_parent, daemon=True))
    except UserError as error:
        _of_worker["error"] = error


def _end_with_the_parent() -> None:
    """End this worker once its parent is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make_once(
    paths: Sequence[pathlib.Path],
    settings: Mapping[str, Any],
    provenance: Callable[[pathlib.Path], Mapping[str, Any] | None],
    make: Callable[[], None],
) -> None:
    """Call `make`, which writes the files, unless all are there; UserError if one is, and was made with other settings.

    settings: of which "versions" may differ; provenance: those that a file was made with. Of several processes one
    makes the files and the others wait, because two machines may round differently and their files would not be equal.
    """
    if _all_made_with(paths, settings, provenance):
        return
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with lock_target(paths[0]):
        if not _all_made_with(paths, settings, provenance):  # else by the process that had the lock
            make()


def _all_made_with(
    paths: Sequence[pathlib.Path],
    settings: Mapping[str, Any],
    provenance: Callable[[pathlib.Path], Mapping[str, Any] | None],
) -> bool:
    there = [path for path in paths if path.exists()]
    for path in there:
        _check_made_with(path, provenance(path), settings)
    return len(there) == len(paths)


def _check_made_with(path: pathlib.Path, found: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> None:
    """UserError if the file, whose provenance is `found`, was made with other settings; versions may differ."""
    found = found or {"generator": None}
    keys = [key for key in settings if key != "versions" and found.get(key) != settings[key]]
    difference = ", ".join(f"{key} {found.get(key)!r} instead of {settings[key]!r}" for key in keys)
    if keys:
        what = "was not generated here" if "generator" in keys else f"was made with {difference}"
        raise UserError(f"{path} exists and {what}; remove it or choose another out_dir.")
