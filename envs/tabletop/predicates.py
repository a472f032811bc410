"""When a task is done. Every predicate is physical: heights, contacts, rest and relations, never the robot's intention.

| verb  | success |
|---|---|
| touch | the hand touches the object |
| lift  | held by both fingers, lowest point at least 5 cm over the table, for 0.5 s |
| push  | moved at least 6 cm to the asked side, sideways drift at most half of that, on the table all the way |
| place | at rest on the plate / inside the bowl, let go by the hand, for 0.3 s |
| stack | at rest on top of the other object, touching it and not the table, let go, for 0.3 s |
| move  | at rest on the table, let go, at most 20 cm from the other object, more along the asked side than across |

Where the named object is not there, success is to leave all others alone until the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import hypot

from .goals import Goal
from .objects import BOWL_HEIGHT, BOWL_RADIUS, EXTENT, PLATE_RADIUS
from .scene import PUSH_DISTANCE, SIDES
from .state import ObjectState, is_lifted, is_moved

LIFT_HEIGHT = 0.05  # metres
REST_SPEED = 0.03  # m/s
_HOLD_STEPS = {"lift": 5, "place": 3, "stack": 3, "move": 3}  # control steps at 10 Hz


class SuccessMonitor:
    """Follows one goal through an episode; `update` says whether it is reached."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.predicates: dict[str, bool] = {}
        self._streak = 0
        self._left_table = False

    @property
    def over(self) -> bool:
        """Whether nothing more can change the outcome: it is a success."""
        return self._streak >= _HOLD_STEPS.get(self.goal.verb, 1)

    def update(self, states: Sequence[ObjectState]) -> bool:
        """Judge one control step. `predicates` then holds each condition's value."""
        target = _find(states, self.goal.target.name)
        reference = _find(states, self.goal.reference.name) if self.goal.reference is not None else None
        self._left_table |= target.bottom > 0.015
        self.predicates = _CONDITIONS[self.goal.verb](self.goal, target, reference)
        if self.goal.verb == "push":
            self.predicates["stayed_on_table"] = not self._left_table
        holds = all(self.predicates.values())
        self._streak = self._streak + 1 if holds else 0
        return self.over


class LeftAlone:
    """Follows an episode that asks for what is not there: a success as long as nothing is picked up or moved."""

    def __init__(self) -> None:
        self.predicates = {"left_alone": True}

    @property
    def over(self) -> bool:
        """Whether nothing more can change the outcome: it is a failure."""
        return not self.predicates["left_alone"]

    def update(self, states: Sequence[ObjectState]) -> bool:
        """Judge one control step."""
        disturbed = any(is_lifted(state) or is_moved(state) for state in states)
        self.predicates["left_alone"] &= not disturbed
        return not self.over


def _find(states: Sequence[ObjectState], name: str) -> ObjectState:
    return next(state for state in states if state.name == name)


def _touch(goal: Goal, target: ObjectState, reference: ObjectState | None) -> dict[str, bool]:
    return {"touched": target.touched}


def _lift(goal: Goal, target: ObjectState, reference: ObjectState | None) -> dict[str, bool]:
    return {"held": target.held, "high": target.bottom >= LIFT_HEIGHT}


def _push(goal: Goal, target: ObjectState, reference: ObjectState | None) -> dict[str, bool]:
    ux, uy = SIDES[str(goal.relation)]
    dx, dy = (target.position - target.start)[:2]
    along, across = dx * ux + dy * uy, abs(dx * uy - dy * ux)
    return {"moved": bool(along >= PUSH_DISTANCE), "straight": bool(across <= along / 2)}


def _rests(target: ObjectState) -> dict[str, bool]:
    return {"released": not target.touched, "at_rest": target.speed < REST_SPEED}


def _place(goal: Goal, target: ObjectState, reference: ObjectState | None) -> dict[str, bool]:
    assert reference is not None  # Goal checks that a place has a reference
    distance = hypot(*(target.position - reference.position)[:2])
    supported = reference.name in target.supports
    if reference.shape == "plate":
        return {"on": supported and distance < PLATE_RADIUS and not target.on_table, **_rests(target)}
    low = target.bottom < reference.position[2] + BOWL_HEIGHT
    return {"in": supported and low and distance < BOWL_RADIUS and not target.on_table, **_rests(target)}


def _stack(goal: Goal, target: ObjectState, reference: ObjectState | None) -> dict[str, bool]:
    assert reference is not None
    above = target.position[2] - reference.position[2] > 0.7 * (
        EXTENT[target.shape].half_height + EXTENT[reference.shape].half_height
    )
    return {"on": reference.name in target.supports and bool(above) and not target.on_table, **_rests(target)}


def _move(goal: Goal, target: ObjectState, reference: ObjectState | None) -> dict[str, bool]:
    assert reference is not None
    ux, uy = SIDES[str(goal.relation)]
    dx, dy = (target.position - reference.position)[:2]
    along, across = dx * ux + dy * uy, abs(dx * uy - dy * ux)
    beside = along > 0.03 and across < along and hypot(dx, dy) <= 0.20
    return {"beside": bool(beside), "on_table": target.on_table, **_rests(target)}


_CONDITIONS: dict[str, Callable[[Goal, ObjectState, ObjectState | None], dict[str, bool]]] = {
    "touch": _touch,
    "lift": _lift,
    "push": _push,
    "place": _place,
    "stack": _stack,
    "move": _move,
}
