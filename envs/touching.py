"""Which thing of a scene a robot takes first, read from contacts: it shows whether a policy heard what it was told."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

_MOVED_M = 0.02  # from where a thing lay, from which on it counts as moved
_LIFTED_M = 0.01


class Touching:
    """The first of the things that the robot touched, grasped and moved, in an episode that begins now.

    Contacts are read after each control step; one that comes and goes within a step is not seen. Only things that lie
    free count: one cannot choose among doors by carrying them.

    Arguments:
        names, bodies: of the things, and the number of the body of each.
        owner_of_geom: uint8 [geoms], i + 1 for thing i, `robot` for the robot.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        names: Sequence[str],
        bodies: Sequence[int],
        owner_of_geom: np.ndarray,
        robot: int,
    ) -> None:
        self.free = [name for name, body in zip(names, bodies, strict=True) if is_free(model, body)]
        self._names, self._bodies = list(names), np.asarray(bodies, int)
        self._owner, self._robot, self._body_of_geom = owner_of_geom.astype(int), robot, model.geom_bodyid
        self._start = data.xpos[self._bodies].copy()
        self._touched: set[str] = set()
        self.first_touched: str | None = None
        self.first_grasped: str | None = None
        self.first_moved: str | None = None

    def update(self, data: mujoco.MjData) -> None:
        """After a control step. Grasped: touched by two bodies of the robot at once, and raised by 1 cm."""
        hands: dict[int, set[int]] = {}
        for pair in data.contact.geom[: data.ncon].tolist():
            for thing, other in (pair, pair[::-1]):
                if self._owner[other] == self._robot and 0 < self._owner[thing] != self._robot:
                    hands.setdefault(int(self._owner[thing]) - 1, set()).add(int(self._body_of_geom[other]))
        way = data.xpos[self._bodies] - self._start
        for number, name in enumerate(self._names):
            if name not in self.free:
                continue
            if number in hands:
                self._touched.add(name)
                self.first_touched = self.first_touched or name
                if len(hands[number]) > 1 and way[number, 2] > _LIFTED_M:
                    self.first_grasped = self.first_grasped or name
            if name in self._touched and np.linalg.norm(way[number]) > _MOVED_M:
                self.first_moved = self.first_moved or name


def is_free(model: mujoco.MjModel, body: int) -> bool:
    """Whether nothing holds the body's tree to the world."""
    joint = model.body_jntadr[model.body_rootid[body]]
    return bool(joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE.value)
