"""One declaration per setting: its default, what it means, what it may be, and what it changes. Imports no JAX."""

import builtins
import enum
import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from trqam_jax.errors import UserError, suggest


class Effect(enum.Enum):
    """What another value of a setting changes."""

    RESULT = "results"  # the numbers at a given step: part of the digest that names a run's folder
    ROWS = "which rows are written"  # not the digest, but a run is only resumed with the same value
    LENGTH = "how long a run is"  # a finished run can be continued with a larger value
    LOCATION = "where inputs lie"  # a fingerprint of their content stands for them in the digest
    NONE = "nothing in the rows"


class Setting(NamedTuple):
    """A declared setting. The type of `default` is the type of the value.

    A float whose effect is RESULT and that an agent declares is a leaf of the agent's pytree: several values of it,
    a,b,c on the command line, are replicas of one process.
    """

    default: Any
    help: str
    low: float | None = None  # least value
    high: float | None = None  # greatest value
    multiple_of: int = 1  # of a whole number
    choices: tuple[str, ...] = ()  # of a text
    optional: bool = False  # may also be None
    type: builtins.type | None = None  # of the value, where the default is None
    effect: Effect = Effect.RESULT
    flag: str = ""  # the command line's own flag; every setting has --config.SECTION.KEY besides
    zero_is_static: bool = False  # zero leaves out a network: it cannot stand beside other values in one process
    online: bool = False  # may have another value in the online phase: --config.online.KEY
    since: str = ""  # version that added it: at its default it does not enter the digest, so older folders stay valid
    #: What stands in the digest for a value whose results a version changed: runs of before have another folder.
    digested: Mapping[Any, str] = {}


Settings = Mapping[str, Setting]  # by key
MOST = 2**32 - 1  # of a whole number without a bound of its own: seeds reach it, and arrays take no larger ones
MOST_FLOAT = (2 - 2**-23) * 2.0**127  # float32's largest; what is larger would be infinite in an update


def value_type(setting: Setting) -> type:
    """Of its values, None aside."""
    return setting.type or type(setting.default)


def parse(setting: Setting, name: str, text: str) -> Any:
    """The value that a command line's text means; a float that is a leaf may be several, a,b,c.

    UserError, naming the setting as `name`, where it is none or is not allowed.
    """
    kind = value_type(setting)
    if setting.optional and text.lower() == "none":
        return None
    if kind is str:
        return check(setting, name, text)
    if kind is tuple:
        return check(setting, name, _parse_tuple(text))
    if kind is float and "," in text:
        parts = text.strip("()[] ,").split(",")
        return check(setting, name, tuple(_number(setting, name, part.strip(), float) for part in parts))
    return check(setting, name, _number(setting, name, text, kind))


def _number(setting: Setting, name: str, text: str, kind: type) -> Any:
    """A bool, int or float; 100_000 and 1e5 are ints, too."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{name}={text!r}: expected a bool like {setting.default}, true or false")
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"{name}={text!r}: expected {_expected(setting)}") from None
    if kind is int:
        if not number.is_integer():  # false of infinities and of what is no number
            raise UserError(f"{name}={text}: expected {_expected(setting)}, a whole number")
        return int(text) if text.replace("_", "").lstrip("+-").isdecimal() else int(number)
    return number


def _parse_tuple(text: str) -> tuple[Any, ...]:
    """Whole numbers where all are, else texts: 64,64 or (64, 64) or 'wandb'. (64,) has one."""
    inner = text.strip("()[] ").removesuffix(",")
    parts = [part.strip(" '\"") for part in inner.split(",")] if inner else []
    if all(part.removeprefix("-").isdecimal() for part in parts):
        return tuple(int(part) for part in parts)
    return tuple(parts)


def _expected(setting: Setting) -> str:
    kind = value_type(setting)
    article = "an" if kind is int else "a"
    example = "" if setting.default is None else f" like {setting.default!r}"
    return f"{article} {kind.__name__}{example}"


def check(setting: Setting, name: str, value: Any) -> Any:
    """The value as the setting has it: an int becomes a float where that is expected, a list a tuple.

    UserError, naming the setting as `name`, where the type, a bound or a choice forbids it.
    """
    kind = value_type(setting)
    if value is None:
        if setting.optional or setting.default is None:
            return None
        raise UserError(f"{name}=None: expected {_expected(setting)}")
    if kind is tuple:
        return _check_tuple(setting, name, value)
    if kind is float and isinstance(value, (tuple, list)):
        return _check_several(setting, name, tuple(value))
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not kind:
        raise UserError(f"{name}={value!r}: expected {_expected(setting)}")
    if kind is str and setting.default and not value:  # as of a shell's variable that is not set
        raise UserError(f"{name} is empty, expected a text like {setting.default!r}")
    if kind is str and setting.choices and value not in setting.choices:
        raise UserError(f"{name}={value}: unknown.{suggest(value, setting.choices)}")
    if kind in (int, float):
        _check_bounds(setting, name, value, value)
    return value


def _check_tuple(setting: Setting, name: str, value: Any) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if setting.choices:
        for one in values:
            if one not in setting.choices:
                raise UserError(f"{name}={one}: unknown.{suggest(str(one), setting.choices)}")
        return values
    if not all(type(one) is int for one in values):
        raise UserError(f"{name}={value!r}: expected whole numbers separated by commas, a tuple like 512,512")
    if setting.low is not None and (not values or min(values) < setting.low):
        raise UserError(f"{name} is {value}, expected positive numbers like 512,512")
    if max(values, default=0) > MOST:
        raise UserError(f"{name} is {value}, expected numbers up to {MOST}")
    return values


def _check_several(setting: Setting, name: str, values: tuple[Any, ...]) -> Any:
    """Sorted; a single one is that value alone."""
    if not values or not all(type(value) in (int, float) for value in values):
        raise UserError(f"{name}={values!r}: expected {_expected(setting)}, or several")
    floats = tuple(float(value) for value in values)
    if len(set(floats)) < len(floats):
        raise UserError(f"{name}={','.join(map(str, floats))}: one is named twice")
    for value in floats:
        _check_bounds(setting, name, value, floats)
    return floats[0] if len(floats) == 1 else tuple(sorted(floats))


def _check_bounds(setting: Setting, name: str, value: float, shown: Any) -> None:
    low = -math.inf if setting.low is None else setting.low
    most = MOST if value_type(setting) is int else math.inf
    high = most if setting.high is None else setting.high
    if low <= value <= high and abs(value) <= MOST_FLOAT:
        if value % setting.multiple_of and setting.multiple_of > 1:
            raise UserError(f"{name} is {shown}, expected a multiple of {setting.multiple_of}")
        return
    limits = [f"at least {setting.low}"] * (setting.low is not None)
    if value_type(setting) is float and MOST_FLOAT < abs(value) < math.inf:
        limits.append("at most float32's largest, 3.4e38")
    elif high < math.inf:
        limits.append(f"at most {high}")
    bounds = f", {' and '.join(limits)}" if limits else ""
    raise UserError(f"{name} is {shown}, expected a finite number{bounds}")
