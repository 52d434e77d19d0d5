"""Trained policies and BC policies as folders of safetensors and JSON, which `agents.policy.load` makes act."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import agents
import envs
import trqam_jax
from agents.policy import arrays_of
from experiments.analysis import policy_card
from experiments.analysis.rows import Run, read_run
from experiments.config import check_stored, declared, online_settings
from experiments.row_format import BC_PREFIX, DIVERGED, PHASES
from experiments.training import policies_by_name
from experiments.training.replica import Replica, agent_config, replicas_of, spec_of
from experiments.training.scaled import NAME as SCALING
from experiments.training.stages import BC
from trqam_jax import checkpoint, policy_files
from trqam_jax.checkpoint import Checkpoints
from trqam_jax.errors import UserError, suggest
from trqam_jax.files import read_json
from trqam_jax.policy import MAX_FLOW_STEPS, FlowSizes, flow_manifest
from trqam_jax.policy_files import AGENT, Manifest, Noise
from trqam_jax.scaling import Scaling


class Choice(NamedTuple):
    """Which policy of a folder is meant, and what the folder does not say. None: the only one, or what is usual."""

    task: int | None = None
    seed: int | None = None
    variant: str | None = None  # as the column of eval.csv has it: kl_budget=0.5
    env: str | None = None  # of a BC policy that was imported without
    flow_steps: int | None = None  # of a BC policy


def export(source: pathlib.Path, out: pathlib.Path, choice: Choice) -> Manifest:
    """Write the policy in `source`, a run's folder, a BC stage's or a BC policy's own, to the new folder `out`."""
    if out.exists():
        raise UserError(f"{out}: exists already; name a new folder")
    if (source / checkpoint.META).is_file():
        return _export_bc(source, out, choice)
    config = read_json(source / "config.json", ("agent_name", "env", "agent", "protocol", "tasks", "run", "bc"))
    config.pop("notes", None)  # whose keys have dots
    check_stored(source / "config.json", config)
    if source.name.startswith(f"{BC_PREFIX}-"):
        return _export_bc(source / "checkpoints" / str(config["bc"]["steps"]), out, choice)
    if config["agent_name"] == "bc":
        place = _evaluated_bc(source, config)
        results = policy_card.results(read_run(source), "bc", checkpoint.read_policy_meta(place)["steps"])
        return _export_bc(place, out, choice, results)
    return _export_run(source, config, out, choice)


# ---- trained agents


def _export_run(folder: pathlib.Path, stored: dict[str, Any], out: pathlib.Path, choice: Choice) -> Manifest:
    config, method = ConfigDict(stored), stored["agent_name"]
    if method not in agents.AGENTS:
        raise UserError(f"{folder}: unknown agent {method!r}.{suggest(method, agents.AGENTS)}")
    domain, replicas = _domain(folder, stored["env"]), replicas_of(config)
    index = _chosen(folder, replicas, choice)
    replica = replicas[index]
    place = _last_place(folder)
    settings = {**stored["agent"], **dict(replica.values), **_online(stored, place.phase)}
    own = agent_config(method, config, settings)
    spec = spec_of(domain)
    shapes = arrays_of(method, spec, own)
    of_all = {name: jax.ShapeDtypeStruct((len(replicas), *x.shape), x.dtype) for name, x in shapes.items()}
    path = folder / "checkpoints" / f"{place.phase}-{place.step}"
    arrays = {name: x[index] for name, x in checkpoint.load_arrays(path, of_all).items()}
    run = read_run(folder)
    _check_has_not_diverged(run, replica)
    scaling = Scaling.read(folder / SCALING) if (folder / SCALING).exists() else None
    about = {
        **_about(domain, stored["protocol"]),
        "task": replica.task,
        "seed": replica.seed,
        "variant": replica.variant,
        "phase": place.phase,
        "steps": place.step,
        "run": folder.resolve().name,
        "episode_limit": stored.get("eval", {}).get("episode_limit"),
        "versions": {name: run.versions[name] for name in ("trqam_jax", "jax")},
    }
    noise = Noise(replica.seed, place.phase, place.step)
    manifest = Manifest(AGENT, method, settings, spec, scaling, config.get("precision", "default"), noise, about)
    results = policy_card.results(run, place.phase, place.step, task=int(replica.task), variant=replica.variant)
    policy_files.write(out, manifest, arrays, lambda digest: policy_card.card(manifest, results, digest))
    return manifest


