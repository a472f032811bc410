"""Scenes: which objects lie where, and what is asked of them.

A scene has three to six objects. At least one distractor shares the target's colour and one its shape, so that neither
word alone names the target. Layouts leave room for the hand around every object, and a free lane for a push.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, pi
from typing import Any

import numpy as np

from .goals import COLOURS, CONTAINERS, SHAPES, Goal, ObjectRef, references, relations, targets
from .objects import EXTENT
from .splits import Split

WORKSPACE_LOW, WORKSPACE_HIGH = (0.38, -0.21), (0.62, 0.21)  # metres, x and y of object centres
FINGER_CLEARANCE = 0.042  # free space around a footprint, so that a finger fits between neighbours
PUSH_DISTANCE = 0.06  # metres a push must move its object
# Directions (x, y) of the sides, as the front camera sees them.
SIDES = {"left": (0.0, -1.0), "right": (0.0, 1.0), "front": (1.0, 0.0), "behind": (-1.0, 0.0)}
_LANE_BEFORE, _LANE_AFTER, _LANE_HALF_WIDTH = 0.07, 0.10, 0.055


@dataclass(frozen=True)
class Region:
    """Where an object's centre may lie: a rectangle (x, y in metres), without another one where `without` is given."""

    low: tuple[float, float] = WORKSPACE_LOW
    high: tuple[float, float] = WORKSPACE_HIGH
    without: Region | None = None

    def ring(self, margin: float) -> Region:
        """What lies around it, up to that far away."""
        low, high = ((self.low[0] - margin, self.low[1] - margin), (self.high[0] + margin, self.high[1] + margin))
        return Region(low, high, self)

    def __contains__(self, place: tuple[float, float]) -> bool:
        inside = all(low <= value <= high for low, value, high in zip(self.low, place, self.high, strict=True))
        return inside and (self.without is None or place not in self.without)


@dataclass(frozen=True)
class SceneObject:
    """One object as laid out: centre (x, y) in metres, yaw in radians."""

    name: str
    colour: str | None
    shape: str
    x: float
    y: float
    yaw: float

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.colour, self.shape)

    def to_dict(self) -> dict[str, Any]:
        height = EXTENT[self.shape].half_height
        return {"name": self.name, "colour": self.colour, "shape": self.shape, "position": [self.x, self.y, height]}


def sample_scene(
    verb: str,
    rng: np.random.Generator,
    allows: Callable[[Goal], bool],
    objects: int | None = None,
    distractors: int | None = None,
    region: Region = Region(),
) -> tuple[tuple[SceneObject, ...], Goal]:
    """A scene and a goal for `verb` that is allowed.

    It has three to six objects, or exactly `objects`, or those that the goal is about and so many `distractors`. The
    goal's object lies in `region`.
    """
    for _ in range(200):
        goal, cast = _sample_cast(verb, rng, allows, objects, distractors)
        layout = _sample_layout(cast, goal, rng, region)
        if layout is not None:
            return layout, goal
    raise RuntimeError(
        f"no layout found for verb {verb!r} with {objects or 'few'} objects and {distractors or 'few'} distractors"
    )


def other_goal(objects: Sequence[SceneObject], goal: Goal, rng: np.random.Generator) -> Goal:
    """The same verb asked of another coloured object of the scene, for a push towards a side whose lane is free.

    Where no lane of any other is, towards any side: that can be followed, if not done. Where a stack has no other
    object, its two change roles.
    """
    others = [o for o in objects if o.shape in SHAPES and o.ref != goal.target and o.ref != goal.reference]
    if goal.verb == "stack":
        others = [o for o in others if o.shape != "ball"]
    if not others and goal.reference is not None and goal.verb == "stack":
        return Goal(goal.verb, goal.reference, goal.target, goal.relation)
    if not others:
        names = [o.name for o in objects]
        raise ValueError(f"the scene has no second object on which {goal.verb!r} could act: {names}")
    shuffled = [others[index] for index in rng.permutation(len(others))]
    if goal.verb != "push":
        return Goal(goal.verb, shuffled[0].ref, goal.reference, goal.relation)
    for target in shuffled:
        if free := [side for side in SIDES if lane_is_free(objects, target, side)]:
            return Goal("push", target.ref, None, free[int(rng.integers(len(free)))])
    return Goal("push", shuffled[0].ref, None, _choice(rng, list(SIDES)))


def possible_targets(objects: Sequence[SceneObject], goal: Goal) -> list[ObjectRef]:
    """The objects of which the same could be asked, the goal's own target among them."""
    return [o.ref for o in objects if o.shape in targets(goal.verb) and o.ref != goal.reference]


def is_feasible(objects: Sequence[SceneObject], goal: Goal) -> bool:
    """Whether the hand has the room that a push or a move needs."""
    if goal.verb == "push":
        return lane_is_free(objects, next(o for o in objects if o.ref == goal.target), str(goal.relation))
    return goal.verb != "move" or _destination_is_free(objects, goal)


def other_goals(
    objects: Sequence[SceneObject], verbs: Sequence[str], split: Split, rng: np.random.Generator
) -> list[Goal]:
    """One goal for each verb and each coloured object of the scene, as far as `split` allows and the objects permit."""
    goals = []
    for verb in verbs:
        for target in objects:
            others = [o.ref for o in objects if o.ref != target.ref and o.shape in references(verb)]
            if target.shape not in targets(verb) or (references(verb) and not others):
                continue
            reference = _choice(rng, others) if others else None
            goal = Goal(verb, target.ref, reference, _sample_relation(verb, reference, rng))
            if split.allows(goal):
                goals.append(goal)
    return goals


