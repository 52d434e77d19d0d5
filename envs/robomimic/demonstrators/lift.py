"""Lift: grasp the cube by any two opposite faces and raise it."""

import numpy as np

from envs.robomimic.demonstrators.operator import CLOSE, OPEN, Actions, Operator, raised

CUBE = "cube_main"


def lift(operator: Operator) -> Actions:
    """The whole episode; a missed cube is grasped again."""
    style = operator.style
    # A large turn takes the other pair of faces.
    aside = np.pi / 2 * np.sign(style.turn) if abs(style.turn) > 0.3 else 0.0
    cube = lambda: operator.body(CUBE)
    while True:
        yaw = operator.nearest_yaw(operator.body_yaw(CUBE) + aside, np.pi if aside else np.pi / 2)
        yield from operator.reach_down(cube, yaw)
        yield from operator.grip(CLOSE, style.wait)
        goal = raised(operator.hand, 0.15)
        yield from operator.move(lambda goal=goal: goal, tolerance=0.01, max_command=style.speed, max_steps=60)
        yield from operator.grip(OPEN, 12)
