"""The expert: what a goal wants, done in a sensible order by a hand that sees where everything is.

Each motion goes by the world as it is at every step. What failed is seen, and tried again.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from .articulation import Part, part_of
from .bddl import Predicate, Problem
from .grasping import Grasp, grasps, lowest
from .hand import CLOSED, OPEN, Acts, Hand, tallest
from .simulation import Simulation

_CLEARANCE_M = 0.03
_ORDER = ("open", "turnon", "turnoff", "in", "on", "close")
_TRIES = 6
_AJAR, _AJAR_M = "ajar", 0.125  # as far as a drawer is opened to put things in: further out it would be in the way
_APART_M = 0.09  # things that share a place
_EDGE = 0.85  # of a door's width, from which on it is its far edge
_PULL_TILT, _PUSH_TILT = 1.45, 0.5  # radians off the vertical: so that palm and forearm keep off a cabinet


class Expert(Hand):
    """Gives the next action each time it is called; rests when it knows nothing more to do."""

    def __init__(self, simulation: Simulation, problem: Problem) -> None:
        super().__init__(simulation, problem)
        self._acts = self._all()

    def __call__(self) -> np.ndarray:
        return next(self._acts).astype(np.float32)

    # ---- what to do ----

    def _all(self) -> Acts:
        for attempt in range(_TRIES):
            for wish in self._wishes():
                if not self._is_done(wish):
                    yield from self._fulfil(wish, attempt)
        while True:
            yield self._action(self.simulation.grip, self.along)

    def _wishes(self) -> list[Predicate]:
        """The goal's, with drawers opened for what goes into them, in the order in which they are fulfilled."""
        first = [
            Predicate(_AJAR, (wish.of[1],))
            for wish in self.problem.goal
            if wish.name == "in" and part_of(self.simulation, wish.of[1]) is not None
            if not self.simulation.holds((wish.name, *wish.of))
        ]
        known = (wish for wish in self.problem.goal if wish.name in _ORDER)
        return first + sorted(known, key=lambda wish: _ORDER.index(wish.name))

    def _is_done(self, wish: Predicate) -> bool:
        if wish.name != _AJAR:
            return self.simulation.holds((wish.name, *wish.of))
        part = part_of(self.simulation, wish.of[0])
        return part is None or self._travel(part) > _AJAR_M

    def _travel(self, part: Part) -> float:
        """How far a drawer is open, metres."""
        return abs(float(self.simulation.data.qpos[part.address]))

    def _fulfil(self, wish: Predicate, attempt: int) -> Acts:
        if wish.name in ("open", _AJAR):
            yield from self._pull(wish)
        elif wish.name == "close":
            yield from self._push(wish.of[0])
        elif wish.name in ("turnon", "turnoff"):
            yield from self._twist(wish)
        elif wish.name in ("in", "on"):
            thing, where = wish.of
            yield from self._pick(thing, attempt)
            if self._holds(thing):
                yield from self._place(thing, where)

    # ---- picking ----

    def _pick(self, thing: str, attempt: int) -> Acts:
        now, own = self.solids.now(), self.solids.of(thing)
        found = grasps(now[own], now[~own], self.along)
        if not found:
            yield from self._rest(5)
            return
        grasp = found[min(attempt * 3, len(found) - 1)]
        yield from self._over(grasp.place, grasp.along)
        yield from self._down(grasp, thing)
        yield from self._grip()
        yield from self._up(0.06)

    def _down(self, grasp: Grasp, thing: str) -> Acts:
        """On to the grasp, which goes where the thing goes."""
        start = self._place_of(thing)
        best, since = np.inf, 0
        for _ in range(60):
            place = grasp.place + self._place_of(thing) - start
            off = place - self.simulation.grip
            level = float(np.hypot(off[0], off[1])) + 0.03 * self._turn_left(grasp.along)
            away = level + abs(off[2])
            if away < 0.006 or (since > 6 and level < 0.012):
                return
            best, since = (away, 0) if away < best - 0.001 else (best, since + 1)
            goal = place + (0, 0, 0.08 * np.clip((level - 0.008) / 0.03, 0, 1))
            yield self._action(goal, grasp.along, OPEN)

    def _holds(self, thing: str) -> bool:
        """Whether the thing is between the fingers, after they rose."""
        own = self.solids.now()[self.solids.of(thing)]
        return bool(np.linalg.norm(own - self.simulation.grip, axis=1).min() < 0.02)

    # ---- placing ----

    def _place(self, thing: str, where: str) -> Acts:
        goal = self._destination(thing, where)
        own, best, since = self.solids.of(thing), np.inf, 0
        for _ in range(120):
            if not self._holds(thing):
                return
            now = self.solids.now()
            off = goal - self._place_of(thing)[:2]
            away = float(np.hypot(*off))
            bottom = now[own, 2].min()
            over = self._highest(now[~own], self._place_of(thing)[:2], goal, now[own]) + _CLEARANCE_M
            grip = self.simulation.grip
            rise = over - bottom
            aside = _from_under(now[own], now[~own])
            if aside.any():
                yield self._action(grip + 0.03 * aside + (0, 0, 0.005), self.along, CLOSED)
                continue
            speed = float(np.clip(1 - max(rise, 0.0) / 0.04, 0, 1))  # up before sideways
            best, since = (away, 0) if away < best - 0.001 or rise > 0.02 else (best, since + 1)
            if away < 0.012 or since > 8:
                break
            yield self._action(np.array((*(grip[:2] + off * speed), grip[2] + rise)), self.along, CLOSED)
        yield from self._lower(thing, goal)
        yield from self._release()

    def _lower(self, thing: str, goal: np.ndarray) -> Acts:
        own, stuck = self.solids.of(thing), 0
        for _ in range(50):
            if not self._holds(thing):
                return
            now, grip = self.solids.now(), self.simulation.grip
            support = self._support(now, own)
            limit = lowest(grip, self.along, now[~own])
            height = max(grip[2] - (now[own, 2].min() - support - 0.003), limit)
            if grip[2] < height + 0.006 or stuck > 4:
                return
            off = goal - self._place_of(thing)[:2]
            fall = max(height - grip[2], -0.035)
            yield self._action(np.array((*(grip[:2] + off), grip[2] + fall)), self.along, CLOSED)
            stuck = stuck + 1 if grip[2] - self.simulation.grip[2] < 0.0008 else 0

    def _release(self) -> Acts:
        place, along = self.simulation.grip, self.along
        for _ in range(7):
            yield self._action(place, along, OPEN)
        yield from self._up(0.10)

    def _destination(self, thing: str, where: str) -> np.ndarray:
        """Where the thing's place must come to lie, metres [2]."""
        if where in self.problem.kinds:
            return self._place_of(where)[:2]
        shared = [wish.of[0] for wish in self.problem.goal if wish.name == "on" and wish.of[1:] == (where,)]
        aside = (shared.index(thing) - (len(shared) - 1) / 2) * _APART_M if thing in shared else 0.0
        return self.simulation.data.site(where).xpos[:2] + (aside, 0.0)

    # ---- drawers and knobs ----

    def _pull(self, wish: Predicate) -> Acts:
        """A drawer by its handle, with a hand that is nearly level."""
        part = part_of(self.simulation, wish.of[0])
        if part is None:
            return
        handle = self._handle(part)
        down, out = np.array((0.0, 0.0, -1.0)), part.outward
        into = -np.sin(_PULL_TILT) * out + np.cos(_PULL_TILT) * down
        closing = np.cos(_PULL_TILT) * out + np.sin(_PULL_TILT) * down
        side = 1 if closing @ self.simulation.grip_axes[:, 0] >= 0 else -1
        pose = np.column_stack([side * closing, np.cross(into, side * closing), into])
        yield from self._through([handle - 0.12 * into + (0, 0, 0.08), handle - 0.07 * into], pose, OPEN)
        yield from self._through([handle], pose, OPEN, 0.004)
        yield from self._grip(pose)
        for _ in range(60):
            if self._is_done(wish):
                break
            slow = np.clip(2.5 - 2.2 * self._travel(part) / _AJAR_M, 0.3, 1) if wish.name == _AJAR else 1.0
            yield self._action(self.simulation.grip + 0.03 * slow * out, pose, CLOSED)
        place = self.simulation.grip
        for _ in range(6):
            yield self._action(place, pose, OPEN)
        yield from self._through([self.simulation.grip - 0.06 * into], pose, OPEN)
        upright = np.column_stack([side * out, np.cross(down, side * out), down])  # back the way the wrist came
        back = np.array((self.simulation.grip[0] - 0.1, self.simulation.grip[1], handle[2] + 0.2))
        yield from self._through([back], upright, OPEN, 0.04)

    def _push(self, name: str) -> Acts:
        """A drawer by its handle, from outside, or a door by its far edge."""
        part = part_of(self.simulation, name)
        if part is None:
            return
        if part.hinge is not None:
            yield from self._swing_shut(name, part, part.hinge)
            return
        out, handle = part.outward, self._handle(part)
        along = np.array((-out[1], out[0], 0.0))
        along *= 1 if along @ self.simulation.grip_axes[:, 0] >= 0 else -1
        into = -np.sin(_PUSH_TILT) * out + np.cos(_PUSH_TILT) * np.array(
            (0.0, 0.0, -1.0)
        )  # keeps the forearm off the cabinet
        pose = np.column_stack([along, np.cross(into, along), into])
        start = handle + 0.07 * out
        yield from self._over(start, along[:2], CLOSED)
        yield from self._through([start], pose, CLOSED)
        for _ in range(80):
            if self.simulation.holds(("close", name)):
                return
            yield self._action(self._line(start, out) - 0.04 * out, pose, CLOSED)

    def _swing_shut(self, name: str, part: Part, hinge: np.ndarray) -> Acts:
        def edge() -> np.ndarray:
            door = self.solids.now()[self.solids.of_body(part.body)]
            away = np.linalg.norm(door[:, :2] - hinge[:2], axis=1)
            return door[away > _EDGE * away.max()].mean(0)

        out = part.opens(edge())
        beside = np.array((-out[1], out[0]))
        yield from self._over(edge() + 0.1 * out, beside, CLOSED)
        yield from self._through([edge() + 0.07 * out], beside, CLOSED)
        for _ in range(120):
            if self.simulation.holds(("close", name)):
                return
            place = edge()
            yield self._action(place - 0.04 * part.opens(place), beside, CLOSED)

    def _twist(self, wish: Predicate) -> Acts:
        """A knob, by its blade."""
        part = part_of(self.simulation, wish.of[0])
        if part is None:
            return
        now, own = self.solids.now(), self.solids.of_body(part.body)
        knob = now[own & (now[:, 2] > now[own, 2].max() - 0.03)]
        grasp = grasps(knob, now[~own], self.along)[0]
        yield from self._over(grasp.place, grasp.along)
        yield from self._through([grasp.place], grasp.along, OPEN)
        yield from self._grip()
        ahead = Rotation.from_rotvec((0, 0, 0.3 if wish.name == "turnon" else -0.3)).as_matrix()[:2, :2]
        for _ in range(40):
            if self.simulation.holds((wish.name, *wish.of)):
                break
            yield self._action(grasp.place, ahead @ self.along, CLOSED)
        yield from self._release()

    def _handle(self, part: Part) -> np.ndarray:
        """The middle of what stands out furthest of a drawer."""
        points = self.solids.now()[self.solids.of_body(part.body)]
        reach = points @ part.outward
        handle = points[reach > reach.max() - 0.015]
        return (handle.max(0) + handle.min(0)) / 2

    def _line(self, start: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The place on the line through `start` in direction `out` that is nearest to the grip."""
        return start + ((self.simulation.grip - start) @ out) * out

    # ---- seeing ----

    def _highest(self, others: np.ndarray, start: np.ndarray, end: np.ndarray, own: np.ndarray) -> float:
        """The top of what stands in the way of a held thing."""
        reach = float(np.ptp(own[:, :2], axis=0).max()) / 2 + 0.01
        return tallest(others, start, end, reach)

    def _support(self, now: np.ndarray, own: np.ndarray) -> float:
        """The height of what is under a thing."""
        mine = now[own]
        bottom = mine[mine[:, 2] < mine[:, 2].min() + 0.02]
        low, high = bottom[:, :2].min(0), bottom[:, :2].max(0)
        inner = (high - low) * 0.15
        under = now[~own]
        under = under[((under[:, :2] > low + inner) & (under[:, :2] < high - inner)).all(1)]
        under = under[under[:, 2] < mine[:, 2].min() + 0.015]
        return float(under[:, 2].max()) if len(under) else -np.inf


def _from_under(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """In which level direction a held thing comes out from under what hangs over it; zeros [3] where nothing does."""
    low, high = own[:, :2].min(0) - 0.012, own[:, :2].max(0) + 0.012
    over = others[((others[:, :2] > low) & (others[:, :2] < high)).all(1) & (others[:, 2] > own[:, 2].max())]
    away = (own[:, :2].mean(0) - over[:, :2].mean(0)) if len(over) else np.zeros(2)
    length = float(np.linalg.norm(away))
    return np.array((*(away / length), 0.0)) if length > 0.01 else np.zeros(3)
