"""The networks of all methods: the only file that imports linen.

Dense, GELU (tanh approximation; mish in noise predictors), then layer norm where there is one; Glorot-uniform kernels,
zero biases. Layer norm is always in critics, and in flow networks where the benchmark's table says so.

A GPU spends its time on kernels that read and write activations. There GELU and layer norm are functions of their own,
equal but for rounding, whose derivatives keep and read less than those that JAX derives.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trqam_jax.backend import target_platform
from trqam_jax.streams import named
from trqam_jax.types import Array, Key, Params


class _WithOwnInputs(NamedTuple):
    """A network whose inputs have a leading axis, used like one whose inputs have none."""

    network: nn.Module
    size: int

    def apply(self, variables: Mapping[str, Any], *inputs: Array | float) -> Any:
        return self.network.apply(variables, *self._repeated(inputs))

    def init(self, key: Key, *inputs: Array | float) -> Any:
        return self.network.init(key, *self._repeated(inputs))

    def _repeated(self, inputs: tuple[Array | float, ...]) -> list[Array]:
        return [jnp.broadcast_to(x, (self.size, *jnp.shape(x))) for x in inputs]


Network = nn.Module | _WithOwnInputs
Times = Float[Array, ""] | Float[Array, "*t 1"] | float  # scalar, or one per row


def _dense(width: int, name: str | None = None, variance: float = 1.0) -> nn.Dense:
    """variance: of the kernel's start, as a multiple of Glorot's."""
    kernel_init = nn.initializers.variance_scaling(variance, "fan_avg", "uniform")
    return nn.Dense(width, kernel_init=kernel_init, name=name)


_gelu: Callable[[Array], Array] = functools.partial(nn.gelu, approximate=True)


@jax.custom_jvp
def _gelu_with_slopes(x: Float[Array, "*n W"]) -> Float[Array, "*n W"]:
    """GELU whose gradient needs one array, its slopes, which are made beside its values. Otherwise XLA makes them where
    they are needed, again for each of the adjoint's steps, and keeps what they are made from."""
    return _gelu(x)


@_gelu_with_slopes.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    a, b = math.sqrt(2 / math.pi), 0.044715  # gelu(x) = x (1 + tanh(a (x + b x^3))) / 2
    tanh = jnp.tanh(a * (x + b * x**3))
    slope = 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * a * (1 + 3 * b * x**2)
    return _gelu_with_slopes(x), jax.lax.optimization_barrier(slope) * dx


LAYER_NORM_EPSILON = 1e-6


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _activated_norm(
    activation: Callable[[Array], Array], x: Float[Array, "*n W"], scale: Float[Array, " W"], bias: Float[Array, " W"]
) -> Float[Array, "*n W"]:
    """Layer norm of activation(x). Mean and variance one after the other are a pattern that XLA makes one kernel of,
    the activation included, as long as nothing else reads them: the gradient has sums of its own, all in one pass."""
    y = activation(x)
    y = y - y.mean(-1, keepdims=True)
    return y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + LAYER_NORM_EPSILON) * scale + bias


def _activated_norm_forward(activation: Callable[[Array], Array], x: Array, scale: Array, bias: Array) -> tuple:
    return _activated_norm(activation, x, scale, bias), (x, scale)


def _activated_norm_backward(activation: Callable[[Array], Array], kept: tuple[Array, Array], d_out: Array) -> tuple:
    (x, scale), d_out = jax.lax.optimization_barrier((kept, d_out))
    y, pull = jax.vjp(activation, x)
    d_normed = d_out * scale
    addends = (y, y * y, d_normed, d_normed * y)
    add = lambda sums, terms: tuple(a + b for a, b in zip(sums, terms, strict=True))
    sums = jax.lax.reduce(addends, (jnp.zeros((), x.dtype),) * 4, add, (x.ndim - 1,))
    mean, square, mean_d, product = (total[..., None] / x.shape[-1] for total in sums)
    inverse = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0) + LAYER_NORM_EPSILON)
    normed = (y - mean) * inverse
    (dx,) = pull(inverse * (d_normed - mean_d - normed * (product - mean * mean_d) * inverse))
    batch = tuple(range(x.ndim - 1))
    return dx, (d_out * normed).sum(batch), d_out.sum(batch)


_activated_norm.defvjp(_activated_norm_forward, _activated_norm_backward)


class LayerNorm(nn.Module):
    """`nn.LayerNorm` after an activation, in the form for a GPU; parameters of the same names."""

    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Float[Array, "*n W"]) -> Float[Array, "*n W"]:
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        return _activated_norm(self.activation, x, scale, bias)


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
    on_gpu = target_platform() == "gpu"
    for width in hidden_dims:
        x = _dense(width)(x)
        if not layer_norm:
            x = _gelu_with_slopes(x) if activation is _gelu and on_gpu else activation(x)
        elif on_gpu:
            x = LayerNorm(activation)(x)
        else:
            x = nn.LayerNorm(LAYER_NORM_EPSILON)(activation(x))
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
    """On a GPU every critic is given the inputs as if they were its own. Of common ones XLA makes one wide product of
    the first layers, and transposes its result to those of the critics one after the other."""
    own_inputs = target_platform() == "gpu"
    ensemble = nn.vmap(
        member,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=0 if own_inputs else None,  # pyright: ignore[reportArgumentType]  (flax says int and means jax.vmap's)
        out_axes=0,
        axis_size=num_critics,
    )
    return _WithOwnInputs(ensemble(hidden_dims), num_critics) if own_inputs else ensemble(hidden_dims)


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
