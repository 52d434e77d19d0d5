"""One declaration per setting: its default, what it means, what it may be, and what it changes. Imports no JAX."""

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple


class Effect(enum.Enum):
    """What another value of a setting changes."""

    RESULT = "results"  # the numbers at a given step: part of the digest that names a run's folder
    ROWS = "which rows are written"  # not the digest, but a run is only resumed with the same value
    LENGTH = "how long a run is"  # a finished run can be continued with a larger value
    PLACE = "where inputs lie"  # a fingerprint of their content stands for them in the digest
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
    choices: tuple[str, ...] = ()  # of a text
    optional: bool = False  # may also be None
    type: type | None = None  # of the value, where the default is None
    effect: Effect = Effect.RESULT
    flag: str = ""  # the command line's own flag; every setting has --config.SECTION.KEY besides
    zero_is_static: bool = False  # zero leaves out a network: it cannot stand beside other values in one process
    online: bool = False  # may have another value in the online phase: --config.online.KEY
    since: str = ""  # version that added it: at its default it does not enter the digest, so older folders stay valid


Settings = Mapping[str, Setting]  # by key
