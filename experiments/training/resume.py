"""What a stage finds in its folder when it starts: nothing, itself unfinished, itself finished, or something else."""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.config import check_stored, declared
from experiments.row_format import aside, flatten
from experiments.training import lock
from experiments.training.stages import Stage
from trqam_jax.errors import UserError
from trqam_jax.files import expand, read_json


@contextlib.contextmanager
def acquire_run_dir(folder: pathlib.Path, stage: Stage, config: ConfigDict) -> Iterator[bool]:
    """Hold `folder` for this process, after what --resume asks for. Yields whether the run in it is finished.

    A shared stage that another process makes is waited for; a finished one is used whatever --resume says.
    """
    if config.run.resume == "must" and not stage.shared and not (folder / "config.json").exists():
        raise UserError(f"--resume=must: there is no run {folder}; {_nearest(folder, stage, config)}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(folder, wait=stage.shared))
        reusable = stage.shared and (folder / "DONE").exists()
        if config.run.resume == "never" and not reusable and any(path.name != lock.NAME for path in folder.iterdir()):
            _set_aside(folder)
            stack.enter_context(lock.hold(folder, wait=stage.shared))
        yield _is_finished(folder, stage, config)


def _is_finished(folder: pathlib.Path, stage: Stage, config: ConfigDict) -> bool:
    """Whether nothing is left to do. A UserError if what is there is damaged, or another run."""
    done = (folder / "DONE").exists()
    try:
        stored = read_json(folder / "config.json", tuple(config.keys()))
        check_stored(folder / "config.json", stored)
    except UserError as error:
        if not done and not any(folder.glob("checkpoints/*")):
            return False  # it got no further than that: there is nothing to lose
        raise UserError(f"{error}; --resume=never starts over, and moves this run aside") from error
    if stage.shared and done:
        return True
    state = "a finished" if done else "an unfinished"
    for key, (theirs, ours) in _differences(stored, stage, config).items():
        raise UserError(f"{folder}: holds {state} run with {key} = {theirs}, not {ours}; choose another --group")
    have, want = flatten(stored), flatten(config)
    # An evaluation of the BC policy alone has no length.
    lengths = () if config.agent_name == "bc" else stage.lengths
    for key in lengths:
        if done and want[key] < have[key]:
            raise UserError(
                f"{folder}: is finished with {key} = {have[key]}, more than {want[key]}; "
                "ask for as many or more, or choose another --group"
            )
    return done and all(want[key] == have[key] for key in lengths)


def _differences(stored: Mapping[str, Any], stage: Stage, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """{setting: (stored, wanted)} of those that make it another run. JSON first, so that tuples compare as written."""
    later = {key: setting.default for key, setting in declared(config.agent_name).items() if setting.since}
    have, want = later | flatten(stored), flatten(json.loads(json.dumps(config.to_dict())))
    return {
        key: (have.get(key), value)
        for key, value in want.items()
        if stage.must_match(key, config) and have.get(key) != value
    }


def _nearest(folder: pathlib.Path, stage: Stage, config: ConfigDict) -> str:
    """The run of this agent and environment that differs in the fewest settings, and in which, as text."""
    root = expand(config.run.out_dir)
    found: list[tuple[int, pathlib.Path, dict[str, tuple[Any, Any]]]] = []
    for path in root.glob(f"*/{config.env}/{config.agent_name}-*/config.json"):
        with contextlib.suppress(UserError):  # not every folder there need be a run
            stored = read_json(path, tuple(config.keys()))
            different = _differences(stored, stage, config)
            if stored["run"].get("group") != config.run.group:
                different["run.group"] = stored["run"].get("group"), config.run.group
            found.append((len(different), path.parent, different))
    if not found:
        return f"nor another of {config.agent_name} on {config.env} in {root}"
    _, nearest, different = min(found, key=lambda run: run[:2])
    changes = "; ".join(f"{key}: {theirs} -> {ours}" for key, (theirs, ours) in different.items())
    return f"the nearest is {nearest}, its settings -> yours: {changes or 'the same'}"


def _set_aside(folder: pathlib.Path) -> None:
    names = (aside(folder, number) for number in itertools.count(1))
    place = next(name for name in names if not name.exists())
    folder.rename(place)
    print(f"--resume=never: what was there is now {place}, and tables leave it out")
