"""Experts for two arms: plans of one arm that run beside each other, and what both do together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from .hand import CLOSE, OPEN, Hand, downward, turn_to
from .moves import Body, Steps, release, take

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


def _keep(hand: Hand, grip: float, steps: int) -> Steps:
    """A hand that stays for a number of steps."""
    place, rotation = hand.position, hand.rotation
    for _ in range(steps):
        yield hand.towards(place, rotation, grip)


def _lift(env: RobosuiteEnv) -> Steps:
    hands = [Hand(env.simulation, arm) for arm in (0, 1)]
    pot = Body(hands[0], "pot_root")
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


def _peg(env: RobosuiteEnv) -> Steps:
    """The plate's hole is turned to the peg's arm, the peg to the hole, and the peg comes."""
    peg_hand, plate_hand = (Hand(env.simulation, arm) for arm in (0, 1))
    peg, plate = Body(peg_hand, "peg_main"), Body(plate_hand, "hole_main")
    forward = np.array((0.0, 1.0, 0.0))
    pointing = Rotation.from_rotvec(turn_between(peg.axes[2], forward)).as_matrix() @ peg_hand.rotation
    normal = plate.axes[2]
    facing = Rotation.from_rotvec(turn_between(normal, -forward)).as_matrix() @ plate_hand.rotation
    stand = np.array((0.0, 0.28, 1.15))
    while True:
        hole = plate.position + 0.1 * plate.axes[0]
        off = hole - peg.position
        aside = float(np.hypot(off[0], off[2])) + 0.1 * (peg_hand.away(pointing) + plate_hand.away(facing))
        ahead = 0.22 if aside > 0.06 else 0.05
        goal = peg_hand.position + off - ahead * forward
        yield np.concatenate(
            [peg_hand.towards(goal, pointing, OPEN), plate_hand.towards(stand, facing, OPEN)]
        )


def turn_between(current: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rotation vector that takes one direction to another the shortest way."""
    axis = np.cross(current, wanted)
    size = float(np.linalg.norm(axis))
    return axis / max(size, 1e-9) * np.arctan2(size, float(current @ wanted))


def _handover(env: RobosuiteEnv) -> Steps:
    """The first arm takes the hammer by the neck and holds it across, the second takes the end of the handle."""
    giver, taker = (Hand(env.simulation, arm) for arm in (0, 1))
    hammer = Body(giver, "hammer_root")
    half = float(env.simulation.env.hammer.handle_length) / 2
    handle = hammer.axes[2]
    yield from _beside(take(giver, lambda: hammer.position - 0.3 * half * hammer.axes[2], lambda: [np.cross(_UP, handle)]), iter(()))


PLANS_OF_TWO: dict[str, Callable[[RobosuiteEnv], Steps]] = {
    "two-arm-lift": _lift,
    "two-arm-peg": _peg,
    "two-arm-handover": _handover,
}
"""Task -> who solves it."""
