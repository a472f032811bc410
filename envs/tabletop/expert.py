"""The expert: closed-loop control of every task from the simulator's truth.

Each action depends on the present state alone, so that whatever goes wrong (an object slips, a finger knocks it
aside) is
answered by the action that fits the new state: recoveries need no code of their own, and a policy can imitate them.
"""

from __future__ import annotations

from math import pi

import numpy as np

from .env import ACTION, TabletopEnv
from .objects import BOWL_HEIGHT, EXTENT
from .scene import SIDES, move_destination
from .state import ObjectState

HOVER = 0.13  # metres over the table at which the hand travels
CARRY = 0.15  # metres over the table at which a held object's lowest point travels
OPEN, CLOSED = 1.0, -1.0
_ALIGNED = 0.008  # metres off the vertical over an object within which the hand goes down
_NEAR = 0.02  # metres within which it may go on down, once low
_MAX_STEP = 0.045  # metres a control step
_BLOCK_TOOL_Z = 0.02  # metres: height of the finger tips when they close on an object
_PUSH_TOOL_Z = 0.018
_PUSH_GAP = 0.030  # metres between the fingers and the object's surface before a push


def expert_action(env: TabletopEnv) -> np.ndarray:
    """The expert's clean action [5] for the environment's present state and goal (units of `env_spec.action`)."""
    target = env.object_state(env.goal.target.name)
    verb = env.goal.verb
    if verb == "touch":
        return _touch(env, target)
    if verb == "push":
        return _push(env, target)
    if verb == "lift":
        return _lift(env, target)
    return _put(env, target)


def _action(
    env: TabletopEnv, goal: np.ndarray, gripper: float, yaw: float = 0.0, speed: float = _MAX_STEP
) -> np.ndarray:
    """Move the tool towards `goal` (metres [3]) by at most `speed` (metres a step)."""
    step = goal - env.tool_position
    distance = float(np.linalg.norm(step))
    if distance > speed:
        step *= speed / distance
    turn = np.clip(yaw - env.tool_yaw, ACTION.low[3], ACTION.high[3])
    return np.array((*step, turn, gripper))


def _over(position: np.ndarray, height: float) -> np.ndarray:
    return np.array((position[0], position[1], height))


def _grasp_yaw(target: ObjectState) -> float:
    """Turn of the hand that brings the fingers flat onto a cube's nearest faces; round things need none."""
    if target.shape != "cube":
        return 0.0
    return (target.yaw + pi / 4) % (pi / 2) - pi / 4


def _grasp_height(target: ObjectState) -> float:
    return max(0.006, float(target.position[2]) - EXTENT[target.shape].half_height + _BLOCK_TOOL_Z)


def _touch(env: TabletopEnv, target: ObjectState) -> np.ndarray:
    tool = env.tool_position
    top = target.position[2] + EXTENT[target.shape].half_height
    away = float(np.hypot(*(tool - target.position)[:2]))
    height = top - 0.01 if away < _ALIGNED or (away < _NEAR and tool[2] < HOVER - 0.03) else HOVER
    return _action(env, _over(target.position, height), CLOSED, speed=0.03 if height < HOVER else _MAX_STEP)


def _lift(env: TabletopEnv, target: ObjectState) -> np.ndarray:
    if target.held:
        return _action(env, env.tool_position + (0, 0, 0.04), CLOSED, env.tool_yaw)
    return _grasp(env, target)


def _grasp(env: TabletopEnv, target: ObjectState) -> np.ndarray:
    """Over the object with an open hand, down, and close."""
    tool, yaw = env.tool_position, _grasp_yaw(target)
    away = float(np.hypot(*(tool - target.position)[:2]))
    height = _grasp_height(target)
    low = tool[2] < height + 0.012
    if away < _NEAR * 0.6 and low:
        return _action(env, _over(target.position, height), CLOSED, yaw, speed=0.01)
    hover = max(HOVER, height + 0.09)
    turned = abs(yaw - env.tool_yaw) < 0.15
    if (away < _ALIGNED and turned) or (away < _NEAR and tool[2] < hover - 0.02):
        return _action(env, _over(target.position, height), OPEN, yaw)
    if tool[2] < hover - 0.03 and away > _NEAR:
        # Low and beside it: up first, or the fingers would sweep the neighbours away.
        return _action(env, np.array((tool[0], tool[1], hover)), OPEN, yaw)
    return _action(env, _over(target.position, hover), OPEN, yaw)


