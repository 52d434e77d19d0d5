"""The networks of all methods: the only file that imports linen.

Dense, GELU (tanh approximation; mish in noise predictors), then layer norm where there is one; Glorot-uniform kernels,
zero biases. Layer norm is always in critics, and in flow networks where the benchmark's table says so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax.streams import named
from trqam_jax.types import Array, Key, Params

Network = nn.Module
Times = Float[Array, ""] | Float[Array, "*t 1"] | float  # scalar, or one per row


def _dense(width: int, name: str | None = None, variance: float = 1.0) -> nn.Dense:
    """variance: of the kernel's start, as a multiple of Glorot's."""
    kernel_init = nn.initializers.variance_scaling(variance, "fan_avg", "uniform")
    return nn.Dense(width, kernel_init=kernel_init, name=name)


def _gelu(x: Float[Array, "*n W"]) -> Float[Array, "*n W"]:
    return nn.gelu(x, approximate=True)


def _join(*inputs: Float[Array, "..."]) -> Float[Array, "..."]:
    """Concatenated along the last axis; the leading ones broadcast."""
    leading = jnp.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    return jnp.concatenate([jnp.broadcast_to(x, (*leading, x.shape[-1])) for x in inputs], -1)


def _hidden(
    x: Float[Array, "*n I"],
    hidden_dims: Sequence[int],
    layer_norm: bool,
    activation: Callable[[Array], Array] = _gelu,
) -> Float[Array, "*n W"]:
    for width in hidden_dims:
        x = activation(_dense(width)(x))
        if layer_norm:
            x = nn.LayerNorm(epsilon=1e-6)(x)
    return x


def _mlp(
    x: Float[Array, "*n I"],
    hidden_dims: Sequence[int],
    out_dim: int,
    layer_norm: bool,
    activation: Callable[[Array], Array] = _gelu,
) -> Float[Array, "*n {out_dim}"]:
    x = _hidden(x, hidden_dims, layer_norm, activation)
    return _dense(out_dim)(x)  # linen numbers layers in the order of their construction


class Velocity(nn.Module):
    """Flow velocity v(s, x, t); leading axes broadcast."""

    hidden_dims: Sequence[int]
    chunk_dim: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: Float[Array, "*b O"], x: Float[Array, "*n D"], t: Times) -> Float[Array, "*m D"]:
        return _mlp(_join(observations, x, jnp.atleast_1d(t)), self.hidden_dims, self.chunk_dim, self.layer_norm)


class OneStep(nn.Module):
    """One-step policy (s, z) -> chunk, not clipped; leading axes broadcast."""

    hidden_dims: Sequence[int]
    chunk_dim: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: Float[Array, "*b O"], noise: Float[Array, "*n D"]) -> Float[Array, "*m D"]:
        return _mlp(_join(observations, noise), self.hidden_dims, self.chunk_dim, self.layer_norm)


class _MishMLP(nn.Module):
    hidden_dims: Sequence[int]
    out_dim: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n I"]) -> Float[Array, "*n {self.out_dim}"]:
        return _mlp(x, self.hidden_dims, self.out_dim, self.layer_norm, jax.nn.mish)


class NoisePredictor(nn.Module):
    """Noise eps(s, x, t) of a diffusion policy at its step t = 1 .. T; leading axes broadcast.

    The step enters by learnable Fourier features, through an MLP of its own: the policy's widths, the last one linear,
    and no layer norm.
    """

    hidden_dims: Sequence[int]
    chunk_dim: int
    time_dim: int  # Fourier features, half of them cosines
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: Float[Array, "*b O"], x: Float[Array, "*n D"], t: Times) -> Float[Array, "*m D"]:
        frequencies = self.param("frequencies", nn.initializers.normal(0.2), (self.time_dim // 2,))
        angles = 2 * jnp.pi * jnp.atleast_1d(t) * frequencies
        features = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
        *hidden, last = self.hidden_dims
        condition = _MishMLP(hidden, last, name="condition")(features)
        inputs = _join(x, observations, condition)
        return _MishMLP(self.hidden_dims, self.chunk_dim, self.layer_norm, name="main")(inputs)


class Deterministic(nn.Module):
    """Deterministic policy s -> chunk in [-1, 1]; its last layer starts with a hundredth of Glorot's variance."""

    hidden_dims: Sequence[int]
    chunk_dim: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: Float[Array, "*n O"]) -> Float[Array, "*n D"]:
        x = _hidden(observations, self.hidden_dims, self.layer_norm)
        return jnp.tanh(_dense(self.chunk_dim, "mean", variance=0.01)(x))


