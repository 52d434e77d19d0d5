"""A policy that acts from Python, an action for an observation:

    from trqam_jax.policy import load

    policy = load("folder")  # or "hub:owner/name", "hub:owner/name@revision"
    action = policy(observation)

This module knows flow policies, which is what a BC policy is: a velocity network, its Euler steps, a clip. A policy of
another method is rebuilt by its algorithm: `agents.policy.load` loads every kind, and both hand out the same `Policy`.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util
from jaxtyping import Float

from trqam_jax import backend, policy_files
from trqam_jax.errors import UserError
from trqam_jax.evaluation import Actor, policy
from trqam_jax.flow import sample_ode
from trqam_jax.networks import Velocity, bind, init_params
from trqam_jax.policy_files import FLOW, Manifest, Noise, Stored
from trqam_jax.scaling import Scaling
from trqam_jax.streams import make_streams
from trqam_jax.types import Array, Key, Params, Spec

MAX_FLOW_STEPS = 10_000
MOST_EPISODES, MOST_SEEDS = 2**31 - 1, 2**32 - 1  # JAX would take larger ones for others


class Policy:
    """One policy in one environment: chunks are decided on, and played action by action.

    The noise follows from the seed, the episode's number and the decision's, so that equal observations give equal
    actions: with the seed of its run, the actions of that run's evaluation.
    """

    def __init__(
        self,
        actor: Actor,
        spec: Spec,
        noise: Noise,
        *,
        scaling: Scaling | None = None,
        precision: str = "default",
        about: Mapping[str, Any] | None = None,
    ):
        """actor: a pytree whose arrays have a leading axis of length one."""
        self.spec, self.about, self._actor = spec, dict(about or {}), actor
        self._scaling, self._precision = scaling, precision
        try:
            with backend.matmul_precision(precision):
                pass
        except ValueError as error:
            raise UserError(f"precision is {precision!r}, which JAX does not know") from error
        self._keys = jax.random.fold_in(make_streams(noise.seed, noise.phase).evaluation, noise.step)[None]
        self._episode, self._decision = 0, 0
        self._queue: list[np.ndarray] = []

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """The next action (A,) float32 in [-1, 1]; observation: (O,), as the simulator gives it.

        Within a chunk the observation is not looked at: the chunk's next action is played.
        """
        if not self._queue:
            self._queue = list(self.chunk(observation))
        return self._queue.pop(0)

    def chunk(self, observation: np.ndarray) -> np.ndarray:
        """A newly decided chunk (H, A) float32 in [-1, 1]; observation: (O,)."""
        try:
            x = np.asarray(observation, np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"an observation that is no array of numbers ({error})") from None
        if x.shape != (self.spec.observation_dim,):
            raise UserError(f"an observation of shape {x.shape}, expected ({self.spec.observation_dim},)")
        if not np.isfinite(x).all():
            places = ", ".join(map(str, np.flatnonzero(~np.isfinite(x))[:10]))
            raise UserError(f"an observation with nan or infinite numbers, at {places}; expected finite ones")
        x = x if self._scaling is None else self._scaling.apply(x)
        slot = np.array([[self._episode]]), np.array([[self._decision]])
        with backend.matmul_precision(self._precision):
            chunks = policy(self._actor, x[None, None], self._keys, *slot)
        self._decision += 1
        return np.array(chunks[0, 0])

    def reset(self, episode: int | None = None) -> None:
        """A new episode: what is left of a chunk is dropped. episode: its number, by default the next one."""
        if episode is None:
            episode = self._episode + (self._decision > 0)
        episode = _whole("episode", episode, MOST_EPISODES)
        self._episode, self._decision, self._queue = episode, 0, []


class FlowSizes(NamedTuple):
    """Sizes of a velocity network."""

    hidden_dims: tuple[int, ...]
    layer_norm: bool
    observation_dim: int  # O
    chunk_dim: int  # D

    @classmethod
    def of(cls, velocity: Params) -> "FlowSizes":
        """Of its parameters, or their shapes, with or without a leading axis."""
        depth = sum(name.startswith("Dense_") for name in velocity)
        widths = [velocity[f"Dense_{i}"]["bias"].shape[-1] for i in range(depth)]
        chunk_dim = widths.pop()
        inputs = velocity["Dense_0"]["kernel"].shape[-2]  # observation, chunk, time
        return cls(tuple(widths), "LayerNorm_0" in velocity, inputs - chunk_dim - 1, chunk_dim)

    def __str__(self) -> str:
        norm = "with" if self.layer_norm else "without"
        return (
            f"hidden layers {','.join(map(str, self.hidden_dims))} {norm} layer norm, observations of "
            f"{self.observation_dim} numbers, chunks of {self.chunk_dim}"
        )


class FlowPolicy(struct.PyTreeNode):
    """Chunks that a flow's ODE makes of noise, clipped to [-1, 1]; fulfils `trqam_jax.evaluation.Actor`."""

    velocity: Params
    network: Velocity = struct.field(pytree_node=False)
    flow_steps: int = struct.field(pytree_node=False)
    spec: Spec = struct.field(pytree_node=False)

    def act(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        """Chunks of actions in [-1, 1]."""
        noise = jax.random.normal(key, (len(observations), self.spec.chunk_dim))
        chunks = sample_ode(bind(self.network, self.velocity, observations), noise, self.flow_steps)
        return jnp.clip(chunks, -1, 1).reshape(-1, self.spec.horizon, self.spec.action_dim)

    def act_online(self, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B H A"]:
        """As `act`."""
        return self.act(observations, key)


def load(address: str | pathlib.Path, *, seed: int | None = None) -> Policy:
    """The flow policy in an exported folder, or called hub:owner/name[@revision]. UserError if it is none, or damaged.

    seed: of the noise, by default the one that the policy was evaluated with.
    """
    stored = policy_files.read(address)
    if stored.manifest.kind != FLOW:
        raise UserError(
            f"{address}: a policy of the method {stored.manifest.method!r}, no flow alone; agents.policy.load loads it"
        )
    return flow_policy(stored, seed=seed)


def flow_policy(stored: Stored, *, seed: int | None = None) -> Policy:
    """The policy in a folder of the kind FLOW."""
    network, flow_steps = _flow_settings(stored)
    velocity = jax.tree.map(lambda x: x[None], flow_arrays(stored))
    return acting(FlowPolicy(velocity, network, flow_steps, stored.manifest.spec), stored, seed=seed)


def acting(actor: Actor, stored: Stored, *, seed: int | None = None) -> Policy:
    """An actor whose arrays have a leading axis of length one, with what its folder says besides."""
    manifest = stored.manifest
    noise = manifest.noise if seed is None else manifest.noise._replace(seed=_whole("seed", seed, MOST_SEEDS))
    about = {"address": stored.address, **manifest.about}
    try:
        return Policy(actor, manifest.spec, noise, scaling=manifest.scaling, precision=manifest.precision, about=about)
    except UserError as error:
        raise UserError(f"{stored.address}: {error}") from error


def flow_arrays(stored: Stored) -> Params:
    """The velocity parameters in a folder of the kind FLOW, checked."""
    network, _ = _flow_settings(stored)
    spec = stored.manifest.spec
    sizes = {"velocity": (network, (spec.observation_dim, spec.chunk_dim, 1))}
    shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), sizes))
    arrays = stored.arrays(traverse_util.flatten_dict(shapes, sep="/"))
    return traverse_util.unflatten_dict(arrays, sep="/")["velocity"]


