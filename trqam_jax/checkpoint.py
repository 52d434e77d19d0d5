"""Saving and loading pytrees with orbax: a crash leaves what was there before, and damage is noticed."""

import contextlib
import json
import logging
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from trqam_jax.errors import UserError
from trqam_jax.files import check_room, read_json, sha256, sha256_file, sha256_json, sync, way_out
from trqam_jax.types import Params

META, TREE = "trqam_jax.json", "tree"

#: Paths that orbax and what is below it take as they are. Brackets are a pattern to it, others the end of a URL.
_PLAIN = re.compile(r"[A-Za-z0-9_./+=,@-]*")


class Damaged(UserError):
    """A checkpoint is not what was written."""


def save(path: pathlib.Path, tree: Any, meta: Mapping[str, Any]) -> None:
    """A folder with the arrays of `tree` and with `meta`, and in it the digests of every file.

    It is written under another name, read back as far as names and shapes go, brought to the disk, and renamed: `path`
    never holds half of it. Any name that the file system takes will do.
    """
    path = path.resolve()
    temporary, replaced = (path.with_name(f".{path.name}.{end}") for end in ("new", "old"))
    try:
        for folder in (temporary, replaced):
            shutil.rmtree(folder, ignore_errors=True)
        temporary.mkdir(parents=True)
        # Orbax finds that out as well, but says it in a hundred lines of its threads' tracebacks.
        check_room(temporary, sum(x.nbytes for x in jax.tree.leaves(tree)))
        # Not the asynchronous one: its threads wait five minutes for a folder that cannot be made.
        checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        with _plain(temporary) as folder, _without_tracebacks(), checkpointer:
            checkpointer.save(folder / TREE, args=ocp.args.StandardSave(tree))
        differences = _differences(_stored(temporary), tree, ())
        if differences:
            raise ValueError(f"what was written reads as something else: {differences[0]}")
        files = [file for file in sorted(temporary.rglob("*")) if file.is_file()]
        content = {**meta, "files": {str(file.relative_to(temporary)): sha256_file(file) for file in files}}
        (temporary / META).write_text(json.dumps({**content, "digest": sha256_json(content)}, indent=2) + "\n")
        for place in (temporary, *temporary.rglob("*")):
            sync(place)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        sync(path.parent)
    except (OSError, ValueError, RuntimeError) as error:  # what a full disk is here, and in orbax's storage
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, jax.errors.JaxRuntimeError):  # the device that the arrays were to come from
            raise
        number = _errno(error)
        reason = os.strerror(number) if number else str(error).partition("\n")[0]
        raise UserError(f"{path}: the checkpoint cannot be written ({reason}); {way_out(number)}") from error
    shutil.rmtree(replaced, ignore_errors=True)


def load(path: pathlib.Path, like: Any, *, dropped: tuple[str, ...] = ()) -> Any:
    """The tree in the structure, shapes and devices of `like` (arrays or shapes).

    dropped: names of leaves, or their ends ("dual/budget"), that may be stored without being in `like`: as left by
    versions that kept more. Damaged if a file is not what was written; UserError names what else does not fit.
    """
    verify(path)
    expected = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), like
    )
    differences = _differences(_stored(path), expected, dropped)
    if differences:
        raise UserError(f"{path}: does not fit these networks: {differences[0]}")
    how = ocp.checkpoint_utils.construct_restore_args(expected)
    args = ocp.args.PyTreeRestore(expected, restore_args=how, partial_restore=bool(dropped))
    with _plain(path) as folder, ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder / TREE, args)


