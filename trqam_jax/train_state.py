"""Parameters, their moving averages and one optimiser over all of them."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from trqam_jax.backend import target_platform
from trqam_jax.types import Array, Params, Scalar

LARGEST_JOINED = 8192  # numbers of a leaf that `global_norm` copies


def make_optimizer(learning_rate: Scalar, clip_norm: Scalar | None) -> optax.GradientTransformation:
    """Adam (0.9, 0.999, 1e-8); `clip_norm` bounds the joint gradient norm of all networks, None leaves it alone."""
    adam = optax.adam(cast(float, learning_rate))  # optax knows no traced rates by name
    return adam if clip_norm is None else optax.chain(clip_by_global_norm(clip_norm), adam)


def clip_by_global_norm(max_norm: Scalar) -> optax.GradientTransformation:
    """g max_norm / |g| where |g| >= max_norm. optax's own divides every entry, and so writes the gradients once more;
    a common factor melts into Adam's pass over them."""

    def clip(grads: Params, _: Params | None) -> Params:
        norm = global_norm(grads)
        factor = jnp.where(norm < max_norm, 1.0, max_norm / norm)
        return jax.tree.map(lambda g: g * factor, grads)

    return optax.stateless(clip)


def global_norm(grads: Params) -> Array:
    """Joint L2 norm of all leaves. On a GPU large leaves are summed along their rows, and the rest is joined and summed
    at once. A sum per leaf takes one or two kernels each, and is what XLA would make of it."""
    if target_platform() != "gpu":
        return optax.global_norm(grads)
    squares = [jnp.square(g) for g in jax.tree.leaves(grads)]
    parts = [(s if s.size <= LARGEST_JOINED else s.sum(-1)).ravel() for s in squares]
    return jnp.sqrt(jax.lax.optimization_barrier(jnp.concatenate(parts)).sum())


def polyak(average: Params, params: Params, tau: Scalar) -> Params:
    """(1 - tau) average + tau params, leaf by leaf."""
    return jax.tree.map(lambda old, new: (1 - tau) * old + tau * new, average, params)


class TrainState(struct.PyTreeNode):
    """params: {network: parameters}, all of them trained; targets: Polyak averages of some of them."""

    params: dict[str, Params]
    targets: dict[str, Params]
    opt_state: Any

    @classmethod
    def create(
        cls, params: Mapping[str, Params], averaged: tuple[str, ...], optimizer: optax.GradientTransformation
    ) -> "TrainState":
        """Fresh optimiser state; the averages start as copies."""
        targets = {name: jax.tree.map(lambda x: x.copy(), params[name]) for name in averaged}
        return cls(dict(params), targets, optimizer.init(dict(params)))

    def apply_gradients(
        self, grads: Params, optimizer: optax.GradientTransformation, tau: Mapping[str, Scalar]
    ) -> "TrainState":
        """One step. The averages move towards the parameters as they were BEFORE it, by tau {network: step size}."""
        updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
        targets = {name: polyak(target, self.params[name], tau[name]) for name, target in self.targets.items()}
        params = cast(dict[str, Params], optax.apply_updates(self.params, updates))
        return TrainState(params, targets, opt_state)

    def load(self, params: Mapping[str, Params], optimizer: optax.GradientTransformation) -> "TrainState":
        """The named networks and their averages replaced (by copies: buffers are donated), the optimiser fresh."""
        copies = [{name: jax.tree.map(lambda x: x.copy(), p) for name, p in params.items()} for _ in range(2)]
        params = {**self.params, **copies[0]}
        targets = {name: copies[1].get(name, target) for name, target in self.targets.items()}
        return TrainState(params, targets, optimizer.init(params))
