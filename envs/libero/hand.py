"""A hand that is driven over where things stand: its motions, each by the world as it is at every step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from .bddl import Problem
from .geometry import Solids
from .grasping import PALM_M
from .simulation import Simulation

OPEN, CLOSED = -1.0, 1.0
_STEP_M, _STEP_RAD = 0.05, 0.5  # what an action of 1 is
_GAIN = 1.5

Acts = Iterator[np.ndarray]


class Hand:
    """Motions of the hand, as the actions [7] that make them.

    Where a motion takes `along`, the hand points down and its fingers close in that level direction [2]; a `pose`
    may be the hand's axes as columns [3, 3] instead.
    """

    def __init__(self, simulation: Simulation, problem: Problem) -> None:
        self.simulation, self.problem = simulation, problem
        self.solids = Solids(simulation, tuple(problem.kinds))
        self.gripper = OPEN

    def _over(self, place: np.ndarray, along: np.ndarray, gripper: float = OPEN) -> Acts:
        """Through the air to above a place."""
        for _ in range(80):
            grip = self.simulation.grip
            off = place[:2] - grip[:2]
            over = max(place[2] + 0.07, self._path_height(grip[:2], place[:2]))
            away = float(np.hypot(*off))
            if away < 0.025 and self._turn_left(along) < 0.25:
                return
            short = max(over - grip[2], 0.0)
            speed = float(np.clip(1.2 - short / 0.05, 0, 1))
            goal = np.array((*(grip[:2] + off * speed), max(over, min(grip[2], over + 0.05)) if away > 0.08 else over))
            yield self._action(goal, along, gripper)

    def _up(self, height: float) -> Acts:
        goal = self.simulation.grip + (0, 0, height)
        for _ in range(14):
            if self.simulation.grip[2] > goal[2] - 0.015:
                return
            yield self._action(goal + (0, 0, 0.03), self.along, self.gripper)

    def _rest(self, steps: int) -> Acts:
        for _ in range(steps):
            yield self._action(self.simulation.grip, self.along, self.gripper)

    def _action(self, goal: np.ndarray, along: np.ndarray, gripper: float | None = None) -> np.ndarray:
        """Towards a place of the grip, pointing down, with fingers that close in the direction `along` [2]."""
        self.gripper = self.gripper if gripper is None else gripper
        move = _GAIN * (goal - self.simulation.grip) / _STEP_M
        turn = self._turn(along) / _STEP_RAD
        return np.concatenate([np.clip(move, -1, 1), np.clip(turn, -1, 1), [self.gripper]])

    def _turn(self, along: np.ndarray) -> np.ndarray:
        """The rotation that is left to point down with the fingers along, or to a pose [3, 3]; axis times angle [3]."""
        axes = self.simulation.grip_axes
        if along.ndim == 2:
            return Rotation.from_matrix(along @ axes.T).as_rotvec()
        way = along if along @ axes[:2, 0] >= 0 else -along
        wanted = np.column_stack([(*way, 0.0), np.cross((0, 0, -1.0), (*way, 0.0)), (0, 0, -1.0)])
        return Rotation.from_matrix(wanted @ axes.T).as_rotvec()

    def _turn_left(self, along: np.ndarray) -> float:
        return float(np.linalg.norm(self._turn(along)))

    @property
    def along(self) -> np.ndarray:
        """In which direction the fingers close, level and of length 1 [2]."""
        level = self.simulation.grip_axes[:2, 0]
        return level / np.linalg.norm(level)

    def _through(self, places: list[np.ndarray], pose: np.ndarray, gripper: float, near: float = 0.012) -> Acts:
        """From place to place in a straight line each."""
        for place in places:
            best, since = np.inf, 0
            for _ in range(60):
                away = float(np.linalg.norm(place - self.simulation.grip)) + 0.03 * self._turn_left(pose)
                best, since = (away, 0) if away < best - 0.001 else (best, since + 1)
                if away < near + 0.004 or since > 7:
                    break
                yield self._action(place, pose, gripper)

    def _grip(self, pose: np.ndarray | None = None) -> Acts:
        still = 0
        place, along = self.simulation.grip, self.along if pose is None else pose
        for step in range(16):
            before = self.simulation.fingers
            yield self._action(place, along, CLOSED)
            still = still + 1 if np.abs(self.simulation.fingers - before).max() < 5e-4 else 0
            if step > 4 and still > 1:
                return

    def _place_of(self, thing: str) -> np.ndarray:
        body = self.simulation.problem.obj_body_id[thing]
        return self.simulation.data.xpos[body].copy()

    def _path_height(self, start: np.ndarray, end: np.ndarray) -> float:
        """How high the grip must be to carry nothing over whatever stands between."""
        now = self.solids.now()
        return max(tallest(now, start, end, 0.06) + 0.04, tallest(now, start, end, 0.115) - PALM_M + 0.02)


def tallest(points: np.ndarray, start: np.ndarray, end: np.ndarray, reach: float) -> float:
    """The height of the highest of `points` within `reach` of the way from start to end [2]."""
    way = end - start
    share = np.clip((points[:, :2] - start) @ way / max(float(way @ way), 1e-9), 0, 1)
    near = np.hypot(*(points[:, :2] - start - share[:, None] * way).T) < reach
    return float(points[near, 2].max()) if near.any() else -np.inf