def flow_manifest(
    velocity: Params, *, flow_steps: int, spec: Spec, scaling: Scaling | None, noise: Noise, about: Mapping[str, Any]
) -> tuple[Manifest, dict[str, np.ndarray]]:
    """What is written of a flow policy: policy.json, and the arrays by name. velocity: without a leading axis."""
    sizes = FlowSizes.of(velocity)
    if (sizes.observation_dim, sizes.chunk_dim) != (spec.observation_dim, spec.chunk_dim):
        raise UserError(
            f"this policy has {sizes}; expected observations of {spec.observation_dim}, chunks of {spec.chunk_dim}"
        )
    settings = {"hidden_dims": list(sizes.hidden_dims), "layer_norm": sizes.layer_norm, "flow_steps": flow_steps}
    manifest = Manifest(FLOW, "bc", settings, spec, scaling, "default", noise, about)
    named = traverse_util.flatten_dict({"velocity": velocity}, sep="/")
    return manifest, {str(name): np.asarray(x) for name, x in named.items()}


def _flow_settings(stored: Stored) -> tuple[Velocity, int]:
    """The network and its Euler steps."""
    manifest = stored.manifest
    settings, path = manifest.settings, stored.folder / policy_files.MANIFEST
    widths, norm, steps = (settings.get(key) for key in ("hidden_dims", "layer_norm", "flow_steps"))
    good_widths = isinstance(widths, list) and len(widths) <= 100 and all(_is_size(width) for width in widths)
    if widths is None or not good_widths or set(settings) != {"hidden_dims", "layer_norm", "flow_steps"}:
        raise UserError(f"{path}: hidden_dims is {widths!r:.60}, expected widths; with layer_norm and flow_steps")
    if type(norm) is not bool or type(steps) is not int or not 1 <= steps <= MAX_FLOW_STEPS:
        raise UserError(
            f"{path}: layer_norm is {norm!r:.40}, expected a flag; flow_steps {steps!r:.40}, expected 1 to "
            f"{MAX_FLOW_STEPS}"
        )
    return Velocity(tuple(widths), manifest.spec.chunk_dim, norm), steps


def _whole(name: str, value: Any, most: int) -> int:
    """The value, if it is a whole number from 0 to `most`; else a UserError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value <= most:
        return int(value)
    raise UserError(f"{name}={value!r:.60}: expected a whole number from 0 to {most}")


def _is_size(width: Any) -> bool:
    return type(width) is int and 1 <= width <= policy_files.MAX_SIZE