def _choice(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def _sample_goal(verb: str, rng: np.random.Generator) -> Goal:
    target = ObjectRef(_choice(rng, COLOURS), _choice(rng, targets(verb)))
    reference = None
    if verb == "place":
        reference = ObjectRef(None, _choice(rng, CONTAINERS))
    elif references(verb):
        # A container is wide: beside one there is seldom room for a "move".
        shapes = [shape for shape in references(verb) if shape in SHAPES]
        reference = _choice(rng, [ref for c in COLOURS for s in shapes if (ref := ObjectRef(c, s)) != target])
    return Goal(verb, target, reference, _sample_relation(verb, reference, rng))


def _sample_relation(verb: str, reference: ObjectRef | None, rng: np.random.Generator) -> str | None:
    options = relations(verb, None if reference is None else reference.shape)
    return _choice(rng, options) if len(options) > 1 else next(iter(options), None)


def _sample_cast(
    verb: str, rng: np.random.Generator, allows: Callable[[Goal], bool], objects: int | None, distractors: int | None
) -> tuple[Goal, list[ObjectRef]]:
    """The goal and every object of the scene, target first."""
    goal = _sample_goal(verb, rng)
    while not allows(goal):
        goal = _sample_goal(verb, rng)
    target = goal.target
    needed = [target] if goal.reference is None else [target, goal.reference]
    same_colour = ObjectRef(target.colour, _choice(rng, [s for s in SHAPES if s != target.shape]))
    same_shape = ObjectRef(_choice(rng, [c for c in COLOURS if c != target.colour]), target.shape)
    about = len(needed)
    needed += [ref for ref in (same_colour, same_shape) if ref not in needed]
    if distractors is not None:
        count = about + distractors
        needed = needed[:count]
    else:
        count = objects if objects is not None else int(rng.integers(max(3, len(needed)), 7))
    spare = [ObjectRef(c, s) for c in COLOURS for s in SHAPES if ObjectRef(c, s) not in needed]
    spare += [ref for ref in (ObjectRef(None, "plate"), ObjectRef(None, "bowl")) if ref not in needed] * 3
    while len(needed) < count:
        extra = _choice(rng, spare)
        spare = [ref for ref in spare if ref != extra]
        needed.append(extra)
    return goal, needed[: max(count, len(needed))]


def _sample_layout(
    cast: Sequence[ObjectRef], goal: Goal, rng: np.random.Generator, region: Region
) -> tuple[SceneObject, ...] | None:
    placed: list[SceneObject] = []
    # The widest first: a plate hardly finds room once the small things lie about.
    for ref in sorted(cast, key=lambda ref: -EXTENT[ref.shape].radius):
        for _ in range(60):
            where = region if ref == goal.target else Region()
            x, y = rng.uniform(where.low, where.high)
            yaw = rng.uniform(-pi / 4, pi / 4)
            candidate = SceneObject(ref.name, ref.colour, ref.shape, float(x), float(y), float(yaw))
            if (candidate.x, candidate.y) in where and all(_gap(candidate, o) > FINGER_CLEARANCE for o in placed):
                placed.append(candidate)
                break
        else:
            return None
    if not is_feasible(placed, goal):
        return None
    # Slots carry no meaning: shuffle, so that an object's place in the list does not betray its role.
    return tuple(placed[i] for i in rng.permutation(len(placed)))


def _gap(a: SceneObject, b: SceneObject) -> float:
    return hypot(a.x - b.x, a.y - b.y) - EXTENT[a.shape].radius - EXTENT[b.shape].radius


def lane_is_free(objects: Sequence[SceneObject], target: SceneObject, side: str) -> bool:
    """Whether the hand fits behind the target and nothing lies where it would be pushed."""
    ux, uy = SIDES[side]
    end_x, end_y = target.x + ux * PUSH_DISTANCE, target.y + uy * PUSH_DISTANCE
    if not (WORKSPACE_LOW[0] - 0.03 <= end_x <= WORKSPACE_HIGH[0] + 0.03 and abs(end_y) <= WORKSPACE_HIGH[1] + 0.05):
        return False
    for other in objects:
        if other.ref == target.ref:
            continue
        along = (other.x - target.x) * ux + (other.y - target.y) * uy
        across = abs((other.x - target.x) * uy - (other.y - target.y) * ux)
        radius = EXTENT[other.shape].radius
        if -_LANE_BEFORE - radius < along < _LANE_AFTER + radius and across < _LANE_HALF_WIDTH + radius:
            return False
    return True


MOVE_OFFSET = 0.10  # metres between centres where a "move" puts its object beside the reference


def move_destination(goal: Goal, reference_xy: Sequence[float]) -> tuple[float, float]:
    """Where to put the target of a "move", beside its reference (metres)."""
    ux, uy = SIDES[str(goal.relation)]
    return reference_xy[0] + ux * MOVE_OFFSET, reference_xy[1] + uy * MOVE_OFFSET


def _destination_is_free(objects: Sequence[SceneObject], goal: Goal) -> bool:
    reference = next(o for o in objects if o.ref == goal.reference)
    x, y = move_destination(goal, (reference.x, reference.y))
    inside = WORKSPACE_LOW[0] - 0.02 <= x <= WORKSPACE_HIGH[0] + 0.02 and abs(y) <= WORKSPACE_HIGH[1] + 0.02
    target, (ux, uy) = next(o for o in objects if o.ref == goal.target), SIDES[str(goal.relation)]
    already = (target.x - reference.x) * ux + (target.y - reference.y) * uy
    clear = all(
        hypot(o.x - x, o.y - y) - EXTENT[o.shape].radius > FINGER_CLEARANCE + 0.02
        for o in objects
        if o.ref != goal.target
    )
    return inside and clear and already < 0.0  # it must start on the other side, or there is nothing to do
