"""BC policies by name, as bc.checkpoint takes them: released, and hub:owner/name, both perhaps with @revision.

A name is resolved to a commit, which takes its place in the configuration, and what lies there is imported once into
the user's cache folder, as trqam_jax.checkpoint keeps a policy. From then on nothing tells it from a policy that was
given by its path: its fingerprint enters the digest. Of a pickle nothing is run (trqam_jax.interop.safe_pickle).
"""

import json
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

import envs
from experiments.training.stages import BC
from trqam_jax import checkpoint, hub, policy_files
from trqam_jax.errors import UserError
from trqam_jax.files import expand, lock_target, sha256_file
from trqam_jax.interop.checkpoints import import_checkpoint
from trqam_jax.policy import FlowSizes, flow_arrays

RELEASED = "released"


def pinned(config: ConfigDict) -> ConfigDict:
    """The configuration with a commit in the name of its BC policy, which is then in the cache and fits the run."""
    given = config.bc.checkpoint
    if not is_name(given):
        return config
    found = _resolve(given, config.env)
    _check_sizes(given, found.folder, config)
    if found.given != given:
        print(f"{given}: is {found.given}")
    result = config.copy_and_resolve_references().unlock()
    result.bc.checkpoint = found.given
    return result.lock()


def with_commit(given: str, domain: envs.Domain) -> str:
    """The name with the commit that it means now, so that it means the same for good. Of the policy nothing is fetched
    but what tells it apart."""
    if given.startswith(hub.SCHEME):
        start, name, small = hub.SCHEME, hub.Name.parse(given.removeprefix(hub.SCHEME)), policy_files.MANIFEST
    else:
        start, name, small = f"{RELEASED}@", _repository(given.partition("@")[2], domain), "*/config.json"
    if name.is_pinned:
        return given
    found = hub.fetch(name, [small]).name
    return f"{start}{found if start == hub.SCHEME else found.revision}"


def folder(config: ConfigDict) -> pathlib.Path | None:
    """Where the given BC policy lies, by its name or its path; None without one."""
    given = config.bc.checkpoint
    if not given:
        return None
    if is_name(given):
        return _resolve(given, config.env).folder
    hub.refuse_other_spellings(given)
    return expand(given)


def is_name(given: str) -> bool:
    """Whether it is no path. A folder called `released` is ./released."""
    return given.startswith(hub.SCHEME) or given.partition("@")[0] == RELEASED


class _Found(NamedTuple):
    given: str  # the name, pinned
    folder: pathlib.Path


def _resolve(given: str, env: str) -> _Found:
    if given.startswith(hub.SCHEME):
        return _pushed(hub.Name.parse(given.removeprefix(hub.SCHEME)))
    return _released(given.partition("@")[2], envs.DOMAINS[env])


def _in_cache(name: hub.Name, part: str) -> pathlib.Path:
    return hub.imported_folder(name.repository) / name.revision / part


def _make_once(place: pathlib.Path, make: Callable[[], Any]) -> None:
    """Of processes that start together one makes it, and the others wait."""
    if not place.exists():
        with lock_target(place):
            if not place.exists():
                make()


# ---- pushed to the hub by `experiments/policy.py push`


def _pushed(name: hub.Name) -> _Found:
    if name.is_pinned and (place := _in_cache(name, "policy")).exists():
        return _Found(f"{hub.SCHEME}{name}", place)
    stored = policy_files.read(f"{hub.SCHEME}{name}")
    name = hub.Name.parse(stored.address.removeprefix(hub.SCHEME))
    manifest, place = stored.manifest, _in_cache(name, "policy")
    if manifest.kind != policy_files.FLOW:
        raise UserError(f"{stored.address}: a trained policy of {manifest.method}, expected a BC policy to start from")
    env = manifest.about.get("env")
    if type(env) is not str or env not in envs.DOMAINS:
        raise UserError(f"{stored.address}: is of the environment {env!r:.60}, expected a domain that --list prints")
    meta = {
        "env": env,
        "steps": manifest.noise.step,
        "seeds": [0],
        "scaling": None if manifest.scaling is None else manifest.scaling.to_json(),
        "provenance": _provenance(name, policy_files.ARRAYS, stored.digest),
    }

    def make() -> None:
        checkpoint.save_params(place, jax.tree.map(lambda x: x[None], flow_arrays(stored)), meta)

    _make_once(place, make)
    return _Found(stored.address, place)


