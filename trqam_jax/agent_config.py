"""The settings of an agent as a pytree: numbers are leaves, what decides shapes or structure is static.

So every float of an algorithm can differ between the replicas of one process, and a new value compiles nothing anew.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from trqam_jax.errors import UserError, suggest
from trqam_jax.settings import Setting, check, value_type
from trqam_jax.types import Spec


class Derived(NamedTuple):
    """A constant that follows from one setting and the sizes, computed in double precision on the host: float32 would
    round once more than the published code does, which computes such constants in Python."""

    source: str  # the setting
    compute: Callable[[Any, Spec], Any]  # (its value, sizes) -> the constant


class AgentConfig:
    """An agent's settings, read as attributes.

    Leaves: the float settings, and what is derived from them; scalars, or (R,) for R replicas, in double precision
    until a compiled program takes them. Static: integers, flags, widths, None, and a zero that leaves out a network.
    Immutable.
    """

    __slots__ = ("_derivations", "_floats", "_spec", "_static")

    _floats: dict[str, Any]
    _static: dict[str, Any]
    _derivations: tuple[tuple[str, Derived], ...]
    _spec: Spec | None

    def __init__(
        self, floats: dict[str, Any], static: dict[str, Any], derivations: tuple = (), spec: Spec | None = None
    ):
        for slot, value in zip(self.__slots__, (derivations, floats, spec, static), strict=True):
            object.__setattr__(self, slot, value)

    @classmethod
    def create(cls, settings: Mapping[str, Setting], values: Mapping[str, Any]) -> "AgentConfig":
        """The settings at these values; what has none has its default. UserError at one that the declarations forbid.

        values: Python values, or arrays (R,) of floats for R replicas, which are not checked.
        """
        for name in values:
            if name not in settings:
                raise UserError(f"Unknown setting {name!r}.{suggest(name, settings)}")
        floats: dict[str, Any] = {}
        static: dict[str, Any] = {}
        for name, setting in settings.items():
            value = values.get(name, setting.default)
            value = value if isinstance(value, (np.ndarray, jax.Array)) else check(setting, name, value)
            if is_leaf(setting, value):
                floats[name] = np.asarray(value, np.float64)
            else:
                static[name] = value
        return cls(floats, static)

    def derive(self, derivations: Mapping[str, Derived], spec: Spec) -> "AgentConfig":
        """With the constants that an agent of these sizes derives from its settings, as attributes; once."""
        if self._spec is not None:
            return self
        found = {name: derived for name, derived in derivations.items() if derived.source in self._floats}
        constants = {name: compute(self._floats[source], spec) for name, (source, compute) in found.items()}
        return AgentConfig({**self._floats, **constants}, self._static, tuple(found.items()), spec)

    def replace(self, **values: Any) -> "AgentConfig":
        """Other values of float settings, for all replicas or (R,), and of what is derived from them."""
        floats = dict(self._floats)
        for name, value in values.items():
            if name not in floats:
                raise ValueError(f"{name} is no number that can be replaced; {', '.join(floats)} are")
            floats[name] = np.broadcast_to(np.asarray(value, np.float64), np.shape(floats[name]))
            for constant, (source, compute) in self._derivations:
                if source == name and self._spec is not None:
                    floats[constant] = compute(floats[name], self._spec)
        return AgentConfig(floats, self._static, self._derivations, self._spec)

    def is_zero(self, name: str) -> bool:
        """Whether a setting whose zero is static is zero: then what it weighs does not exist."""
        return name in self._static and self._static[name] == 0

    def broadcast(self, num_replicas: int) -> "AgentConfig":
        """Leaves (R,)."""
        leaves = {name: np.broadcast_to(value, (num_replicas,)) for name, value in self._floats.items()}
        return AgentConfig(leaves, self._static, self._derivations, self._spec)

    def __getattr__(self, name: str) -> Any:
        for values in (self._floats, self._static):
            if name in values:
                return values[name]
        raise AttributeError(f"no setting {name!r}; there are {', '.join([*self._floats, *self._static])}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: a configuration is immutable; see replace")

    def __reduce__(self) -> Any:  # immutable, so not what pickle does by itself
        return AgentConfig, (self._floats, self._static, self._derivations, self._spec)

    def __repr__(self) -> str:
        values = {**self._floats, **self._static}
        return f"AgentConfig({', '.join(f'{name}={value}' for name, value in sorted(values.items()))})"


def is_leaf(setting: Setting, value: Any) -> bool:
    """Whether the setting at this value is a leaf of the agent: a number that changes no shape and no structure."""
    if value_type(setting) is not float or value is None:
        return False
    return not (setting.zero_is_static and np.ndim(value) == 0 and value == 0)


def stack_configs(configs: Sequence[AgentConfig]) -> AgentConfig:
    """The configuration of R replicas, leaves (R,). UserError where they differ in what is static."""
    first = configs[0]
    for other in configs[1:]:
        for name, value in first._static.items():
            _check_static(name, value, getattr(other, name), name in other._static)
        for name, value in other._static.items():
            _check_static(name, value, getattr(first, name), name in first._static)
    floats = {name: np.stack([getattr(config, name) for config in configs]) for name in first._floats}
    return AgentConfig(floats, first._static, first._derivations, first._spec)


def _check_static(name: str, value: Any, other: Any, is_static: bool) -> None:
    if not is_static or value != other:
        raise UserError(
            f"{name} is {value} for one replica and {other} for another: these have different networks or programs, "
            "so give each a run of its own"
        )


def _flatten(config: AgentConfig) -> tuple[tuple[Any, ...], Any]:
    names = tuple(sorted(config._floats))
    static = tuple(sorted(config._static.items()))
    return tuple(config._floats[name] for name in names), (names, static, config._derivations, config._spec)


def _flatten_with_keys(config: AgentConfig) -> tuple[Any, Any]:
    leaves, aux = _flatten(config)
    return tuple((jax.tree_util.GetAttrKey(name), leaf) for name, leaf in zip(aux[0], leaves, strict=True)), aux


def _unflatten(aux: Any, leaves: Iterable[Any]) -> AgentConfig:
    names, static, derivations, spec = aux
    return AgentConfig(dict(zip(names, leaves, strict=True)), dict(static), derivations, spec)


jax.tree_util.register_pytree_with_keys(AgentConfig, _flatten_with_keys, _unflatten, _flatten)
