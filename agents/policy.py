"""Exported policies of every method act from Python:

    from agents.policy import load

    policy = load("folder")  # or "hub:owner/name", "hub:owner/name@revision"
    action = policy(observation)

Of an agent the arrays are stored that `act` reads; the agent is rebuilt by the name of its algorithm, and acts as its
run evaluates it. A flow policy, as behaviour cloning makes it, needs no algorithm: `trqam_jax.policy` knows it.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import agents
from trqam_jax import policy as flow
from trqam_jax import policy_files
from trqam_jax.agent_config import AgentConfig
from trqam_jax.errors import UserError, suggest
from trqam_jax.policy import Policy
from trqam_jax.settings import value_type
from trqam_jax.types import Spec


def load(address: str | pathlib.Path, *, seed: int | None = None) -> Policy:
    """The policy in an exported folder, or called hub:owner/name[@revision]. UserError if it is none, or damaged.

    seed: of the noise, by default the one that the policy was evaluated with.
    """
    stored = policy_files.read(address)
    if stored.manifest.kind == policy_files.FLOW:
        return flow.flow_policy(stored, seed=seed)
    manifest = stored.manifest
    try:
        config = _config(manifest.method, manifest.settings)
    except UserError as error:
        raise UserError(f"{stored.folder / policy_files.MANIFEST}: {error}") from None
    empty = agents.AGENTS[manifest.method].empty(manifest.spec, config)
    arrays = stored.arrays(arrays_of(manifest.method, manifest.spec, config))
    named, structure = _named_shapes(manifest.method, manifest.spec, config)
    leaves = [arrays[name][None] if name in arrays else None for name in named]
    actor = empty.replace(config=empty.config.broadcast(1), **jax.tree.unflatten(structure, leaves))
    return flow.acting(actor, stored, seed=seed)


def arrays_of(method: str, spec: Spec, config: AgentConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of the method's state that `act` reads, by name: critics only if they choose."""
    named, structure = _named_shapes(method, spec, config)
    empty = agents.AGENTS[method].empty(spec, config)

    def act(leaves: list[Any], observations: jax.Array, key: jax.Array) -> jax.Array:
        return empty.with_state(jax.tree.unflatten(structure, leaves)).act(observations, key)

    observations = jax.ShapeDtypeStruct((1, spec.observation_dim), np.float32)
    jaxpr = jax.make_jaxpr(act)(list(named.values()), observations, jax.random.key(0)).jaxpr
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    of_state = zip(named.items(), jaxpr.invars, strict=False)  # observations and the key come after
    return {name: shape for (name, shape), variable in of_state if id(variable) in read}


def _named_shapes(method: str, spec: Spec, config: AgentConfig) -> tuple[dict[str, jax.ShapeDtypeStruct], Any]:
    """The leaves of a fresh agent's state by name, as shapes, and the state's structure."""
    create = agents.AGENTS[method].create
    state = jax.eval_shape(lambda key: create(key, spec, config).state(), jax.random.key(0))
    with_paths, structure = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in with_paths}, structure


def _config(method: str, settings: Mapping[str, Any]) -> AgentConfig:
    """Of settings that a stranger may have written."""
    if method not in agents.AGENTS:
        raise UserError(f"unknown method {method!r}.{suggest(method, agents.AGENTS)}")
    policy_files.check_settings(settings)
    declared = agents.settings(method)
    for name, value in settings.items():
        if name in declared and isinstance(value, list) and value_type(declared[name]) is float:
            raise UserError(f"the setting {name} is {value!r:.60}, expected one number")
    for name in ("flow_steps", "best_of_n"):
        value = settings.get(name)
        if isinstance(value, (int, float)) and value > flow.MAX_FLOW_STEPS:
            raise UserError(f"the setting {name} is {value!r:.40}, expected at most {flow.MAX_FLOW_STEPS}")
    return AgentConfig.create(declared, settings)
