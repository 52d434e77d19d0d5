"""The folder of an exported policy: policy.json says what it is, policy.safetensors holds its arrays.

Neither can hold a program, and no name in them becomes a path. What is read was perhaps written by a stranger: types,
names, shapes, sizes and numbers are checked, and a UserError says in one line what is wrong.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from trqam_jax import hub
from trqam_jax.errors import UserError
from trqam_jax.files import check_room, expand, sha256_file, sha256_json, sync
from trqam_jax.scaling import Scaling
from trqam_jax.types import Spec

MANIFEST, ARRAYS, CARD = "policy.json", "policy.safetensors", "README.md"
FILES = (MANIFEST, ARRAYS, CARD)  # all that a folder holds
FORMAT = 1
FLOW, AGENT = "flow", "agent"  # kinds: a velocity network, which needs no algorithm; an agent of `method`
MAX_JSON = 2**22  # bytes; a scaling of 10,000 numbers takes a tenth of it
MAX_SIZE = 100_000  # of observations, actions and horizons
_DTYPES = {"float32": "F32", "int32": "I32", "uint32": "U32", "bool": "BOOL"}


class Noise(NamedTuple):
    """Where the randomness of a policy's actions comes from: the streams that its run was evaluated with."""

    seed: int
    phase: str
    step: int


class Manifest(NamedTuple):
    """What policy.json says."""

    kind: str  # FLOW or AGENT
    method: str  # the algorithm's name
    settings: Mapping[str, Any]  # a flow's sizes, or the agent's settings
    spec: Spec
    scaling: Scaling | None  # of the observations that it sees
    precision: str  # of matrix products, as `trqam_jax.backend.matmul_precision` takes it
    noise: Noise
    about: Mapping[str, Any]  # for readers: environment, task, protocol, versions, origin; nothing is decided by it

    def to_json(self, digest: str) -> dict[str, Any]:
        """digest: sha256 of policy.safetensors."""
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "method": self.method,
            "settings": dict(self.settings),
            "spec": self.spec._asdict(),
            "scaling": None if self.scaling is None else self.scaling.to_json(),
            "precision": self.precision,
            "noise": self.noise._asdict(),
            "about": dict(self.about),
            "digest": digest,
        }
        return {**content, "checksum": checksum(content)}


