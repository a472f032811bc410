"""Experts for one arm: plans over the poses of things, which no policy sees."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from .hand import CLOSE, OPEN, Hand, downward
from .moves import Body, Disc, Steps, close, holds, put, reach, take
from .tasks import OBJECTS

if TYPE_CHECKING:
    from .env import RobosuiteEnv

Plan = Callable[["RobosuiteEnv"], Steps]
_ROUND = [np.array((np.cos(angle), np.sin(angle), 0.0)) for angle in np.arange(0, np.pi, np.pi / 12)]


def expert(env: RobosuiteEnv, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Who solves the episode that `env` has just begun; ValueError where nobody does.

    rng: not needed, there is no chance in the plans.
    """
    from .two_arm_expert import PLANS_OF_TWO

    plans, task = PLANS | PLANS_OF_TWO, env.asked.task
    if task not in plans:
        raise ValueError(f"task {task!r}: nobody here demonstrates it; wanted one of {', '.join(plans)}")
    plan = plans[task]

    def forever() -> Steps:
        while True:  # what slipped is taken again
            yield from plan(env)

    steps = forever()
    return lambda: next(steps).clip(-1.0, 1.0)


def _lift(env: RobosuiteEnv) -> Steps:
    hand = Hand(env.simulation)
    cube = Body(hand, "cube_main")
    yield from take(hand, lambda: cube.position, lambda: [*cube.axes[:2]])
    rotation = downward(hand.rotation[:, 0])
    while holds(hand, cube):
        yield hand.towards(hand.position + (0, 0, 0.06), rotation, CLOSE)


_HALF = {"cubeA": 0.02, "cubeB": 0.025}


def _stack(upper: str, lower: str) -> Plan:
    def plan(env: RobosuiteEnv) -> Steps:
        hand = Hand(env.simulation)
        cube, under = Body(hand, f"{upper}_main", _HALF[upper]), Body(hand, f"{lower}_main", _HALF[lower])
        beside = [(under.position, _HALF[lower] * 1.4)]
        yield from take(hand, lambda: cube.position, lambda: [*cube.axes[:2]], beside)
        top = float(under.position[2]) + _HALF[lower]
        height = np.array((0, 0, _HALF[upper] + _HALF[lower]))
        rotation = downward(hand.rotation[:, 0])
        yield from put(hand, cube, lambda: under.position + height, top + 0.03, rotation, drop=0.003)

    return plan


# How far an object's bottom is below its origin, how far above it the fingers close (the palm is little more than 2 cm
# above the fingertips, and must not touch the top), and along which of its axes.
_OBJECTS = {
    "milk": (0.065, 0.06, (0, 1)),
    "bread": (0.024, 0.005, (0, 1)),
    "cereal": (0.075, 0.055, (1,)),
    "can": (0.041, 0.02, ()),
}
_BIN = (-0.09, 0.29), (-0.49, -0.01)  # between the walls around what is to be sorted
_REACH_M = 0.8  # from the arm's base, up to which a hand that looks down is agile


def _bin(name: str) -> Plan:
    low, height, axes = _OBJECTS[name]

    def plan(env: RobosuiteEnv) -> Steps:
        hand = Hand(env.simulation)
        body = Body(hand, f"{name.capitalize()}_main", low)
        target = _within_reach(hand, env.simulation.env.target_bin_placements[OBJECTS.index(name)]) + (0, 0, 0.02 + low)

        def ways() -> list[np.ndarray]:
            return [body.axes[axis] for axis in axes] or _ROUND

        walls = _BIN if name == "bread" else None  # the others are higher than the walls
        for attempt in count():
            others = _neighbours(hand, name)
            highest = max([float(top[2]) for top, _ in others], default=0.0)
            hover = max(0.08, highest + 0.03 - height - float(body.position[2]))
            yield from take(hand, lambda: body.position + (0, 0, height), ways, others, walls, hover, attempt)
            rotation = downward(hand.rotation[:, 0])
            yield from put(hand, body, lambda: target, 0.93, rotation, drop=0.02, near=0.03)

    return plan


def _within_reach(hand: Hand, place: np.ndarray) -> np.ndarray:
    """The place, or the one on the way to it that is."""
    base = hand.data.body("robot0_base").xpos
    way = place - base
    share = min(1.0, _REACH_M / float(np.hypot(*way[:2])))
    return np.array((*(base + share * way)[:2], place[2]))


def _neighbours(hand: Hand, name: str) -> list[Disc]:
    found: list[Disc] = []
    for other in OBJECTS:
        body, (low, _, _) = Body(hand, f"{other.capitalize()}_main"), _OBJECTS[other]
        top = body.position + (0, 0, low)
        if other == name or top[2] > 2:  # the scenes of one object keep the others elsewhere
            continue
        if other == "cereal":
            found += [(top + along * body.axes[0], 0.02) for along in (-0.033, -0.015, 0.0, 0.015, 0.033)]
        else:
            found.append((top, 0.025))
    return found


