"""What hands do, step by step: taking a thing, putting it elsewhere, letting go. Each is a generator of actions [7]."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .hand import CLOSE, OPEN, Hand, downward, nearest, turned

Steps = Iterator[np.ndarray]
Place = Callable[[], np.ndarray]  # where something is now, metres in the world [3]
Disc = tuple[np.ndarray, float]  # something that stands in the way: the middle of its top, and its radius, metres
Walls = tuple[tuple[float, float], tuple[float, float]]  # between which a palm must be: limits of x and of y, metres

_NEAR, _FAR = 0.008, 0.05  # metres off the vertical within which a hand is down, and from which on it is up
_LEVER = 0.05  # metres that a radian of turn counts for
_FINGER_M = 0.05, 0.012  # of an open finger: from the middle, and its radius
_PALM_M = 0.105, 0.032, 0.02  # half its width, half its depth, and how far above the fingertips it begins
_STUCK = 20  # steps without coming nearer
_CLEAR_M = 0.02  # beside a finger or the palm: more is not better


class Body:
    """A thing of the scene. low: how far its bottom is below its origin, metres."""

    def __init__(self, hand: Hand, name: str, low: float = 0.0) -> None:
        self._view, self.low = hand.data.body(name), low

    @property
    def position(self) -> np.ndarray:
        return self._view.xpos.copy()

    @property
    def axes(self) -> np.ndarray:
        """[3, 3]: rows are its axes in the world."""
        return self._view.xmat.reshape(3, 3).T.copy()


def take(
    hand: Hand,
    grasp: Place,
    ways: Callable[[], Sequence[np.ndarray]],
    others: Sequence[Disc] = (),
    walls: Walls | None = None,
    hover: float = 0.08,
    attempt: int = 0,
    preferred: np.ndarray | None = None,
) -> Steps:
    """Over the place to grasp, down, and close.

    grasp: where the fingertips close. ways: directions along which they may. others, walls: what stands beside it.
    hover: how high above it the hand comes. attempt: how often it was tried before: then along the next best way.
    preferred: a direction near to which they would rather close; None is the present one.
    """
    current = hand.rotation[:, 0] if preferred is None else preferred
    chosen = _clearest(ways(), grasp(), current, others, walls, attempt)
    yield from reach(hand, grasp, lambda: downward(nearest(ways(), chosen)), OPEN, hover)
    yield from close(hand, downward(nearest(ways(), chosen)))


def reach(hand: Hand, place: Place, rotation: Callable[[], np.ndarray], grip: float, hover: float = 0.08) -> Steps:
    """Before a place, in the direction of the palm, and straight to it, unless something is in the way."""
    nearest_yet, since = np.inf, 0
    for _ in range(100):
        goal, turned_so = place(), rotation()
        back = -turned_so[:, 2]
        way = goal - hand.position
        along = float(way @ back)
        away = float(np.linalg.norm(way - along * back)) + _LEVER * hand.away(turned_so)
        if (away < _NEAR + 0.004 and abs(along) < 0.008) or since > _STUCK:
            return
        left = away + abs(along)
        nearest_yet, since = (left, 0) if left < nearest_yet - 0.001 else (nearest_yet, since + 1)
        yield hand.towards(goal + funnel(away, 0.0, hover) * back, turned_so, grip)


def close(hand: Hand, rotation: np.ndarray) -> Steps:
    """The fingers close where they are, until they hold something or meet."""
    place, gap = hand.position, np.inf
    for step in range(12):
        if step > 3 and gap - hand.gap < 0.0005:
            return
        gap = hand.gap
        yield hand.towards(place, rotation, CLOSE)


def put(
    hand: Hand,
    body: Body,
    place: Place,
    carry: float,
    rotation: np.ndarray,
    drop: float = 0.01,
    near: float = 0.01,
    far: float = _FAR,
) -> Steps:
    """Up, over the place, down, and open, as long as the thing is held.

    place: where its origin goes. carry: height of its bottom on the way, metres in the world. rotation: of the hand
    there. drop: how far above the place it is let go. near: how far beside it, turns counted as by the lever;
    from `far` on it is carried high.
    """
    for _ in range(150):
        if not holds(hand, body):
            return
        way = place() - body.position
        off = float(np.hypot(*way[:2])) + _LEVER * hand.away(rotation)
        if off < near and -way[2] < drop + 0.004:
            break
        bottom, ground = body.position[2] - body.low, place()[2] - body.low + drop - 0.003
        # Sideways no sooner than it is high enough.
        free = float(np.clip(1 - (carry - 0.015 - bottom) / 0.05, 0.0, 1.0)) if off > far else 1.0
        rise = funnel(off, ground, carry, near, far) - bottom
        yield hand.towards(hand.position + (*(free * way[:2]), rise), rotation, CLOSE)
    yield from release(hand, hand.rotation)


def release(hand: Hand, rotation: np.ndarray, rise: float = 0.1) -> Steps:
    """The fingers open, and the hand leaves upwards."""
    place = hand.position
    for step in range(20):
        yield hand.towards(place + (0, 0, rise if step > 3 else 0.0), rotation, OPEN)


def holds(hand: Hand, body: Body) -> bool:
    """Whether it is between fingers that are not quite closed."""
    return hand.gap > 0.01 and float(np.linalg.norm(hand.position - body.position)) < 0.1


def funnel(away: float, low: float, high: float, near: float = _NEAR, far: float = _FAR) -> float:
    """A height that falls from `high` to `low` as the hand comes nearer to the vertical."""
    return low + (high - low) * float(np.clip((away - near) / (far - near), 0.0, 1.0))


def _clearest(
    ways: Sequence[np.ndarray],
    place: np.ndarray,
    current: np.ndarray,
    others: Sequence[Disc],
    walls: Walls | None,
    attempt: int,
) -> np.ndarray:
    """The way to close that leaves fingers and palm room, and of those the one that turns the hand least; the next best
    one with each attempt."""

    finger, finger_radius = _FINGER_M
    palm, palm_radius, above = _PALM_M

    def worth(way: np.ndarray) -> float:
        way = nearest([way], current)
        room = _CLEAR_M
        for top, radius in others:
            sides = [(side, finger_radius) for side in (-finger, finger)]
            if top[2] > place[2] + above:
                sides += [(share * (palm - palm_radius), palm_radius) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]
            for side, thick in sides:
                room = min(room, float(np.hypot(*(place + side * way - top)[:2])) - radius - thick)
        for axis, (low, high) in enumerate(walls or ()):
            half = palm * abs(way[axis])
            room = min(room, place[axis] - half - low, high - half - place[axis])
        return room - 0.005 * turned(current, way)

    return nearest([sorted(ways, key=worth, reverse=True)[attempt % len(ways)]], current)