class Stored(NamedTuple):
    """An exported policy, of which policy.json has been read and checked."""

    folder: pathlib.Path
    address: str  # the folder, or hub:owner/name@commit
    manifest: Manifest
    digest: str

    def arrays(self, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays, which must have exactly these names, shapes and dtypes. expected: arrays or their shapes."""
        path = self.folder / ARRAYS
        if not os.path.isfile(path):  # nothing ends the reading of a device
            raise UserError(f"{path}: missing, or no file")
        try:
            found = sha256_file(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        if found != self.digest:
            raise UserError(f"{path}: damaged, its content does not match the digest in {MANIFEST}")
        return _read_arrays(path, expected)


def checksum(content: Mapping[str, Any]) -> str:
    """Of what policy.json says, by which damage to it is noticed. It proves nothing: who writes the one writes both."""
    return sha256_json({key: value for key, value in content.items() if key != "checksum"})


def write(
    folder: pathlib.Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], card: Callable[[str], str]
) -> None:
    """The new folder with its three files, all or none. UserError if there is something already.

    card: the digest of policy.safetensors -> the text of README.md.
    """
    from safetensors.numpy import save_file

    if folder.exists():
        raise UserError(f"{folder}: exists already; name a new folder")
    temporary = folder.resolve().with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        check_room(temporary, sum(x.nbytes for x in arrays.values()))
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, temporary / ARRAYS)
        digest = sha256_file(temporary / ARRAYS)
        text = json.dumps(manifest.to_json(digest), indent=2, sort_keys=True, allow_nan=False)
        (temporary / MANIFEST).write_text(text + "\n")
        (temporary / CARD).write_text(card(digest))
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        temporary.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(address: str | pathlib.Path) -> Stored:
    """The exported policy in a folder, or the one called hub:owner/name or hub:owner/name@revision."""
    text = str(address)
    if text.startswith(hub.SCHEME):
        snapshot = hub.fetch(hub.Name.parse(text.removeprefix(hub.SCHEME)), [MANIFEST, ARRAYS])
        if not (snapshot.folder / MANIFEST).is_file():
            raise UserError(f"{text}: holds no exported policy (it has no {MANIFEST})")
        return _read_manifest(snapshot.folder, f"{hub.SCHEME}{snapshot.name}")
    hub.refuse_other_spellings(text)
    folder = expand(text)
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder}: no exported policy (it has no {MANIFEST}); export a run's or a BC policy's folder first"
        )
    return _read_manifest(folder, text)


def _read_manifest(folder: pathlib.Path, address: str) -> Stored:
    path = folder / MANIFEST
    content = _read_json(path)
    try:
        manifest, digest = _manifest(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Stored(folder, address, manifest, digest)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"larger than {MAX_JSON} bytes")
        content = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, no JSON ({reason:.120})") from None
    if type(content) is not dict:
        raise UserError(f"{path}: damaged, expected an object")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _manifest(content: Mapping[str, Any]) -> tuple[Manifest, str]:
    if content.get("format") != FORMAT:
        raise UserError(f"format is {content.get('format')!r:.40}, expected {FORMAT}; a newer version may read it")
    if "checksum" in content and content["checksum"] != checksum(content):  # earlier versions wrote none
        raise UserError("damaged or edited, its content does not match its checksum; export the policy again")
    kind = _text(content, "kind", "|".join((FLOW, AGENT)))
    spec_fields, noise_fields = (_value(content, key, dict) for key in ("spec", "noise"))
    spec = Spec(*(_whole(spec_fields, key, 1, MAX_SIZE) for key in Spec._fields))
    noise = Noise(
        seed=_whole(noise_fields, "seed", 0, 2**32 - 1),
        phase=_text(noise_fields, "phase", "[a-z]{1,20}"),
        step=_whole(noise_fields, "step", 0, 2**31 - 1),
    )
    scaling = content.get("scaling")
    manifest = Manifest(
        kind=kind,
        method=_text(content, "method", r"[a-z]\w{0,60}"),
        settings=_value(content, "settings", dict),
        spec=spec,
        scaling=None if scaling is None else Scaling.from_json(scaling),
        precision=_text(content, "precision", r"\w{1,40}"),
        noise=noise,
        about=_value(content, "about", dict),
    )
    if manifest.scaling is not None and len(manifest.scaling.low) != spec.observation_dim:
        raise UserError(f"scaling is of {len(manifest.scaling.low)} numbers, expected {spec.observation_dim}")
    return manifest, _text(content, "digest", "[0-9a-f]{64}")


def _value(content: Mapping[str, Any], key: str, kind: type) -> Any:
    value = content.get(key)
    if type(value) is not kind:
        raise UserError(f"{key} is {value!r:.60}, expected {kind.__name__}")
    return value


def _text(content: Mapping[str, Any], key: str, pattern: str) -> str:
    value = _value(content, key, str)
    if not re.fullmatch(pattern, value, re.ASCII):
        raise UserError(f"{key} is {value!r:.60}, expected {pattern}")
    return value


def _whole(content: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = _value(content, key, int)
    if not low <= value <= high:
        raise UserError(f"{key} is {value!r:.40}, expected {low} to {high}")
    return value


def check_settings(settings: Mapping[str, Any]) -> None:
    """UserError unless every value is a text, a flag, a finite number, None, or a short list of whole numbers."""
    for key, value in settings.items():
        values = value if isinstance(value, list) else [value]
        is_list = isinstance(value, list)
        plain = len(values) <= 100 and all(_is_plain(one) and (type(one) is int or not is_list) for one in values)
        if not plain:
            raise UserError(f"the setting {key!r:.60} is {value!r:.60}, expected a number, a flag or a list of widths")


def _is_plain(value: Any) -> bool:
    if type(value) in (int, float):
        return abs(value) <= 1e9  # which no nan is
    return value is None or type(value) is bool or (type(value) is str and len(value) <= 100)


def _read_arrays(path: pathlib.Path, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            _check_same_names(path, set(file.keys()), set(expected))
            for name, like in expected.items():
                part = file.get_slice(name)
                found = tuple(part.get_shape()), part.get_dtype()
                wanted = tuple(like.shape), _DTYPES[np.dtype(like.dtype).name]
                if found != wanted:
                    raise UserError(f"{path}: {name} has shape and dtype {found!s:.100}, expected {wanted}")
            arrays = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, no safetensors ({reason:.120})") from None
    for name, x in arrays.items():
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    return arrays


def _check_same_names(path: pathlib.Path, have: set[str], want: set[str]) -> None:
    for name in sorted(want - have):
        raise UserError(f"{path}: has no array {name}, which this policy needs")
    for name in sorted(have - want):
        raise UserError(f"{path}: has an array {name!r:.80}, which this policy does not know")
