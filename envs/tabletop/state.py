"""The world's truth, read from the simulator once per control step: poses, contacts, and what the robot touched first.

Success predicates, the expert and the evaluation read it; a policy never does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from .objects import EXTENT
from .scene import SceneObject

MOVED = 0.02  # metres from its start at which an object counts as moved
_FINGERS = ("left_finger", "right_finger")


@dataclass
class ObjectState:
    """One object now. Positions in metres (start: where it lay at reset), speed in m/s."""

    name: str
    shape: str
    start: np.ndarray
    position: np.ndarray
    up: np.ndarray  # world direction of the object's own vertical axis
    yaw: float
    speed: float
    fingers: int  # how many fingers touch it
    touched: bool  # by any part of the hand
    on_table: bool
    supports: frozenset[str]  # other objects it touches

    @property
    def bottom(self) -> float:
        """Height of its lowest point over the table while upright, metres."""
        return float(self.position[2]) - EXTENT[self.shape].half_height

    @property
    def held(self) -> bool:
        return self.fingers == 2


@dataclass
class History:
    """Which object the robot acted on first in this episode, by three measures; None: none yet."""

    first_touched: str | None = None
    first_grasped: str | None = None
    first_moved: str | None = None
    touched: set[str] = field(default_factory=set)


class StateReader:
    """Reads `ObjectState`s from a compiled scene."""

    def __init__(self, model: mujoco.MjModel, objects: Sequence[SceneObject]) -> None:
        self._objects = tuple(objects)
        self._body = [model.body(o.name).id for o in objects]
        self._dof = [int(model.jnt_dofadr[model.body_jntadr[body]]) for body in self._body]
        # Owner of each geom: index of its object, or one of the codes below.
        self._robot, self._left, self._right, self._table, self._none = -1, -2, -3, -4, -5
        self._owner = np.full(model.ngeom, self._none)
        owner_of_body = {body: index for index, body in enumerate(self._body)}
        for geom in range(model.ngeom):
            body, name = int(model.geom_bodyid[geom]), model.geom(geom).name
            if body in owner_of_body:
                self._owner[geom] = owner_of_body[body]
            elif name in _FINGERS:
                self._owner[geom] = self._left if name == _FINGERS[0] else self._right
            elif name == "hand":
                self._owner[geom] = self._robot
            elif name == "table":
                self._owner[geom] = self._table
        self._start = np.array([[o.x, o.y, EXTENT[o.shape].half_height] for o in objects])

    def start_here(self, data: mujoco.MjData) -> None:
        """Takes where things are now for where they start."""
        self._start = data.xpos[self._body].copy()

    def read(self, data: mujoco.MjData) -> tuple[ObjectState, ...]:
        """State of every object now, in the scene's order."""
        pairs = self.contacts(data)
        states = []
        for index, scene_object in enumerate(self._objects):
            partners = pairs.get(index, set())
            body, dof = self._body[index], self._dof[index]
            rotation = data.xmat[body].reshape(3, 3)
            states.append(
                ObjectState(
                    name=scene_object.name,
                    shape=scene_object.shape,
                    start=self._start[index],
                    position=data.xpos[body].copy(),
                    up=rotation[:, 2].copy(),
                    yaw=float(np.arctan2(rotation[1, 0], rotation[0, 0])),
                    speed=float(np.linalg.norm(data.qvel[dof : dof + 3])),
                    fingers=(self._left in partners) + (self._right in partners),
                    touched=bool(partners & {self._left, self._right, self._robot}),
                    on_table=self._table in partners,
                    supports=frozenset(self._objects[other].name for other in partners if other >= 0),
                )
            )
        return tuple(states)

    def touched(self, data: mujoco.MjData) -> set[str]:
        """Objects that the hand touches now, by name."""
        hand = {self._left, self._right, self._robot}
        return {self._objects[index].name for index, partners in self.contacts(data).items() if partners & hand}

    def contacts(self, data: mujoco.MjData) -> dict[int, set[int]]:
        """Object index -> owners (object indices or codes) it touches now."""
        pairs: dict[int, set[int]] = {}
        for first, second in self._owner[data.contact.geom[: data.ncon]].tolist():
            if first >= 0:
                pairs.setdefault(first, set()).add(second)
            if second >= 0:
                pairs.setdefault(second, set()).add(first)
        return pairs


def is_lifted(state: ObjectState) -> bool:
    """Whether both fingers hold it off the table."""
    return state.held and state.bottom > 0.004


def is_moved(state: ObjectState) -> bool:
    """Whether it is farther than `MOVED` from where it lay."""
    return float(np.linalg.norm(state.position - state.start)) > MOVED


def update_history(history: History, states: Sequence[ObjectState], touched: Collection[str] = ()) -> None:
    """Note the first object touched, grasped (both fingers, off the table) and moved (`MOVED`) by the robot.

    touched: objects that it touched on the way to these states: what slides away is touched for a moment only.
    """
    for state in states:
        if state.touched or state.name in touched:
            history.touched.add(state.name)
            history.first_touched = history.first_touched or state.name
        if is_lifted(state) and history.first_grasped is None:
            history.first_grasped = state.name
        if is_moved(state) and state.name in history.touched and history.first_moved is None:
            history.first_moved = state.name