class Value(nn.Module):
    """State value V(s)."""

    hidden_dims: Sequence[int]

    @nn.compact
    def __call__(self, observations: Float[Array, "*n O"]) -> Float[Array, "*n"]:
        return _mlp(observations, self.hidden_dims, 1, layer_norm=True)[..., 0]


class TanhGaussian(nn.Module):
    """Mean and log standard deviation, in [-20, 2], of a Gaussian before its tanh."""

    hidden_dims: Sequence[int]
    chunk_dim: int

    @nn.compact
    def __call__(self, *inputs: Float[Array, "..."]) -> tuple[Float[Array, "*n D"], Float[Array, "*n D"]]:
        x = _hidden(_join(*inputs), self.hidden_dims, layer_norm=False)
        return _dense(self.chunk_dim, "mean")(x), jnp.clip(_dense(self.chunk_dim, "log_std")(x), -20, 2)


class _SingleCritic(nn.Module):
    hidden_dims: Sequence[int]

    @nn.compact
    def __call__(self, *inputs: Float[Array, "..."]) -> Float[Array, "*n"]:
        return _mlp(_join(*inputs), self.hidden_dims, 1, layer_norm=True)[..., 0]


class _SingleTimedCritic(nn.Module):
    hidden_dims: Sequence[int]

    @nn.compact
    def __call__(
        self, observations: Float[Array, "*b O"], x: Float[Array, "*n D"], t: Times = 1.0
    ) -> Float[Array, "*m"]:
        return _mlp(_join(observations, x, jnp.atleast_1d(t)), self.hidden_dims, 1, layer_norm=True)[..., 0]


def _ensemble(member: type[nn.Module], hidden_dims: Sequence[int], num_critics: int) -> Network:
    ensemble = nn.vmap(
        member,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,  # pyright: ignore[reportArgumentType]  (flax says int and means what jax.vmap takes)
        out_axes=0,
        axis_size=num_critics,
    )
    return ensemble(hidden_dims)


def Critic(hidden_dims: Sequence[int], num_critics: int) -> Network:
    """Ensemble of Q critics, initialised independently: (..., O), (..., D) -> (Q, ...); leading axes broadcast."""
    return _ensemble(_SingleCritic, hidden_dims, num_critics)


def TimedCritic(hidden_dims: Sequence[int], num_critics: int) -> Network:
    """The same, of noised chunks at time t, a scalar or (..., 1); without it t = 1, the time of clean ones."""
    return _ensemble(_SingleTimedCritic, hidden_dims, num_critics)


def bind(network: Network, params: Params, observations: Float[Array, "*n O"]) -> Callable[..., Any]:
    """The network as a function of its inputs after the observations: a velocity of (x, t), a critic of (chunk)."""

    def apply(*inputs: Array | float) -> Any:
        return network.apply({"params": params}, observations, *inputs)

    return apply


def init_params(key: Key, networks: Mapping[str, tuple[Network, tuple[int, ...]]]) -> dict[str, Params]:
    """Fresh parameters of {name: (network, sizes of its inputs)}; a name has the same start in every algorithm."""
    return {
        name: network.init(named(key, name), *(jnp.zeros(size) for size in sizes))["params"]
        for name, (network, sizes) in networks.items()
    }