_WRIST_RAD = 2.0  # how far it can be turned to either side


def _square(env: RobosuiteEnv) -> Steps:
    hand = Hand(env.simulation)
    nut, peg = Body(hand, "SquareNut_main", 0.01), Body(hand, "peg1")
    yield from take(hand, lambda: nut.position + 0.06 * nut.axes[0] + (0, 0, 0.006), lambda: [nut.axes[1]])
    turn = _turn_square(nut.axes[0], hand.rotation[:, 0])
    rotation = turn @ downward(hand.rotation[:, 0])
    place = np.array((*peg.position[:2], 0.83))
    yield from put(hand, nut, lambda: place, 0.975, rotation, drop=0.09, near=0.006, far=0.02)


def _turn_square(side: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The least rotation about the vertical that makes `side` parallel to an axis of the world, but for the one that
    points away from the arm, and that a wrist can do whose hand closes along `across` (along y when it is not turned).
    """
    yaw, wrist = np.arctan2(side[1], side[0]), np.arctan2(-across[0], across[1])
    quarters = [(quarter, quarter * np.pi / 2 - yaw) for quarter in range(-4, 5)]
    possible = [turn for quarter, turn in quarters if quarter % 4 and abs(turn + wrist) < _WRIST_RAD]
    return Rotation.from_rotvec((0, 0, min(possible, key=abs))).as_matrix()


_BAR = np.array((0.11, -0.1, 0.0))  # where the door's handle is held, in its frame
_FREE_RAD = 1.1  # of the handle's turn: the latch is clear of the frame


def _door(env: RobosuiteEnv) -> Steps:
    hand = Hand(env.simulation)
    handle = Body(hand, "Door_latch")
    hinge, latch = hand.data.joint("Door_hinge"), hand.data.joint("Door_latch_joint")

    def bar() -> np.ndarray:
        return handle.position + handle.axes.T @ _BAR

    def held() -> np.ndarray:
        """The rotation of a hand that looks at the door and closes on the bar from above and below."""
        side, panel, up = handle.axes
        return np.stack([-up, -side, panel], axis=1)

    yield from reach(hand, bar, held, OPEN, 0.1)
    yield from close(hand, held())
    for _ in range(200):
        if np.linalg.norm(hand.position - bar()) > 0.06:
            return
        down = np.sign(latch.xaxis @ np.cross(handle.axes[0], (0, 0, -1)))
        turn = Rotation.from_rotvec(0.4 * down * latch.xaxis if latch.qpos[0] * down < 1.3 else (0, 0, 0))
        swing = Rotation.from_rotvec(hinge.xaxis * 0.1 * float(np.clip((latch.qpos[0] * down - _FREE_RAD) / 0.1, 0, 1)))
        goal = latch.xanchor + turn.apply(bar() - latch.xanchor)
        goal = hinge.xanchor + swing.apply(goal - hinge.xanchor)
        yield hand.towards(goal, (swing * turn).as_matrix() @ held(), CLOSE)


_PRESS_M = 0.01  # that the wiper is sent into the table


def _wipe(env: RobosuiteEnv) -> Steps:
    hand, world = Hand(env.simulation), env.simulation.env
    markers = list(world.model.mujoco_arena.markers)
    places = np.array([hand.data.body(marker.root_body).xpos for marker in markers])
    if np.linalg.norm(places[-1] - hand.position) < np.linalg.norm(places[0] - hand.position):
        markers, places = markers[::-1], places[::-1]  # along the line, from its nearer end
    rotation, top = downward(hand.rotation[:, 0]), float(places[0, 2])
    while True:
        left = [place for marker, place in zip(markers, places, strict=True) if marker not in world.wiped_markers]
        goal = left[0] if left else hand.position
        off = float(np.hypot(*(goal - hand.position)[:2]))
        raised = 0.03 if off > 0.15 else -_PRESS_M
        yield hand.towards(np.array((*goal[:2], top + raised)), rotation, OPEN)


PLANS: dict[str, Plan] = {
    "lift": _lift,
    "stack": _stack("cubeA", "cubeB"),
    "stack-red-green": _stack("cubeA", "cubeB"),
    "stack-green-red": _stack("cubeB", "cubeA"),
    **{name: _bin(name) for name in OBJECTS},
    **{f"pick-{name}": _bin(name) for name in OBJECTS},
    "square": _square,
    "door": _door,
    "wipe": _wipe,
}
"""Task -> who solves it."""
