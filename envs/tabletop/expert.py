"""The expert: closed-loop control of every task from the simulator's truth.

Each action depends on the present state alone, so that whatever goes wrong (an object slips, a finger knocks it aside)
is answered by the action that fits the new state: recoveries need no code of their own, and a policy can imitate them.
"""

from __future__ import annotations

from math import pi
from typing import NamedTuple, Protocol

import numpy as np

from .env import ACTION
from .goals import Goal
from .objects import EXTENT
from .scene import SIDES, move_destination
from .state import ObjectState

HOVER = 0.13  # metres over the table at which the hand travels
OPEN, CLOSED = 1.0, -1.0
_MAX_STEP = 0.045  # metres a control step
_GRIP = 0.020  # metres: height of the finger tips over an object's lowest point when they close on it
_PUSH_TOOL_Z = 0.018  # metres: height of the finger tips while they push
_PUSH_GAP = 0.030  # metres between the fingers and the object's surface before a push
_DROP = 0.004  # metres over a surface at which the hand lets go
_FUNNEL = (0.006, 0.035)  # metres off the vertical at which the hand is all the way down, and all the way up
_YAW_LEVER = 0.05  # metres: a radian of wrong turn counts like this much distance


class World(Protocol):
    """What the expert goes by: the environment, or what somebody takes for it."""

    @property
    def goal(self) -> Goal: ...
    @property
    def tool_position(self) -> np.ndarray: ...
    @property
    def tool_yaw(self) -> float: ...
    @property
    def gripper_opening(self) -> float: ...
    def object_state(self, name: str) -> ObjectState: ...


class Step(NamedTuple):
    """What the expert does: a clean action [5] (units of `env_spec.action`), and the phase (`PHASES`) it belongs to."""

    action: np.ndarray
    phase: str


def expert_action(env: World) -> np.ndarray:
    """The expert's clean action [5] for the environment's present state and goal (units of `env_spec.action`)."""
    return expert_step(env).action


def expert_step(env: World) -> Step:
    """As `expert_action`, and what it is about."""
    target = env.object_state(env.goal.target.name)
    verb = env.goal.verb
    if verb == "touch":
        return _touch(env, target)
    if verb == "push":
        return _push(env, target)
    if verb == "lift":
        return _lift(env, target)
    return _put(env, target)


def _action(env: World, goal: np.ndarray, gripper: float, yaw: float, speed: float = _MAX_STEP) -> np.ndarray:
    """Move the tool towards `goal` (metres [3]) by at most `speed` (metres a step), upwards before sideways."""
    step = goal - env.tool_position
    step[:2] *= np.clip(1.5 - step[2] / 0.04, 0.0, 1.0)  # below its height, the hand rises before it sweeps things away
    distance = float(np.linalg.norm(step))
    if distance > speed:
        step *= speed / distance
    turn = np.clip(yaw - env.tool_yaw, ACTION.low[3], ACTION.high[3])
    return np.array((*step, turn, gripper))