def load_arrays(path: pathlib.Path, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Of a run's state these arrays of its agents, by name ("train/params/actor/Dense_0/kernel"); the rest is left.

    Damaged if a file is not what was written; UserError names an array that is missing or has another shape.
    """
    verify(path)
    part = traverse_util.unflatten_dict(dict(shapes), sep="/")
    agents, *others = _stored(path)
    have = _shapes(agents)
    for name, shape in shapes.items():
        if have.get(name) != tuple(shape.shape):
            raise UserError(f"{path}: {name} has shape {have.get(name, 'none')}, expected {tuple(shape.shape)}")
    like = (part, *[None] * len(others))
    how = ocp.checkpoint_utils.construct_restore_args(like)
    args = ocp.args.PyTreeRestore(like, restore_args=how, partial_restore=True)
    with _plain(path) as folder, ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        arrays, *_ = checkpointer.restore(folder / TREE, args)
    return {name: np.asarray(x) for name, x in traverse_util.flatten_dict(arrays, sep="/").items()}


def stored_shapes(path: pathlib.Path) -> Any:
    """The stored tree, shapes in place of its arrays. Damaged if a file is not what was written."""
    verify(path)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype), _stored(path))


def read_meta(path: pathlib.Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """What was saved as `meta`, with at least these keys; a UserError if `path` is no such checkpoint, Damaged if its
    meta file is not what it was."""
    if not (path / META).is_file():
        raise UserError(f"{path}: not a checkpoint of trqam_jax (it has no {META})")
    try:
        content = read_json(path / META, ("files", "digest"))
    except UserError as error:
        raise Damaged(str(error)) from error
    if content.pop("digest") != sha256_json(content):
        raise Damaged(f"{path / META}: damaged, its content does not match its digest")
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{path}: is another kind of checkpoint, its {META} has no {', '.join(missing)}")
    files = content["files"]
    if not isinstance(files, dict) or not all(map(_is_inside, files)):
        raise UserError(f"{path / META}: files are {files!r:.80}, expected digests by names of files beside it")
    return content


def _is_inside(name: str) -> bool:
    """Whether the name is of a file in the folder that it is relative to."""
    place = pathlib.PurePosixPath(name)
    return bool(place.name) and not place.is_absolute() and ".." not in place.parts


def read_policy_meta(path: pathlib.Path) -> dict[str, Any]:
    """`read_meta` of a policy, with values that can be what they are called: others may have written them."""
    meta = read_meta(path, POLICY)
    is_number = lambda value: type(value) is int and value >= 0
    seeds = meta["seeds"]
    good = {
        "seeds": isinstance(seeds, list) and len(seeds) > 0 and all(map(is_number, seeds)),
        "steps": is_number(meta["steps"]),
        "fingerprint": isinstance(meta["fingerprint"], str),
        "env": isinstance(meta.get("env"), str | None),
        "per_seed": isinstance(meta.get("per_seed"), bool | None),
        "provenance": isinstance(meta.get("provenance"), dict | None),
    }
    for key, is_good in good.items():
        if not is_good:
            raise UserError(f"{path / META}: {key} is {meta[key]!r:.80}, which no policy of trqam_jax has")
    return meta


def verify(path: pathlib.Path) -> None:
    """Damaged, naming the file, if one is missing or has another content than when it was written."""
    for name, digest in read_meta(path)["files"].items():
        if not os.path.isfile(path / name):
            raise Damaged(f"{path / name}: damaged, it is missing or no file")
        try:
            found = sha256_file(path / name)
        except OSError as error:
            raise Damaged(f"{path / name}: damaged, {error.strerror}") from error
        if found != digest:
            raise Damaged(f"{path / name}: damaged, its content does not match its digest")


#: What the meta file of a policy has at least.
POLICY = ("fingerprint", "seeds", "steps")


def save_params(path: pathlib.Path, params: Params, meta: Mapping[str, Any]) -> None:
    """A policy: its parameters and `meta`, to which a fingerprint of the parameters' bytes is added."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    parts = (jax.tree_util.keystr(key).encode() + np.asarray(leaf).tobytes() for key, leaf in leaves)
    save(path, params, {**meta, "fingerprint": sha256(parts)})


class Place(NamedTuple):
    """How far a run has come."""

    phase: str
    step: int


class Checkpoints:
    """The last two states of a run, folder/{phase}-{step}. phases: in the order in which a run goes through them."""

    def __init__(self, folder: pathlib.Path, phases: tuple[str, ...]):
        self._folder, self._phases = folder, phases

    def path(self, place: Place) -> pathlib.Path:
        """Where the state at `place` is kept."""
        return self._folder / f"{place.phase}-{place.step}"

    def places(self) -> list[Place]:
        """All that are there, damaged or not, in their order."""
        names = [path.name for path in self._folder.glob("*")]
        matches = [re.fullmatch(rf"({'|'.join(self._phases)})-(\d+)", name) for name in names]
        found = [Place(match[1], int(match[2])) for match in matches if match]
        return sorted(found, key=self._order)

    def save(self, place: Place, tree: Any) -> None:
        """Write the state at `place` and forget all but the last two."""
        for left in self._folder.glob(".*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        save(self.path(place), tree, place._asdict())
        for old in self.places()[:-2]:
            self._forget(old)

    def forget_after(self, place: Place) -> None:
        """Forget the states behind `place`: of a run that was shorter, and that this one does not pass through."""
        for later in [other for other in self.places() if self._order(other) > self._order(place)]:
            self._forget(later)

    def _forget(self, place: Place) -> None:
        gone = self._folder / f".{place.phase}-{place.step}.old"
        self.path(place).rename(gone)  # at once, so that no half of it is ever taken for a checkpoint
        shutil.rmtree(gone, ignore_errors=True)

    def _order(self, place: Place) -> tuple[int, int]:
        return self._phases.index(place.phase), place.step

    def newest(self, usable: Callable[[Place], bool] = lambda place: True) -> Place | None:
        """The last usable state that is intact, None if none was ever written, Damaged if none is intact.

        A damaged one after it is named on stderr and set aside.
        """
        damaged: dict[Place, Damaged] = {}
        for place in filter(usable, reversed(self.places())):
            try:
                self._verify(place)
            except Damaged as error:
                damaged[place] = error
                continue
            for other, error in damaged.items():
                aside = self._folder / f"damaged-{self.path(other).name}"
                shutil.rmtree(aside, ignore_errors=True)
                self.path(other).rename(aside)
                print(f"warning: {error}; going on from {self.path(place).name} instead", file=sys.stderr)
            return place
        if damaged:
            raise Damaged(f"{self._folder}: no checkpoint is intact ({'; '.join(map(str, damaged.values()))})")
        return None

    def load(self, place: Place, like: Any, *, dropped: tuple[str, ...] = ()) -> Any:
        """The state at `place`, as `load` does it."""
        return load(self.path(place), like, dropped=dropped)

    def _verify(self, place: Place) -> None:
        if not (self.path(place) / META).is_file():
            raise Damaged(f"{self.path(place) / META}: damaged, it is missing")
        verify(self.path(place))
        _stored(self.path(place))  # earlier versions wrote what orbax cannot read, under names with brackets


def _stored(path: pathlib.Path) -> Any:
    """Names and shapes of the arrays in a checkpoint, as a tree; Damaged if there are none to be read."""
    with _plain(path) as folder, ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        stored = checkpointer.metadata(folder / TREE).item_metadata
    if stored is None:
        raise Damaged(f"{path / TREE}: damaged, no arrays can be read from it")
    return getattr(stored, "tree", stored)


def _errno(error: Exception) -> int | None:
    """The system's number of what orbax or its storage raised; the storage has it in the text alone."""
    if isinstance(error, OSError):
        return error.errno
    match = re.search(r"os_error_code='(\d+)'", str(error))
    return int(match[1]) if match else None


def _not_orbaxs(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname or record.levelno < logging.ERROR


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """In here, and for good after an error, orbax's threads do not print what they raise: `save` says it in one line.

    Of a save that failed they go on for a while, and find that nobody waits for them.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    logger.addFilter(_not_orbaxs)
    sys.unraisablehook = lambda raised: None if str(raised.exc_value) == "Event loop is closed" else hook(raised)
    yield
    logger.removeFilter(_not_orbaxs)
    sys.unraisablehook = hook


@contextlib.contextmanager
def _plain(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path of the folder that orbax takes, whatever its name: if need be, that of an open descriptor."""
    folder = folder.resolve()
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    if not os.path.isdir("/proc/self/fd"):
        raise UserError(f"{folder}: without /proc, checkpoints need a path of letters, digits and _ . - + = , @ alone")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield pathlib.Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _differences(stored: Any, expected: Any, dropped: tuple[str, ...]) -> list[str]:
    """The leaves whose shapes differ, by name, without those that may be stored for nothing."""
    have, want = _shapes(stored), _shapes(expected)
    return [
        f"{name} has shape {have.get(name, 'none')}, expected {want.get(name, 'none')}"
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name) and not (name not in want and _ends_with(name, dropped))
    ]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _ends_with(name: str, ends: tuple[str, ...]) -> bool:
    """Whether the last parts of a leaf's name are one of `ends`."""
    return any(f"/{name}".endswith(f"/{end}") for end in ends)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
