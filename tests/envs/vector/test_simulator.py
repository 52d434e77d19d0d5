"""Players: simulators that can be twins are, all others are built."""

import functools

from envs.vector.simulator import make_players


class Counted:
    """A simulator that knows how it came to be."""

    def __init__(self, origin):
        self.origin, self.resets = origin, 0

    def reset(self, seed):
        self.resets += 1
        return [0.0]


class Factory:
    """Fulfils `envs.base.TwinFactory`."""

    def __init__(self, kind, name):
        self.kind, self.name = kind, name

    def __call__(self):
        return Counted(f"{self.name} built")

    def twin(self, first):
        return Counted(f"{self.name} of {first.origin}")


def origins(factories):
    players = make_players(factories)
    assert all(player.simulator.resets == 1 for player in players)
    return [player.simulator.origin for player in players]


def test_the_first_of_a_kind_is_built_and_the_others_are_its_twins():
    factories = [Factory("maze", "a"), Factory("maze", "b"), Factory("cube", "c"), Factory("maze", "a")]
    assert origins(factories) == ["a built", "b of a built", "c built", "a of a built"]


def test_without_twins_every_simulator_is_built():
    plain = functools.partial(Counted, "plain")
    assert origins([plain, Factory("maze", "a"), plain]) == ["plain", "a built", "plain"]
