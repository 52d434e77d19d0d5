"""Scaled observations in a run: what simulators say is scaled as the data are, and the folder says how."""

import pathlib

import numpy as np

from envs.vector.actors import Actors, Transitions
from trqam_jax.errors import UserError
from trqam_jax.evaluation import Slots
from trqam_jax.scaling import Scaling

NAME = "scaling.json"


class ScaledSlots:
    """Slots whose policies see scaled observations; fulfils `trqam_jax.evaluation.Slots`."""

    def __init__(self, slots: Slots, scaling: Scaling):
        self._slots, self._scaling = slots, scaling
        self.begin, self.play, self.results = slots.begin, slots.play, slots.results

    def wait(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray] | None:
        """As the slots' own."""
        turn = self._slots.wait()
        if turn is None:
            return None
        group, observations, episode, decision = turn
        return group, self._scaling.apply(observations), episode, decision


class ScaledActors:
    """Actors whose policies, and the replay after them, see scaled observations."""

    def __init__(self, actors: Actors, scaling: Scaling):
        self._actors, self._scaling = actors, scaling

    def begin(self, entropy: np.ndarray) -> np.ndarray:
        """As `Actors.begin`."""
        return self._scaling.apply(self._actors.begin(entropy))

    def play(self, chunks: np.ndarray, start: np.ndarray, count: np.ndarray) -> Transitions:
        """As `Actors.play`."""
        turn = self._actors.play(chunks, start, count)
        played = np.arange(chunks.shape[1]) < turn.length[:, None]  # (R, H); what lies behind stays zero

        def scaled(observations: np.ndarray) -> np.ndarray:
            return np.where(played[..., None], self._scaling.apply(observations), np.float32(0))

        return turn._replace(
            observations=scaled(turn.observations),
            next_observations=scaled(turn.next_observations),
            current=self._scaling.apply(turn.current),
        )


def keep_scaling(folder: pathlib.Path, scaling: Scaling | None) -> None:
    """Write a stage's scaling into its folder; UserError if the run in there began with another one."""
    path = folder / NAME
    if scaling is None:
        return
    if path.exists() and Scaling.read(path).to_json() != scaling.to_json():
        raise UserError(
            f"{path}: is not the scaling of these data and of this BC policy; give those that the run began with, or "
            "choose another --group"
        )
    scaling.write(path)
