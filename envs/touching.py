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
        numbered = enumerate(zip(names, map(int, bodies), strict=True), 1)
        self._free = {number: (name, body) for number, (name, body) in numbered if is_free(model, body)}
        self.free = [name for name, _ in self._free.values()]
        self._owner, self._robot, self._body_of_geom = owner_of_geom, robot, model.geom_bodyid
        self._start = data.xpos.copy()
        self._touched: set[int] = set()
        self.first_touched: str | None = None
        self.first_grasped: str | None = None
        self.first_moved: str | None = None

    def update(self, data: mujoco.MjData) -> None:
        """After a control step. Grasped: touched by two bodies of the robot at once, and raised by 1 cm."""
        hands = self._hands(data)
        for number, (name, body) in self._free.items():
            by = hands.get(number, set())
            if by:
                self._touched.add(number)
                self.first_touched = self.first_touched or name
            elif number not in self._touched:  # it may fall from where it was put, or be pushed by another
                self._start[body] = data.xpos[body]
                continue
            way = data.xpos[body] - self._start[body]
            if len(by) > 1 and way[2] > _LIFTED_M:
                self.first_grasped = self.first_grasped or name
            if np.linalg.norm(way) > _MOVED_M:
                self.first_moved = self.first_moved or name

    def _hands(self, data: mujoco.MjData) -> dict[int, set[int]]:
        """Number of a thing -> bodies of the robot that touch it now."""
        geoms = data.contact.geom[: data.ncon]
        owners, bodies = self._owner[geoms], self._body_of_geom[geoms]
        hands: dict[int, set[int]] = {}
        for thing, other in ((0, 1), (1, 0)):
            held = owners[:, other] == self._robot
            for number, body in zip(owners[held, thing].tolist(), bodies[held, other].tolist(), strict=True):
                hands.setdefault(number, set()).add(body)
        return hands


def is_free(model: mujoco.MjModel, body: int) -> bool:
    """Whether nothing holds the body's tree to the world."""
    joint = model.body_jntadr[model.body_rootid[body]]
    return bool(joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE.value)