def _online(stored: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """The agent's settings that are others in the online phase, in that phase."""
    online = stored.get("online", {}) if phase == "online" else {}
    keys = [key.removeprefix("online.") for key in online_settings()]
    return {key: online[key] for key in keys if online.get(key) is not None}


def _chosen(folder: pathlib.Path, replicas: list[Replica], choice: Choice) -> int:
    """The index of the one replica that is meant."""
    wanted = {"task": choice.task, "seed": choice.seed, "variant": choice.variant}
    given = {name: value for name, value in wanted.items() if value is not None}
    matching = [r for r, replica in enumerate(replicas) if all(getattr(replica, name) == given[name] for name in given)]
    if len(matching) == 1:
        return matching[0]
    listing = "; ".join(map(str, (replicas[r] for r in matching) if matching else replicas))
    what = f"holds {len(matching)} such policies" if matching else "holds no such policy"
    raise UserError(f"{folder}: {what}; choose one by --task, --seed and --variant, of {listing}")


def _last_place(folder: pathlib.Path) -> checkpoint.Place:
    places = Checkpoints(folder / "checkpoints", PHASES).places()
    if not places:
        raise UserError(f"{folder}: has no checkpoint to export; start the run again, it goes on to its first one")
    return places[-1]


def _check_has_not_diverged(run: Run, replica: Replica) -> None:
    rows = run.train
    own = (rows.task == replica.task) & (rows.seed == replica.seed) & (rows.variant == replica.variant)
    if (rows.status[own] == DIVERGED).any():
        raise UserError(f"{run.folder}: {replica} diverged, so there is no policy to export; choose another one")


# ---- BC policies


def _evaluated_bc(folder: pathlib.Path, stored: dict[str, Any]) -> pathlib.Path:
    """The BC policy that a run of the agent bc has evaluated: given to it, or made by the stage beside it."""
    config = ConfigDict(_with_tuples(stored))
    for key, setting in declared("bc").items():
        section, _, name = key.rpartition(".")
        part = config[section] if section else config
        if setting.since and name not in part:
            part[name] = setting.default
    given = policies_by_name.folder(config)
    return given or folder.parent / BC.folder(BC.config(config)).name / "checkpoints" / str(config.bc.steps)


def _with_tuples(content: Any) -> Any:
    """What was read from JSON, tuples in place of its lists, as a resolved configuration has them."""
    if isinstance(content, dict):
        return {key: _with_tuples(value) for key, value in content.items()}
    return tuple(map(_with_tuples, content)) if isinstance(content, list) else content


def _export_bc(
    place: pathlib.Path, out: pathlib.Path, choice: Choice, results: Sequence[policy_card.Result] = ()
) -> Manifest:
    if choice.task is not None or choice.variant is not None:
        raise UserError(f"{place}: a BC policy is the same for all tasks; leave out --task and --variant")
    meta = checkpoint.read_policy_meta(place)
    stage = _stage_config(place)
    name = choice.env or meta.get("env") or ""
    if not name:
        raise UserError(f"{place}: does not say its environment; add --env=NAME")
    domain, _ = envs.split_env(name)
    index = _policy_index(place, meta, choice.seed)
    velocity = checkpoint.load(place, checkpoint.stored_shapes(place))
    usual = agents.SHARED["flow_steps"].default
    flow_steps = stage.get("agent", {}).get("flow_steps", usual) if choice.flow_steps is None else choice.flow_steps
    if type(flow_steps) is not int or not 1 <= flow_steps <= MAX_FLOW_STEPS:
        raise UserError(
            f"{place}: Euler steps are {flow_steps!r:.40}, expected 1 to {MAX_FLOW_STEPS}; --flow_steps=N sets them"
        )
    about = {
        **_about(domain, stage.get("protocol", "")),
        "steps": meta["steps"],
        "fingerprint": meta["fingerprint"],
        **{key: meta[key] for key in ("imported_from", "provenance") if key in meta},
    }
    scaling = meta.get("scaling")
    try:
        manifest, arrays = flow_manifest(
            jax.tree.map(lambda x: np.asarray(x[index]), velocity),
            flow_steps=flow_steps,
            spec=spec_of(domain),
            scaling=None if scaling is None else Scaling.from_json(scaling),
            noise=Noise(meta["seeds"][index], "bc", meta["steps"]),
            about=about,
        )
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    sizes = str(FlowSizes.of(velocity))
    card = lambda digest: policy_card.card(manifest, list(results), digest, sizes=sizes)
    policy_files.write(out, manifest, arrays, card)
    return manifest


def _stage_config(place: pathlib.Path) -> dict[str, Any]:
    """Of the BC stage in whose folder the policy lies; {} if it lies elsewhere."""
    path = place.resolve().parents[1] / "config.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error})") from error
    is_stage = (
        isinstance(content, dict) and content.get("agent_name") == "bc" and isinstance(content.get("agent"), dict)
    )
    return content if is_stage else {}


def _policy_index(place: pathlib.Path, meta: Mapping[str, Any], seed: int | None) -> int:
    seeds = list(meta["seeds"])
    if seed in seeds or (seed is None and len(seeds) == 1):
        return seeds.index(seed) if seed is not None else 0
    raise UserError(f"{place}: choose one of its policies by --seed, of {', '.join(map(str, seeds))}")


# ---- both


def _domain(folder: pathlib.Path, name: str) -> envs.Domain:
    if name not in envs.DOMAINS:
        raise UserError(f"{folder}: unknown environment {name!r}.{suggest(name, envs.DOMAINS)}")
    return envs.DOMAINS[name]


def _about(domain: envs.Domain, protocol: str) -> dict[str, Any]:
    return {"env": domain.name, "protocol": protocol, "exported_by": f"trqam_jax {trqam_jax.__version__}"}
