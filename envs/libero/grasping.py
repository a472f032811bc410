"""Where the hand can take a thing: around its narrow side, or by its rim.

The hand points down. Grasps are searched over turns of the hand; each costs what stands in the way of fingers and palm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OPENING_M = 0.08  # between the open finger tips
TIP_M = 0.007  # from the grip down to the finger tips, and a little
PALM_M = 0.031  # from the grip up to the palm
_PALM = (0.105, 0.034)  # half its size along and across the fingers' way
_FINGER = (0.024, 0.012)  # a finger: its thickness, half its breadth
_WIDEST_M = 0.072
_SLICE_M = 0.010
_RIM_DEPTH_M = 0.020
_DEPTH_M = 0.024  # from a thing's top down to the grip
_HOLLOW_M = 0.005  # how far the middle of a hollow thing lies under its rim
_ABOVE_M = 0.25  # how far up the hand's way must be free


@dataclass(frozen=True)
class Grasp:
    """place: of the grip, metres [3]. along: in which direction the fingers close, level and of length 1 [2]. cost: how
    bad it is, where 1 is one point of something in the way."""

    place: np.ndarray
    along: np.ndarray
    cost: float


def grasps(own: np.ndarray, others: np.ndarray, along: np.ndarray) -> list[Grasp]:
    """Grasps of a thing with the points `own` [P, 3] among `others` [Q, 3], the best first.

    along: in which direction the fingers close now [2]; turns away from it cost a little.
    """
    middle = (own.max(0) + own.min(0)) / 2
    near = others[np.abs(others[:, :2] - middle[:2]).max(1) < 0.35]
    found = [grasp for turn in np.linspace(0, np.pi, 18, endpoint=False) for grasp in _around(own, near, turn, along)]
    if not found and not _is_hollow(own):
        found = [grasp for turn in np.linspace(0, np.pi, 18, endpoint=False) for grasp in _part(own, near, turn, along)]
    if _is_hollow(own):
        found += [_rim(own, near, turn, along) for turn in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
    return sorted(found, key=lambda grasp: grasp.cost)


def in_the_way(place: np.ndarray, along: np.ndarray, points: np.ndarray, margin: float = 0.003) -> int:
    """How many of `points` the open hand with its grip at `place` would go through."""
    level = (points[:, :2] - place[:2]) @ np.column_stack([along, (-along[1], along[0])])
    level, height = np.abs(level), points[:, 2] - place[2]
    finger = (
        (level[:, 0] > OPENING_M / 2 - margin)
        & (level[:, 0] < OPENING_M / 2 + _FINGER[0])
        & (level[:, 1] < _FINGER[1] + margin)
        & (height > -TIP_M + margin)
    )
    palm = (level < np.array(_PALM) + margin).all(1) & (height > PALM_M)
    return int(((finger | palm) & (height < _ABOVE_M)).sum())


def lowest(place: np.ndarray, along: np.ndarray, points: np.ndarray) -> float:
    """How low the grip may go at `place` before the palm touches one of `points`, metres."""
    level = np.abs((points[:, :2] - place[:2]) @ np.column_stack([along, (-along[1], along[0])]))
    below = points[(level < _PALM).all(1), 2]
    return float(below.max() - PALM_M + 0.006) if len(below) else -np.inf


def _around(own: np.ndarray, others: np.ndarray, turn: float, along: np.ndarray) -> list[Grasp]:
    """The thing between the fingers, where it is narrow enough."""
    way = np.array((np.cos(turn), np.sin(turn)))
    across = np.array((-way[1], way[0]))
    bottom, top = own[:, 2].min(), own[:, 2].max()
    found = []
    for depth in (_DEPTH_M, 0.038):
        height = max(top - depth, bottom + TIP_M)
        part = own[np.abs(own[:, 2] - height) < _SLICE_M + 0.004]
        if not len(part):
            continue
        reach = part[:, :2] @ way
        width = np.ptp(reach)
        if width > _WIDEST_M:
            continue
        side = part[:, :2] @ across
        place = np.array((*(way * _middle(reach) + across * _middle(side)), height))
        cost = in_the_way(place, way, others) + in_the_way(place, way, own)
        # The narrower the easier, and a thing held over its middle does not turn.
        off = float(np.hypot(*(place[:2] - _centre(own))))
        found.append(Grasp(place, way, cost + 60 * width + 60 * off + 40 * (depth - _DEPTH_M) + _turning(way, along)))
    return found


def _part(own: np.ndarray, others: np.ndarray, turn: float, along: np.ndarray) -> list[Grasp]:
    """Something narrow of a thing that is wide: a knob or a handle."""
    way = np.array((np.cos(turn), np.sin(turn)))
    across = np.array((-way[1], way[0]))
    bottom, top, side = own[:, 2].min(), own[:, 2].max(), own[:, :2] @ across
    found = []
    for depth in (0.010, _DEPTH_M, 0.04, 0.06):
        height = max(top - depth, bottom + TIP_M)
        for middle in np.arange(side.min() + 0.008, side.max(), 0.012):
            part = own[(np.abs(own[:, 2] - height) < 0.008) & (np.abs(side - middle) < 0.014)]
            if len(part) < 4 or np.ptp(part[:, :2] @ way) > _WIDEST_M:
                continue
            place = np.array((*(way * _middle(part[:, :2] @ way) + across * middle), height))
            cost = in_the_way(place, way, others) + in_the_way(place, way, own)
            off = float(np.hypot(*(place[:2] - _centre(own))))
            found.append(Grasp(place, way, cost + 60 * off + 20 * depth + _turning(way, along)))
    return found


def _rim(own: np.ndarray, others: np.ndarray, turn: float, along: np.ndarray) -> Grasp:
    """One finger inside, one outside."""
    way = np.array((np.cos(turn), np.sin(turn)))
    across = np.array((-way[1], way[0]))
    centre, top = _centre(own), own[:, 2].max()
    offset = own[:, :2] - centre
    wall = (np.abs(offset @ across) < 0.012) & (offset @ way > 0) & (own[:, 2] > top - _RIM_DEPTH_M)
    place = np.array((*centre, top))
    if not wall.any():
        return Grasp(place, way, 1e6)
    reach = offset[wall] @ way
    outer = reach.max()
    inner = reach[reach > outer - 0.02].min()
    place = np.array((*(centre + way * (outer + inner) / 2), max(top - _RIM_DEPTH_M, own[:, 2].min() + TIP_M)))
    cost = in_the_way(place, way, others) + in_the_way(place, way, own)
    return Grasp(place, way, cost + 3.0 + _turning(way, along))


def _is_hollow(own: np.ndarray) -> bool:
    """Whether the middle lies lower than the rim."""
    centre = _centre(own)
    inside = own[np.hypot(*(own[:, :2] - centre).T) < 0.015]
    return not len(inside) or inside[:, 2].max() < own[:, 2].max() - _HOLLOW_M


def _turning(way: np.ndarray, along: np.ndarray) -> float:
    """The hand is the same when it is turned by half."""
    return 2.0 * float(np.arccos(np.clip(abs(way @ along), 0, 1)))


def _middle(values: np.ndarray) -> float:
    return float(values.max() + values.min()) / 2


def _centre(own: np.ndarray) -> np.ndarray:
    """Of the upper half, which a handle does not pull aside."""
    return np.median(own[:, :2], axis=0) * 0.5 + (own[:, :2].max(0) + own[:, :2].min(0)) * 0.25
