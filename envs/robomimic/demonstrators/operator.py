"""The hands of a scripted demonstrator: what it sees of the arm, and movements as streams of actions."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from envs.robomimic.demonstrators.styles import Style

OPEN, CLOSE = -1.0, 1.0
GAIN = 20.0  # a command of 1 asks for 5 cm
TURN_GAIN = 2.0  # or for 0.5 rad
WRIST_LIMIT = 2.6  # radians of the last joint, whose end is at 2.9
SMOOTHNESS = 0.8  # of the commands' noise, per step
GRIP_SITE = "gripper0_right_grip_site"
FINGER_JOINT = "gripper0_right_finger_joint1"
WRIST_JOINT = "robot0_joint7"

Actions = Iterator[np.ndarray]
Place = Callable[[], np.ndarray]


class Operator:
    """A style at work in one of robosuite's environments. Positions are in metres, angles in radians, of the world."""

    def __init__(self, env: Any, style: Style, rng: np.random.Generator):
        self.env, self.style, self.rng = env, style, rng
        self.gripper = OPEN

    # ---- what it sees

    @property
    def hand(self) -> np.ndarray:
        """(3,), between the fingertips."""
        return np.array(self.env.sim.data.get_site_xpos(GRIP_SITE))

    @property
    def finger_yaw(self) -> float:
        """Of the line along which the fingers close."""
        joint = self.env.sim.model.joint_name2id(FINGER_JOINT)
        return yaw_of(self.env.sim.data.xaxis[joint])

    @property
    def finger_gap(self) -> float:
        """Metres between the fingertips."""
        left, right = self.env.robots[0]._ref_gripper_joint_pos_indexes["right"]
        return float(abs(self.env.sim.data.qpos[left] - self.env.sim.data.qpos[right]))

    def body(self, name: str) -> np.ndarray:
        """(3,), where a body is."""
        return np.array(self.env.sim.data.get_body_xpos(name))

    def body_yaw(self, name: str) -> float:
        """Of a body's own x axis."""
        return yaw_of(self.env.sim.data.get_body_xmat(name)[:, 0])

    def nearest_yaw(self, yaw: float, period: float) -> float:
        """Of the equivalent finger yaws the nearest that the wrist can reach, with the style's turn among them."""
        joint = self.env.sim.data.get_joint_qpos(WRIST_JOINT)
        turn = wrap(yaw - self.finger_yaw, period)
        turns = sorted((turn, turn - period, turn + period), key=abs)
        # Seen from above the gripper points down: turning it to the left turns the wrist's joint to the right.
        reachable = [one for one in turns if abs(joint - one) < WRIST_LIMIT] or turns[:1]
        return self.finger_yaw + reachable[0]

    # ---- how it moves

    def command(self, target: np.ndarray, yaw: float | None, max_command: float) -> np.ndarray:
        """(7,): towards a place of the hand, with the fingers along yaw and the palm down."""
        action = np.zeros(7)
        move = GAIN * (target - self.hand)
        action[:3] = move * min(1.0, max_command / max(np.abs(move).max(), 1e-9))
        palm = np.array(self.env.sim.data.get_site_xmat(GRIP_SITE)[:, 2])
        action[3:5] = np.clip(np.cross(palm, (0, 0, -1))[:2], -0.2, 0.2)
        if yaw is not None:
            action[5] = np.clip(TURN_GAIN * wrap(yaw - self.finger_yaw, np.pi), -max_command, max_command)
        action[6] = self.gripper
        return action

    def move(
        self, place: Place, yaw: float | None = None, *, tolerance: float, max_command: float, max_steps: int = 150
    ) -> Actions:
        """Follow a place until the hand is within `tolerance` of it (metres), or `max_steps` steps have passed."""
        for _ in range(max_steps):
            target = place()
            turned = yaw is None or abs(wrap(yaw - self.finger_yaw, np.pi)) < 0.1
            if turned and np.linalg.norm(target - self.hand) < tolerance:
                return
            yield self.command(target, yaw, max_command)

    def travel(self, place: Place, yaw: float | None = None, *, tolerance: float = 0.02) -> Actions:
        """Fast, and by a detour if that is the style."""
        if self.style.detour:
            middle = (self.hand + place()) / 2
            way = place() - self.hand
            aside = np.array([-way[1], way[0], 0.0])
            length = np.linalg.norm(aside)
            aside = aside / length if length > 0.05 else np.array([0.0, 1.0, 0.0])
            middle += self.style.detour * aside
            yield from self.move(lambda: middle, yaw, tolerance=0.05, max_command=self.style.speed, max_steps=60)
        yield from self.move(place, yaw, tolerance=tolerance, max_command=self.style.speed)

    def grip(self, gripper: float, steps: int) -> Actions:
        """Open or close the fingers where the hand is."""
        self.gripper = gripper
        place = self.hand
        for _ in range(steps):
            yield self.command(place, None, self.style.care)

    def reach_down(self, place: Place, yaw: float, *, tolerance: float = 0.008) -> Actions:
        """Hover over a place and descend to it; at times beside it at first."""
        above = lambda: raised(place(), self.style.hover)
        yield from self.travel(above, yaw)
        if self.rng.random() < self.style.slip:
            miss = np.append(self.rng.normal(0, 0.02, 2), 0.02)
            yield from self.move(
                lambda: place() + miss, yaw, tolerance=0.015, max_command=self.style.care, max_steps=40
            )
            yield from self.move(
                lambda: raised(place(), 0.05), yaw, tolerance=0.015, max_command=self.style.care, max_steps=40
            )
        yield from self.move(place, yaw, tolerance=tolerance, max_command=self.style.care, max_steps=100)

    def perturbed(self, actions: Actions) -> Actions:
        """The actions (7,) float32 with the style's noise and pauses; the gripper's stays.

        The noise of turns is halved at every step: it has a third of the moves' deviation, and is less smooth.
        """
        noise = np.zeros(6)
        for action in actions:
            while self.rng.random() < self.style.pause:
                for _ in range(self.rng.integers(3, 12)):
                    idle = np.append(self.rng.normal(0, 0.02, 6), action[6])
                    yield idle.astype(np.float32)
            noise = SMOOTHNESS * noise + self.rng.normal(0, self.style.noise, 6) * np.sqrt(1 - SMOOTHNESS**2)
            noise[3:] *= 0.5
            action[:6] += noise
            yield np.clip(action, -1, 1).astype(np.float32)


def raised(place: np.ndarray, height: float) -> np.ndarray:
    """(3,), so many metres above a place."""
    return place + np.array([0.0, 0.0, height])


def yaw_of(direction: np.ndarray) -> float:
    """The angle of a direction (3,) seen from above."""
    return float(np.arctan2(direction[1], direction[0]))


def wrap(turn: float, period: float) -> float:
    """The same turn modulo the period, from -period / 2 to period / 2."""
    return (turn + period / 2) % period - period / 2
