"""A Panda's hand: where it is, and the action that brings it elsewhere, in proportion to what is left of the way."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.spatial.transform import Rotation

from .versions import Simulation

OPEN, CLOSE = -1.0, 1.0
_REACH_M, _REACH_RAD = 0.05, 0.5  # of one action at its limit


class Hand:
    """One arm's hand. Its frame: x from finger to finger, z out of the palm."""

    def __init__(self, simulation: Simulation, arm: int = 0) -> None:
        self._simulation, self._arm, self.data = simulation, arm, simulation.data
        self._site = simulation.grip_site(arm)

    @property
    def position(self) -> np.ndarray:
        """Of the point between the fingertips, metres in the world [3]."""
        return self.data.site_xpos[self._site].copy()

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3], columns are the hand's axes in the world."""
        return self.data.site_xmat[self._site].reshape(3, 3).copy()

    @property
    def gap(self) -> float:
        """Between the fingers, metres."""
        first, second = self._simulation.finger_positions(self._arm)
        return float(first - second)

    def towards(self, position: np.ndarray, rotation: np.ndarray, grip: float, speed: float = 1.0) -> np.ndarray:
        """The action [7] towards a pose. speed: the largest part of the action's limits."""
        way = (position - self.position) / _REACH_M
        turn = turn_to(self.rotation, rotation) / _REACH_RAD
        # Heights are apart, so that a long way does not delay what must be high in time.
        return np.concatenate([_limited(way[:2], speed), _limited(way[2:], speed), _limited(turn, 1.0), [grip]])

    def away(self, rotation: np.ndarray) -> float:
        """Angle to a rotation, radians."""
        return float(np.linalg.norm(turn_to(self.rotation, rotation)))


def downward(across: np.ndarray) -> np.ndarray:
    """The rotation of a hand that looks down and closes along `across`, a direction [3] whose height is ignored."""
    first = np.array((across[0], across[1], 0.0))
    first /= np.linalg.norm(first)
    down = np.array((0.0, 0.0, -1.0))
    return np.stack([first, np.cross(down, first), down], axis=1)


def nearest(directions: Iterable[np.ndarray], current: np.ndarray) -> np.ndarray:
    """Of directions to close along, either way round, the one that turns the hand least from `current`."""
    both = [sign * direction for direction in directions for sign in (1.0, -1.0)]
    return min(both, key=lambda direction: turned(current, direction))


def turned(current: np.ndarray, direction: np.ndarray) -> float:
    """Angle between two directions seen from above, radians."""
    cosine = current[:2] @ direction[:2] / (np.linalg.norm(current[:2]) * np.linalg.norm(direction[:2]))
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))


def turn_to(current: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rotation vector from one rotation [3, 3] to another, about the world's axes, radians [3]."""
    return Rotation.from_matrix(wanted @ current.T).as_rotvec()


def _limited(vector: np.ndarray, limit: float) -> np.ndarray:
    """The vector, shortened so that no part of it exceeds the limit: its direction stays."""
    return vector / max(1.0, float(np.abs(vector).max()) / limit)
