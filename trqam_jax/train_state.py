"""Parameters, their moving averages and one optimiser over all of them."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
from flax import struct

from trqam_jax.types import Params


def make_optimizer(learning_rate: float, clip_norm: float | None) -> optax.GradientTransformation:
    """Adam (.9, .999, 1e-8); `clip_norm` bounds the joint gradient norm of all networks, None leaves it alone."""
    adam = optax.adam(learning_rate)
    return adam if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), adam)


class TrainState(struct.PyTreeNode):
    """params: {network: parameters}, all of them trained; targets: Polyak averages of some of them."""

    params: dict[str, Params]
    targets: dict[str, Params]
    opt_state: Any

    @classmethod
    def create(cls, params: Mapping[str, Params], averaged: tuple[str, ...], optimizer: optax.GradientTransformation):
        """Fresh optimiser state; the averages start as copies."""
        targets = {name: jax.tree.map(lambda x: x.copy(), params[name]) for name in averaged}
        return cls(dict(params), targets, optimizer.init(dict(params)))

    def apply_gradients(self, grads: Params, optimizer: optax.GradientTransformation, tau: float) -> "TrainState":
        """One step. The averages move towards the parameters as they were BEFORE it."""
        updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
        online = {name: self.params[name] for name in self.targets}
        targets = jax.tree.map(lambda target, x: (1 - tau) * target + tau * x, self.targets, online)
        return TrainState(optax.apply_updates(self.params, updates), targets, opt_state)

    def load(self, params: Mapping[str, Params], optimizer: optax.GradientTransformation) -> "TrainState":
        """The named networks and their averages replaced (by copies: buffers are donated), the optimiser fresh."""
        copies = [{name: jax.tree.map(lambda x: x.copy(), p) for name, p in params.items()} for _ in range(2)]
        params = {**self.params, **copies[0]}
        targets = {name: copies[1].get(name, target) for name, target in self.targets.items()}
        return TrainState(params, targets, optimizer.init(params))
