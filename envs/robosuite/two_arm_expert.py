"""Experts for two arms: plans of one arm that run beside each other, and what both do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from .hand import CLOSE, OPEN, Hand, downward, turned
from .moves import Body, Steps, funnel, release, take

if TYPE_CHECKING:
    from .env import RobosuiteEnv

_UP = np.array((0.0, 0.0, 1.0))


def _beside(first: Steps, second: Steps) -> Steps:
    """Both at once, until both are done: who is done first stays, with the fingers as they are."""
    last: list[np.ndarray | None] = [None, None]
    while True:
        actions = []
        for arm, steps in enumerate((first, second)):
            action = next(steps, None)
            if action is not None:
                last[arm] = action
            actions.append(action)
        if actions[0] is None and actions[1] is None:
            return
        parts = [_still(last[arm]) if action is None else action for arm, action in enumerate(actions)]
        yield np.concatenate(parts)


def _still(last: np.ndarray | None) -> np.ndarray:
    return np.array((*np.zeros(6), OPEN if last is None else last[6]))


def _lift(env: RobosuiteEnv) -> Steps:
    hands = [Hand(env.simulation, arm) for arm in (0, 1)]
    sites = [hands[0].data.site(f"pot_handle{arm}") for arm in (0, 1)]

    def outward() -> list[np.ndarray]:
        return [sites[1].xpos - sites[0].xpos]

    plans = [take(hand, lambda site=site: site.xpos.copy(), outward) for hand, site in zip(hands, sites, strict=True)]
    yield from _beside(plans[0], plans[1])
    rotations = [downward(hand.rotation[:, 0]) for hand in hands]
    for _ in range(60):
        if min(hand.gap for hand in hands) < 0.005:
            return
        height = min(hand.position[2] for hand in hands) + 0.04
        yield np.concatenate(
            [
                hand.towards(np.array((*hand.position[:2], height)), rotation, CLOSE)
                for hand, rotation in zip(hands, rotations, strict=True)
            ]
        )


_ALONG = np.array((0.0, 1.0, -1.0)) / np.sqrt(2)  # which way the peg goes: a wrist cannot point it straight ahead
_STAND = np.array((0.0, 0.28, 1.05))  # of the hand with the plate


def _peg(env: RobosuiteEnv) -> Steps:
    """Both hands lean towards each other, the peg comes before the hole, and goes in."""
    peg_hand, plate_hand = (Hand(env.simulation, arm) for arm in (0, 1))
    peg, plate = Body(peg_hand, "peg_main"), Body(plate_hand, "hole_main")
    pointing = _swung(peg.axes[2], _ALONG) @ peg_hand.rotation
    level = np.array((0.0, -1.0, 0.0))  # by way of it, so that the plate stays upright
    facing = _swung(level, -_ALONG) @ _swung(plate.axes[2], level) @ plate_hand.rotation
    while True:
        hole = plate.position + 0.1 * plate.axes[0]
        way = hole - peg.position
        aside = float(np.linalg.norm(way - (way @ _ALONG) * _ALONG))
        aside += 0.1 * (peg_hand.away(pointing) + plate_hand.away(facing))
        ahead = funnel(aside, 0.05, 0.22, 0.02, 0.06)
        goal = peg_hand.position + way - ahead * _ALONG
        yield np.concatenate([peg_hand.towards(goal, pointing, OPEN), plate_hand.towards(_STAND, facing, OPEN)])


def _swung(current: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] that takes one direction to another the shortest way."""
    axis = np.cross(current, wanted)
    size = float(np.linalg.norm(axis))
    return Rotation.from_rotvec(axis / max(size, 1e-9) * np.arctan2(size, float(current @ wanted))).as_matrix()


_MEET = np.array((0.0, 0.0, 1.0))  # where the middle of the hammer's handle is passed


def _handover(env: RobosuiteEnv) -> Steps:
    """The first arm takes the hammer near its head and turns the handle's end to the second, which takes that."""
    giver, taker = (Hand(env.simulation, arm) for arm in (0, 1))
    hammer = Body(giver, "hammer_root")
    half = float(env.simulation.env.hammer.handle_length) / 2

    def handle(share: float) -> np.ndarray:
        """A point of the handle, from its middle (0) to the end without the head (1)."""
        return hammer.position - share * half * hammer.axes[2]

    def ways() -> list[np.ndarray]:
        return [np.cross(_UP, hammer.axes[2])]

    waits = taker.position + (0, 0.0, 0.05)
    wait_so = downward(taker.rotation[:, 0])
    # The handle is taken the way round in which the hand, once it has turned it, is as at rest: half a turn on, elbow
    # and wrist are wound up.
    rest, (way,), turn = giver.rotation[:, 0], ways(), _level_turn(-hammer.axes[2])
    preferred = min(way, -way, key=lambda taken: turned(rest, turn @ taken))
    for action in take(giver, lambda: handle(-0.4), ways, preferred=preferred):
        yield np.concatenate([action, taker.towards(waits, wait_so, OPEN)])
    across = _facing(giver, -hammer.axes[2])
    for _ in range(120):
        if giver.gap < 0.01:
            return
        if np.linalg.norm(_MEET - hammer.position) < 0.02 and giver.away(across) < 0.1:
            break
        rise = float(np.clip((hammer.position[2] - 0.86) / 0.05, 0.0, 1.0))
        goal = giver.position + (_MEET - hammer.position) * (rise, rise, 1.0)
        turn = across if rise > 0 else giver.rotation
        yield np.concatenate([giver.towards(goal, turn, CLOSE), taker.towards(waits, wait_so, OPEN)])
    stay = giver.position
    for action in take(taker, lambda: handle(0.75), ways):
        yield np.concatenate([giver.towards(stay, across, CLOSE), action])
    taken, so = taker.position, taker.rotation
    for action in release(giver, across):
        yield np.concatenate([action, taker.towards(taken, so, CLOSE)])


def _facing(hand: Hand, way: np.ndarray) -> np.ndarray:
    """The rotation of a hand that holds a thing, in which the thing's `way` points along y."""
    return _level_turn(way) @ downward(hand.rotation[:, 0])


def _level_turn(way: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] about the vertical that takes a direction to y, seen from above."""
    return Rotation.from_rotvec((0, 0, np.arctan2(1.0, 0.0) - np.arctan2(way[1], way[0]))).as_matrix()


PLANS_OF_TWO: dict[str, Callable[[RobosuiteEnv], Steps]] = {
    "two-arm-lift": _lift,
    "two-arm-peg": _peg,
    "two-arm-handover": _handover,
}
"""Task -> who solves it."""
