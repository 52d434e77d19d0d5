"""Observations scaled to [-1, 1] by the range that each of their numbers has in the data. Imports no JAX."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from trqam_jax.errors import UserError
from trqam_jax.files import read_json, write_json

MARGIN = 1e-6  # added to every range: a number that is constant in the data becomes -1


class Scaling(NamedTuple):
    """The least and the greatest value of each of an observation's O numbers in the data that a policy was trained on.

    A policy trained on scaled observations acts by `agent.act(scaling.apply(observations), key)`.
    """

    low: np.ndarray  # (O,) float32
    high: np.ndarray  # (O,) float32

    @classmethod
    def of(cls, observations: np.ndarray) -> "Scaling":
        """That of the data's observations (M, O), next ones included."""
        return cls(observations.min(axis=0).astype(np.float32), observations.max(axis=0).astype(np.float32))

    def apply(self, observations: np.ndarray) -> np.ndarray:
        """Observations (..., O) as float32, 2 ((x - low) / (high - low + 1e-6) - 0.5), as TRQAM's released code has it.

        What lies outside of the range ends up outside of [-1, 1].
        """
        share = (np.asarray(observations, np.float32) - self.low) / (self.high - self.low + np.float32(MARGIN))
        return 2 * (share - np.float32(0.5))

    def to_json(self) -> dict[str, list[float]]:
        """{"low": [...], "high": [...]}; `from_json` reads the same float32 values back."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def from_json(cls, content: Any) -> "Scaling":
        """What `to_json` gave; UserError if it is anything else."""
        fields = content if isinstance(content, Mapping) else {}
        try:
            low, high = (np.array(fields.get(name), np.float32) for name in cls._fields)
        except (TypeError, ValueError, OverflowError):
            low = high = np.array(np.nan)
        if low.ndim != 1 or low.shape != high.shape or not (low <= high).all() or not np.isfinite(high - low).all():
            raise UserError(f"{content!r:.80}: no scaling, expected as many finite numbers low as high, low <= high")
        return cls(low, high)

    @classmethod
    def read(cls, path: pathlib.Path) -> "Scaling":
        """The scaling.json of a run's folder; UserError if it is missing or damaged."""
        content = read_json(path)
        try:
            return cls.from_json(content)
        except UserError as error:
            raise UserError(f"{path}: damaged ({error})") from error

    def write(self, path: pathlib.Path) -> None:
        """Atomically, for `read`."""
        write_json(path, self.to_json())
