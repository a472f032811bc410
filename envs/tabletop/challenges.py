"""Worlds that differ from training in one way, by five degrees, with the scene's own instruction.

Everything is drawn from the episode's seed, so a policy can be compared with itself in the same world made a little
worse. What differs is seen and felt; what is asked, and what counts as success, stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, pi, sin

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from ..conditions import WORLDS
from .scene import Region
from .world import FRONT_EYE, FRONT_TARGET, TABLE_CENTRE, TABLE_HALF, TABLE_RGB, look_at

LOOKS = ("camera", "light", "texture", "background", "noise")  # kinds that change what is seen alone
CAMERA_SHIFT = (0.02, 0.05, 0.09, 0.14, 0.20)  # metres between the camera's place and its usual one
LIGHT_CHANGE = (0.15, 0.30, 0.45, 0.60, 0.75)  # share by which light is more or less
LIGHT_TINT = (0.05, 0.10, 0.18, 0.26, 0.35)  # share by which each colour of it differs
TILE_BLEND = (0.15, 0.30, 0.50, 0.75, 1.00)  # from the table's colour, 0, to another one, 1
TILES = (6, 8)  # down and across the table
FLOOR_BLEND = (0.20, 0.40, 0.60, 0.80, 1.00)
CLUTTER = (2, 4, 7, 11, 16)  # things on the floor
START_SHIFT = (0.02, 0.04, 0.06, 0.09, 0.12)  # metres between where the hand begins and where it does usually
LAYOUT_MARGIN = (0.01, 0.02, 0.03, 0.04, 0.05)  # metres beyond the usual region, in which the target lies
IMAGE_NOISE = (4.0, 9.0, 16.0, 26.0, 40.0)  # standard deviation, of 255
PROPRIO_NOISE = (0.001, 0.002, 0.004, 0.007, 0.012)  # standard deviation, in each value's unit


@dataclass(frozen=True)
class Challenge:
    """One way in which a world differs.

    Attributes:
        kind: of `envs.conditions.CHALLENGES`.
        level: of severity, from 0, the place in the tables above.
        seed: of everything drawn for it.
    """

    kind: str
    level: int
    seed: tuple[int, ...]

    @classmethod
    def of(cls, condition: str, seed: Sequence[int]) -> Challenge | None:
        """The challenge that a condition is; None where it is none."""
        if condition not in WORLDS:
            return None
        kind, _, severity = condition.rpartition("-")
        return cls(kind, int(severity) - 1, tuple(seed))

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng((*self.seed, purpose))

    # ---- before the world is built ----

    def region(self, usual: Region) -> Region:
        """Where the target may lie: a ring around the usual region, where layout is the challenge."""
        return usual.ring(LAYOUT_MARGIN[self.level]) if self.kind == "layout" else usual

    def bodies(self) -> str:
        """MJCF of what is seen in addition, and touched by nothing."""
        if self.kind == "texture":
            return self._tiles()
        return self._clutter() if self.kind == "background" else ""

    def _tiles(self) -> str:
        rng, share = self._rng(0), TILE_BLEND[self.level]
        (rows, columns), half = TILES, np.divide(TABLE_HALF, TILES)
        tiles = []
        for row, column in product(range(rows), range(columns)):
            x = TABLE_CENTRE[0] - TABLE_HALF[0] + half[0] * (2 * row + 1)
            y = TABLE_CENTRE[1] - TABLE_HALF[1] + half[1] * (2 * column + 1)
            rgb = (1 - share) * np.asarray(TABLE_RGB) + share * rng.uniform(0.15, 0.85, 3)
            # Half a millimetre above the table top, and far below anything that stands on it.
            tiles.append(_box((x, y, -0.0004), (half[0], half[1], 0.0008), rgb))
        return "".join(tiles)

    def _clutter(self) -> str:
        rng, things = self._rng(0), []
        for _ in range(CLUTTER[self.level]):
            angle, away = rng.uniform(0.35 * pi, 1.65 * pi), rng.uniform(0.75, 1.6)  # behind and beside the table
            size = rng.uniform(0.06, 0.22, 3)
            place = (TABLE_CENTRE[0] + away * cos(angle), TABLE_CENTRE[1] + away * sin(angle), size[2] - 0.45)
            things.append(_box(place, size, rng.uniform(0.1, 0.9, 3)))
        return "".join(things)

    # ---- once it is built ----

    def alter(self, model: mujoco.MjModel) -> None:
        """Changes how the world looks."""
        if self.kind == "camera":
            self._move_camera(model)
        elif self.kind == "light":
            self._change_light(model)
        elif self.kind == "background":
            floor, share = model.geom("floor").id, FLOOR_BLEND[self.level]
            other = self._rng(1).uniform(0.1, 0.9, 3)
            model.geom_rgba[floor, :3] = (1 - share) * model.geom_rgba[floor, :3] + share * other

    def _move_camera(self, model: mujoco.MjModel) -> None:
        rng, camera = self._rng(0), model.camera("front").id
        direction = rng.normal(size=3)
        shift = CAMERA_SHIFT[self.level] * direction / np.linalg.norm(direction)
        target = np.asarray(FRONT_TARGET) + 0.2 * CAMERA_SHIFT[self.level] * rng.uniform(-1, 1, 3)
        rotation = look_at(np.asarray(FRONT_EYE) + shift, target, (0, 0, 1))
        model.cam_pos[camera] = np.asarray(FRONT_EYE) + shift
        mujoco.mju_mat2Quat(model.cam_quat[camera], rotation.T.flatten())

    def _change_light(self, model: mujoco.MjModel) -> None:
        rng = self._rng(0)
        factor = 1 + LIGHT_CHANGE[self.level] * (1 if rng.random() < 0.5 else -1)
        colour = factor * (1 + LIGHT_TINT[self.level] * rng.uniform(-1, 1, 3))
        model.vis.headlight.ambient[:] = np.asarray(model.vis.headlight.ambient) * colour
        model.vis.headlight.diffuse[:] = np.asarray(model.vis.headlight.diffuse) * colour
        model.light_diffuse[:] = model.light_diffuse * colour
        direction = model.light_dir[0] + LIGHT_CHANGE[self.level] * rng.uniform(-1, 1, 3) * (1, 1, 0)
        model.light_dir[0] = direction / np.linalg.norm(direction)

    def start(self) -> np.ndarray:
        """By how much the hand begins elsewhere, metres [3]."""
        if self.kind != "start":
            return np.zeros(3)
        angle, length = self._rng(0).uniform(0, 2 * pi), START_SHIFT[self.level]
        return np.array((length * cos(angle), length * sin(angle), 0.3 * length))

    # ---- while it is seen ----

    def see(
        self, images: dict[str, np.ndarray], proprio: np.ndarray, step: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What the cameras and joints say at a step, of what is there: uint8 [H, W, 3] each, and float32 [P]."""
        if self.kind != "noise":
            return images, proprio
        rng, noisy = self._rng(10 + step), {}
        for name, image in images.items():
            noise = rng.normal(0, IMAGE_NOISE[self.level], image.shape)
            noisy[name] = np.clip(image + noise, 0, 255).round().astype(np.uint8)
        return noisy, proprio + rng.normal(0, PROPRIO_NOISE[self.level], proprio.shape).astype(np.float32)


NO_CHALLENGE = Challenge("none", 0, ())
"""A world as in training: of no kind, so that it changes nothing."""


def _box(place: ArrayLike, half: ArrayLike, rgb: ArrayLike) -> str:
    position, size, colour = (" ".join(f"{value:.4f}" for value in np.asarray(values)) for values in (place, half, rgb))
    return f'<geom type="box" pos="{position}" size="{size}" rgba="{colour} 1" contype="0" conaffinity="0"/>'