def _funnel(away: float, low: float, high: float) -> float:
    """Height (metres) at a distance from the vertical over the goal: the nearer, the lower.

    Unlike a threshold, a funnel makes the action a continuous function of the state, which a policy can learn.
    """
    share = (away - _FUNNEL[0]) / (_FUNNEL[1] - _FUNNEL[0])
    return low + (high - low) * float(np.clip(share, 0.0, 1.0))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Horizontal distance, metres."""
    return float(np.hypot(*(a[:2] - b[:2])))


def _at(position: np.ndarray, height: float) -> np.ndarray:
    return np.array((position[0], position[1], height))


def _touch(env: World, target: ObjectState) -> Step:
    top, away = (
        float(target.position[2]) + EXTENT[target.shape].half_height,
        _distance(env.tool_position, target.position),
    )
    action = _action(env, _at(target.position, _funnel(away, top - 0.01, HOVER)), CLOSED, 0.0)
    return Step(action, _approach(away))


def _lift(env: World, target: ObjectState) -> Step:
    if target.held:
        return Step(_action(env, env.tool_position + (0, 0, 0.04), CLOSED, env.tool_yaw), "raise")
    return _grasp(env, target)


def _approach(away: float) -> str:
    """The phase of a hand on its way to an object, at this distance from the vertical over it."""
    return "above" if away > _FUNNEL[1] else "down"


def _grasp(env: World, target: ObjectState) -> Step:
    """Over the object with an open hand, down, and close."""
    # A cube is gripped by its nearest faces; round things need no turn.
    yaw = (target.yaw + pi / 4) % (pi / 2) - pi / 4 if target.shape == "cube" else 0.0
    tool, height = env.tool_position, max(0.006, target.bottom + _GRIP)
    away = _distance(tool, target.position)
    if away < 0.012 and tool[2] < height + 0.010:
        return Step(_action(env, _at(target.position, height), CLOSED, yaw, speed=0.01), "grip")
    away += _YAW_LEVER * abs(yaw - env.tool_yaw)
    goal = _at(target.position, _funnel(away, height, max(HOVER, height + 0.09)))
    return Step(_action(env, goal, OPEN, yaw), _approach(away))


def _destination(env: World) -> tuple[np.ndarray, float]:
    """Where the target goes: xy (metres [2]) and the height of the surface it is let down on (metres)."""
    goal = env.goal
    if goal.reference is None:
        raise ValueError(f"a {goal.verb!r} has no destination")
    reference = env.object_state(goal.reference.name)
    if goal.verb == "move":
        return np.array(move_destination(goal, reference.position.tolist())), 0.0
    return reference.position[:2].copy(), float(reference.position[2]) + EXTENT[reference.shape].half_height


def _put(env: World, target: ObjectState) -> Step:
    """Place, stack and move: grasp, carry high, let down, let go, and leave upwards."""
    place, surface = _destination(env)
    tool, off, clearance = env.tool_position, _distance(target.position, place), target.bottom - surface
    tolerance = 0.010 if env.goal.verb == "stack" else 0.015
    if off < tolerance and clearance < _DROP + 0.004:
        # There: open, then up. Opening rises a little, because the command may still press on the surface.
        still_in_hand = target.touched and env.gripper_opening < 0.075
        action = _action(env, tool + (0, 0, 0.006 if still_in_hand else 0.04), OPEN, env.tool_yaw)
        return Step(action, "release" if still_in_hand else "leave")
    if not target.held:
        return _grasp(env, target)
    carry = 0.065 if env.goal.verb in ("stack", "place") else 0.05
    wanted = _funnel(off - 0.4 * tolerance, _DROP - 0.003, carry)
    # Ever slower towards the surface: the command runs ahead of the arm, and must not press the object into it.
    rise = np.clip(wanted - clearance, -0.5 * max(clearance, 0.0) - 0.003, 0.05)
    goal = np.array((*(tool[:2] + place - target.position[:2]), tool[2] + rise))
    return Step(_action(env, goal, CLOSED, env.tool_yaw), "carry" if off > _FUNNEL[1] else "lower")


def _push(env: World, target: ObjectState) -> Step:
    """Behind the object with a closed hand, down, and forward; the hand's broad side leads."""
    ux, uy = SIDES[str(env.goal.relation)]
    forward, across = np.array((ux, uy)), np.array((-uy, ux))
    yaw = 0.0 if ux else pi / 2  # closed fingers are broadest along the hand's y axis
    tool = env.tool_position
    radius = EXTENT[target.shape].half_height * 1.25 if target.shape == "cube" else EXTENT[target.shape].radius
    offset = tool[:2] - target.position[:2]
    behind, aside = -float(offset @ forward), float(offset @ across)
    if tool[2] < _PUSH_TOOL_Z + 0.02 and behind > 0.012 and abs(aside) < 0.03:
        # The further to the side, the slower, and at last backwards: it gets behind the object without a new approach.
        ahead = 0.03 * float(np.clip(1.6 - abs(aside) / 0.012, -0.4, 1.0))
        goal = tool[:2] + forward * ahead - across * np.clip(aside, -0.015, 0.015)
        return Step(_action(env, _at(goal, _PUSH_TOOL_Z), CLOSED, yaw, speed=0.035), "push")
    start = target.position[:2] - forward * (radius + _PUSH_GAP)
    away = _distance(tool, start) + _YAW_LEVER * abs(yaw - env.tool_yaw)
    return Step(_action(env, _at(start, _funnel(away, _PUSH_TOOL_Z, HOVER)), CLOSED, yaw), "behind")
