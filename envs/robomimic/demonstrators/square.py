"""Square: take the nut by its handle and put it over the square peg."""

import numpy as np

from envs.robomimic.demonstrators.operator import CLOSE, OPEN, Actions, Operator, raised, wrap, yaw_of

NUT, PEG = "SquareNut_main", "peg1"
HANDLE = "SquareNut_handle_site"
CARRY = 1.03  # metres, height of the nut over the peg
DOWN = 0.86  # metres, height of the nut around it
EMPTY = 0.01  # metres between fingers that hold nothing
CENTRED = 0.005  # metres


def square(operator: Operator) -> Actions:
    """The whole episode; a nut that was missed or lost is grasped again."""
    style = operator.style
    handle = lambda: np.array(operator.env.sim.data.get_site_xpos(HANDLE))
    while True:
        along = yaw_of(handle() - operator.body(NUT))
        yield from operator.reach_down(handle, operator.nearest_yaw(along + np.pi / 2, np.pi))
        yield from operator.grip(CLOSE, style.wait)
        up = raised(operator.hand, CARRY - operator.body(NUT)[2])
        yield from operator.move(lambda up=up: up, tolerance=0.02, max_command=style.speed, max_steps=80)
        if operator.finger_gap > EMPTY:
            yield from _put_over(operator)
        yield from operator.grip(OPEN, 12)
        yield from operator.move(
            lambda: raised(operator.hand, 0.1), tolerance=0.01, max_command=style.speed, max_steps=15
        )


def _put_over(operator: Operator) -> Actions:
    """Move the nut that is held over the peg, and down around it."""
    peg = operator.body(PEG)[:2]
    goal = lambda height: lambda: operator.hand + np.append(peg, height) - operator.body(NUT)
    yaw = operator.finger_yaw + wrap(-operator.body_yaw(NUT), np.pi / 2)
    yield from operator.travel(goal(CARRY), yaw, tolerance=0.02)
    yield from operator.move(goal(CARRY), yaw, tolerance=CENTRED, max_command=operator.style.care, max_steps=60)
    yield from operator.move(goal(DOWN), yaw, tolerance=0.01, max_command=operator.style.care, max_steps=50)