def _destination(env: TabletopEnv) -> tuple[np.ndarray, float]:
    """Where the target goes: xy (metres [2]) and the height of the surface it is let down on (metres)."""
    goal = env.goal
    if goal.reference is None:
        raise ValueError(f"a {goal.verb!r} has no destination")
    reference = env.object_state(goal.reference.name)
    if goal.verb == "move":
        return np.array(move_destination(goal, reference.position.tolist())), 0.0
    return reference.position[:2].copy(), float(reference.position[2]) + EXTENT[reference.shape].half_height


def _put(env: TabletopEnv, target: ObjectState) -> np.ndarray:
    """Place, stack and move: grasp, carry high, let down, let go, and leave upwards."""
    place, surface = _destination(env)
    tool = env.tool_position
    off = float(np.hypot(*(target.position[:2] - place)))
    drop = 0.004  # metres over the surface at which the hand lets go
    tolerance = 0.008 if env.goal.verb == "stack" else 0.02
    clearance = target.bottom - surface
    if off < tolerance and clearance < drop + 0.004 and _settled(env, target):
        # There: open, then up.
        if target.touched and env.gripper_opening < 0.075:
            return _action(env, tool + (0, 0, 0.006), OPEN, env.tool_yaw)
        return _action(env, tool + (0, 0, 0.04), OPEN, env.tool_yaw)
    if target.held:
        centred = np.array((*(tool[:2] + place - target.position[:2]), tool[2]))
        if off < tolerance:
            # Ever slower towards the surface: the command runs ahead of the arm, and must not press the object into it.
            lower = np.clip(0.5 * (clearance - drop) + 0.003, 0.0, 0.035)
            return _action(env, np.array((centred[0], centred[1], tool[2] - lower)), CLOSED, env.tool_yaw, speed=0.035)
        carry = surface + (0.07 if env.goal.verb == "stack" else BOWL_HEIGHT + 0.035)
        if target.bottom < carry - 0.02 and off > 0.03:
            # Rise before travelling; a little sideways motion once clear of the neighbours saves time.
            return _action(env, tool + (0, 0, 0.045), CLOSED, env.tool_yaw)
        return _action(env, np.array((centred[0], centred[1], tool[2] + carry - target.bottom)), CLOSED, env.tool_yaw)
    return _grasp(env, target)


def _settled(env: TabletopEnv, target: ObjectState) -> bool:
    """Whether the target is low enough over its destination to be let go, or already lies there."""
    return target.held or target.touched or target.speed < 0.2


def _push(env: TabletopEnv, target: ObjectState) -> np.ndarray:
    """Behind the object with a closed hand, down, and forward; the hand's broad side leads."""
    ux, uy = SIDES[str(env.goal.relation)]
    forward, across = np.array((ux, uy)), np.array((-uy, ux))
    # Fingers are wider along the hand's y axis: pushing along y shows their edge, so the hand turns by 90 degrees.
    yaw = 0.0 if ux else pi / 2
    tool = env.tool_position
    radius = EXTENT[target.shape].radius if target.shape != "cube" else EXTENT[target.shape].half_height * 1.25
    offset = tool[:2] - target.position[:2]
    behind, aside = -float(offset @ forward), float(offset @ across)
    start = target.position[:2] - forward * (radius + _PUSH_GAP)
    low = tool[2] < _PUSH_TOOL_Z + 0.02
    if low and behind > 0.012 and abs(aside) < 0.012:
        goal = tool[:2] + forward * 0.03 - across * np.clip(aside, -0.01, 0.01)
        return _action(env, np.array((*goal, _PUSH_TOOL_Z)), CLOSED, yaw, speed=0.035)
    away = float(np.hypot(*(tool[:2] - start)))
    turned = abs(yaw - env.tool_yaw) < 0.2
    if (away < _ALIGNED and turned) or (away < _NEAR and tool[2] < HOVER - 0.02):
        return _action(env, np.array((*start, _PUSH_TOOL_Z)), CLOSED, yaw)
    if tool[2] < HOVER - 0.03 and away > _NEAR:
        return _action(env, np.array((tool[0], tool[1], HOVER)), CLOSED, yaw)
    return _action(env, np.array((*start, HOVER)), CLOSED, yaw)
