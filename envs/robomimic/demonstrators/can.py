"""Can: take the can from one bin, over the edge, into its compartment of the other."""

import numpy as np

from envs.robomimic.demonstrators.operator import CLOSE, OPEN, Actions, Operator, raised

CAN = "Can_main"
ABOVE_CENTRE = 0.01  # metres, where it is held
CARRY = 1.1  # metres, height of the way over the edge
DROP = 0.1  # metres above the bin's floor
EMPTY = 0.01  # metres between fingers that hold nothing


def can(operator: Operator) -> Actions:
    """The whole episode; a can that was missed or lost is grasped again. It is round: any side will do."""
    env, style = operator.env, operator.style
    target = np.array(env.target_bin_placements[env.object_id])
    grasp = lambda: raised(operator.body(CAN), ABOVE_CENTRE)
    while True:
        yield from operator.reach_down(grasp, operator.nearest_yaw(operator.finger_yaw + style.turn, np.pi))
        yield from operator.grip(CLOSE, style.wait)
        up = np.append(operator.hand[:2], CARRY)
        yield from operator.move(lambda up=up: up, tolerance=0.03, max_command=style.speed, max_steps=80)
        if operator.finger_gap > EMPTY:
            yield from operator.travel(lambda: np.append(target[:2], CARRY), tolerance=0.06)
            yield from operator.move(lambda: raised(target, DROP), tolerance=0.05, max_command=style.care, max_steps=40)
        yield from operator.grip(OPEN, 12)
        yield from operator.move(
            lambda: raised(operator.hand, 0.1), tolerance=0.01, max_command=style.speed, max_steps=12
        )
