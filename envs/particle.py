"""`deixis/Particle-v0`: the particle in N dimensions of implicit behavioural cloning (Florence et al. 2021).

Taken from the paper (arXiv:2109.00137) and its public environment (google-research/ibc, environments/particle): a point
starts at rest; start and two way-points are uniform in the unit cube. An action is a commanded position, which a
controller (`KP`, `KD`) follows for `REPEATS` explicit Euler steps of `DT`: 20 actions a second, 50 an episode. The
observation is position, velocity and both way-points. After each action, not before the first, the distances to the
way-points are measured: an episode is a success if the first was ever nearer than `RADIUS` and the second is so at the
end. Where the published one lets an action leave the cube, this one cuts it off at the cube's sides.

The observation does not say which way-point is next. The published expert (`particle_demonstrations.py`) goes on to the
second once it has been very near the first. On its first leg, begun at rest, the velocity lies on the line to the first
way-point, and on the second it hardly ever does: in two dimensions and more, position and velocity tell the leg, though
shortly before and after the turn only just. In one dimension they sometimes do not, as where the particle swings back
past the first way-point. A policy that has passed the first farther off than any demonstration is on its own. The
published task is ambiguous in the same ways, and gives its policies two observations as well.
"""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from ..datasets.spec import ActionSpec, EnvSpec, ProprioSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

ENV_ID = "deixis/Particle-v0"
TASK = "reach"
INSTRUCTION = "go to the first way-point, then to the second, and stay there"
KP, KD = 10.0, 5.0  # 1/s^2 per unit of distance, 1/s
DT, REPEATS = 0.005, 10  # seconds; Euler steps an action
RATE_HZ = 1.0 / (DT * REPEATS)
STEPS = 50
RADIUS = 0.05
_PARTS = {"position": "1", "velocity": "1/s", "first": "1", "second": "1"}  # of the observation, with their units
_LARGEST = 1024
# Distance from the command and velocity: after one Euler step, and after those of one action.
_EULER = np.array([[1.0, DT], [-KP * DT, 1.0 - KD * DT]])
_ACTION = np.linalg.matrix_power(_EULER, REPEATS).tolist()


def particle_spec(dim: int) -> EnvSpec:
    """What a policy must know of the particle in `dim` dimensions: 4 `dim` numbers in, `dim` numbers out."""
    names = tuple(f"{part}_{axis}" for part in _PARTS for axis in range(dim))
    units = tuple(unit for unit in _PARTS.values() for _ in range(dim))
    commands = tuple(f"command_{axis}" for axis in range(dim))
    action = ActionSpec(commands, ("1",) * dim, (0.0,) * dim, (1.0,) * dim, RATE_HZ)
    return EnvSpec(ENV_ID, (), ProprioSpec(names, units, RATE_HZ), action)


class ParticleEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Go to the first way-point, then to the second, and be there when the time is up.

    Observation: `proprio` float32 [4 dim], position, velocity, first and second way-point (`env_spec.proprio`), in
    sides of the unit cube and sides a second, 20 times a second; `instruction`; no camera. Action: float32 [dim], the
    commanded position in [0, 1]. Reward 1 for a success, else 0. An episode lasts 50 steps: it terminates with a
    success or is truncated without one. info: success (at the end only), predicates (what is reached, and how near) and
    what the results table wants.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(RATE_HZ)}

    def __init__(self, dim: int = 2, render_mode: str | None = None, render_size: int = 320) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= _LARGEST:
            raise ValueError(f"dim: found {dim!r}, wanted 1 to {_LARGEST} dimensions")
        self.dim, self.render_mode, self._render_size = dim, render_mode, render_size
        self.env_spec = particle_spec(dim)
        # Commands within the cube cannot drive it farther or faster: its controller overshoots by less than 2%.
        low = np.repeat(np.array([-0.25, -2.5, 0.0, 0.0], np.float32), dim)
        high = np.repeat(np.array([1.25, 2.5, 1.0, 1.0], np.float32), dim)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "proprio": gymnasium.spaces.Box(low, high, dtype=np.float32),
                "instruction": gymnasium.spaces.Text(200, charset=string.ascii_letters + " ,-"),
            }
        )
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (dim,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """options: task ("reach") and condition ("correct"): there is one of each."""
        super().reset(seed=seed)
        only = {"task": TASK, "condition": "correct"}
        for name, found in (options or {}).items():
            if name not in only:
                raise ValueError(f"reset option {name!r} is unknown; known: {', '.join(only)}")
            if found != only[name]:
                raise ValueError(f"reset option {name!r}: found {found!r}, wanted {only[name]!r}: there is no other")
        self.position, self.first, self.second = self.np_random.random((3, self.dim))
        self.velocity = np.zeros(self.dim)
        self._seen = np.zeros(4 * self.dim, np.float32)
        self._seen[2 * self.dim :] = np.concatenate([self.first, self.second])
        self._steps, self._closest_to_first = 0, math.inf
        self._trail: list[np.ndarray] = [self.position]
        self._command: np.ndarray | None = None
        return self._observe(), self._info(math.inf)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        command = self._command = self._checked(action)
        away, speed = self.position - command, self.velocity
        self.position = command + _ACTION[0][0] * away + _ACTION[0][1] * speed
        self.velocity = _ACTION[1][0] * away + _ACTION[1][1] * speed
        self._steps += 1
        self._trail.append(self.position)
        self._closest_to_first = min(self._closest_to_first, _distance(self.position, self.first))
        info = self._info(_distance(self.position, self.second))
        over, success = self._steps >= STEPS, info["success"]
        return self._observe(), float(success), success, over and not success, info

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]  (Gymnasium's union of frame types)
        """Way-points, the way so far, the particle and its command: uint8 [render_size, render_size, 3]."""
        from .particle_picture import draw

        return draw(np.stack(self._trail), self.first, self.second, self._command, STEPS, RADIUS, self._render_size)

    def _observe(self) -> dict[str, Any]:
        seen = self._seen.copy()
        seen[: self.dim], seen[self.dim : 2 * self.dim] = self.position, self.velocity
        return {"proprio": seen, "instruction": INSTRUCTION}

    def _info(self, to_second: float) -> dict[str, Any]:
        reached, at_second = self._closest_to_first < RADIUS, to_second < RADIUS
        predicates: dict[str, Any] = {"reached_first": reached, "at_second": at_second}
        if self._steps:
            predicates |= {"closest_to_first": self._closest_to_first, "distance_to_second": to_second}
        return {
            "success": self._steps >= STEPS and reached and at_second,
            "predicates": predicates,
            "instruction": INSTRUCTION,
        }

    def _checked(self, action: np.ndarray) -> np.ndarray:
        command = np.asarray(action, np.float64)
        if command.shape != (self.dim,) or not np.isfinite(command).all():
            raise ValueError(f"action: found {action!r}, wanted {self.dim} finite numbers: the commanded position")
        return np.minimum(np.maximum(command, 0.0), 1.0)


def _distance(here: np.ndarray, there: np.ndarray) -> float:
    away = here - there
    return math.sqrt(away @ away)