def _provenance(name: hub.Name, file: str, sha256: str) -> dict[str, str]:
    return {"repository": name.repository, "revision": name.revision, "file": file, "sha256": sha256}


# ---- released with a paper


def _repository(revision: str, domain: envs.Domain) -> hub.Name:
    """Where the domain's is, at the revision; a UserError if none was released."""
    released = envs.suite_of(domain).bc_policies
    if released is None or domain.name not in released.domains:
        others = [suite.bc_policies.domains for suite in envs.SUITES.values() if suite.bc_policies is not None]
        names = ", ".join(name for domains in others for name in domains)
        raise UserError(f"{RELEASED}: no BC policy was released for {domain.name}; there is one for each of {names}")
    return hub.Name.parse(f"{released.repository}@{revision}" if revision else released.repository)


def _released(revision: str, domain: envs.Domain) -> _Found:
    name, released = _repository(revision, domain), envs.suite_of(domain).bc_policies
    assert released is not None  # or it has no repository
    if name.is_pinned and (place := _in_cache(name, domain.name)).exists():
        return _Found(f"{RELEASED}@{name.revision}", place)
    snapshot = hub.fetch(name, ["*/config.json"])
    name, place = snapshot.name, _in_cache(snapshot.name, domain.name)

    def make() -> None:
        file = f"{_folder_of(domain, snapshot)}/{released.file}"
        path = hub.fetch(name, [file]).folder / file
        if not path.is_file():
            raise UserError(f"{hub.SCHEME}{name}: has no file {file}")
        provenance = _provenance(name, file, sha256_file(path))
        import_checkpoint(path, place, env=domain.name, provenance=provenance)

    _make_once(place, make)
    return _Found(f"{RELEASED}@{name.revision}", place)


def _folder_of(domain: envs.Domain, snapshot: hub.Snapshot) -> str:
    """The domain's folder, by its name and by what its config.json says, which must not disagree."""
    known = envs.suite_of(domain).domains
    claims = {path.parent.name: _claimed(path, known) for path in sorted(snapshot.folder.glob("*/config.json"))}
    found = [name for name, domains in claims.items() if domain.name in domains]
    if len(found) == 1 and claims[found[0]] == {domain.name}:
        return found[0]
    listing = "; ".join(f"{name!r:.80} ({', '.join(sorted(names)) or 'unknown'})" for name, names in claims.items())
    raise UserError(
        f"{hub.SCHEME}{snapshot.name}: which folder is {domain.name}'s is not clear, of {listing or 'none'}; import "
        "the right file by python -m trqam_jax.interop.checkpoints and give its folder"
    )


def _claimed(path: pathlib.Path, known: Collection[str]) -> set[str]:
    """The domains that the folder of this config.json names."""
    try:
        content = json.loads(path.read_bytes())
        texts = [path.parent.name, *_environments(content)]
    except (ValueError, RecursionError):
        texts = [path.parent.name]
    return {name for text in texts for name in known if _names(text, name)}


def _environments(content: Any) -> Iterator[str]:
    """Texts that stand below keys of an environment or a dataset: of a path its last part."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, str) and ("env" in str(key) or "dataset" in str(key)):
            yield value.rstrip("/").rpartition("/")[2]
        yield from _environments(value)


def _names(text: str, name: str) -> bool:
    """Whether a domain's name, or one of its task or its data, is spelled so."""
    text = text.lower().replace("_", "-")
    return text == name or text.startswith(f"{name}-")


# ---- whether it fits


def _check_sizes(given: str, place: pathlib.Path, config: ConfigDict) -> None:
    """UserError if the policy's network is another one than the run is to have."""
    domain, settings = envs.DOMAINS[config.env], BC.config(config).agent
    hidden_dims = tuple(settings.actor_hidden_dims or settings.hidden_dims)
    chunk_dim = domain.horizon * domain.action_dim
    want = FlowSizes(hidden_dims, settings.actor_layer_norm, domain.observation_dim, chunk_dim)
    have = FlowSizes.of(checkpoint.stored_shapes(place))
    if have == want:
        return
    way_out = "it is a policy of something else"
    if have[2:] == want[2:]:
        widths = ",".join(map(str, have.hidden_dims))
        norm = str(have.layer_norm).lower()
        way_out = f"add --config.agent.actor_hidden_dims={widths} --config.agent.actor_layer_norm={norm}"
    raise UserError(f"{given}: has {have}; {config.env} here has {want}; {way_out}")
