"""When a task is done. Every predicate is physical: heights, contacts, rest and relations, never the robot's intention.

| verb  | success |
|---|---|
| touch | the hand touches the object |
| lift  | held by both fingers, lowest point at least 5 cm over the table, for 0.5 s |
| push  | moved at least 6 cm to the asked side, sideways drift at most half of that, on the table all the way |
| place | at rest on the plate / inside the bowl, let go by the hand, for 0.3 s |
| stack | at rest on top of the other object, touching it and not the table, let go, for 0.3 s |
| move  | at rest on the table, let go, at most 20 cm from the other object, more along the asked side than across |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import hypot

from .goals import Goal
from .objects import BOWL_HEIGHT, BOWL_RADIUS, EXTENT, PLATE_RADIUS
from .scene import PUSH_DISTANCE, SIDES
from .state import ObjectState

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
        return self._streak >= _HOLD_STEPS.get(self.goal.verb, 1)


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
