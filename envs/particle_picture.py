"""Pictures of the particle: two dimensions as a map, any other number as bands over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PAPER, _BAND, _INK = (250, 250, 247), (238, 238, 233), (40, 42, 48)
_FIRST, _SECOND, _COMMAND = (46, 140, 80), (52, 100, 190), (200, 90, 60)
_FINER = 2  # drawn this much larger and then reduced, for smooth lines
_MARGIN = 0.07  # of the picture, on every side

Point = tuple[float, float]


def draw(
    trail: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    command: np.ndarray | None,
    steps: int,
    radius: float,
    size: int,
) -> np.ndarray:
    """The particle's way so far, uint8 [size, size, 3].

    trail: [T, N] positions, the last is now. first, second, command: [N] the way-points (green, blue) and the commanded
    position (red), None before there is one. steps: control steps that an episode has. radius: within which a way-point
    is reached.
    """
    image = Image.new("RGB", (size * _FINER, size * _FINER), _PAPER)
    if trail.shape[1] == 2:
        _map(image, trail, first, second, command, radius)
    else:
        _bands(image, trail, first, second, command, steps, radius)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def _map(
    image: Image.Image,
    trail: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    command: np.ndarray | None,
    radius: float,
) -> None:
    """The plane, the first dimension to the right and the second upwards; way-points as large as they count."""
    pen, side = ImageDraw.Draw(image), image.width
    font = ImageFont.load_default(side * 0.035)

    def at(point: np.ndarray) -> Point:
        x, y = _MARGIN + (1 - 2 * _MARGIN) * point
        return x * side, (1 - y) * side

    pen.rectangle((*at(np.array([0.0, 1.0])), *at(np.array([1.0, 0.0]))), fill=_BAND)
    for name, goal, colour in (("1", first, _FIRST), ("2", second, _SECOND)):
        pen.circle(at(goal), radius * (1 - 2 * _MARGIN) * side, fill=colour)
        pen.text(at(goal), name, fill=_PAPER, font=font, anchor="mm")
    _way(pen, [at(point) for point in trail], side)
    if command is not None:
        _cross(pen, at(command), side)


def _bands(
    image: Image.Image,
    trail: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    command: np.ndarray | None,
    steps: int,
    radius: float,
) -> None:
    """A band for each dimension, the first on top: time to the right, its value from 0 to 1 upwards.

    A way-point is a stripe as wide as the distance at which it counts.
    """
    pen, side = ImageDraw.Draw(image), image.width
    inner, dims = (1 - 2 * _MARGIN) * side, trail.shape[1]
    pitch = inner / dims
    height = pitch * 0.88
    for axis in range(dims):
        bottom = _MARGIN * side + axis * pitch + height

        def at(step: float, value: float, bottom: float = bottom) -> Point:
            return _MARGIN * side + step / steps * inner, bottom - value * height

        pen.rectangle((*at(0, 1), *at(steps, 0)), fill=_BAND)
        goals = ((float(first[axis]), _FIRST), (float(second[axis]), _SECOND))
        for goal, colour in goals:
            pen.rectangle((*at(0, min(goal + radius, 1.0)), *at(steps, max(goal - radius, 0.0))), fill=_blend(colour))
        for goal, colour in goals:
            pen.line((*at(0, goal), *at(steps, goal)), fill=colour, width=max(1, side // 320))
        mark = min(side, round(pitch * 6))
        _way(pen, [at(step, value) for step, value in enumerate(trail[:, axis])], mark)
        if command is not None:
            _cross(pen, at(len(trail) - 1, command[axis]), mark)


def _blend(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """A quarter of `colour` on a band."""
    red, green, blue = ((own + 3 * under) // 4 for own, under in zip(colour, _BAND, strict=True))
    return red, green, blue


def _way(pen: ImageDraw.ImageDraw, points: Sequence[Point], side: int) -> None:
    if len(points) > 1:
        pen.line(list(points), fill=_INK, width=max(2, side // 200), joint="curve")
    pen.circle(points[-1], max(2.5, side * 0.014), fill=_INK, outline=_PAPER, width=max(1, side // 300))


def _cross(pen: ImageDraw.ImageDraw, centre: Point, side: int) -> None:
    (x, y), arm = centre, max(2.5, side * 0.018)
    for rise in (1, -1):
        pen.line((x - arm, y - rise * arm, x + arm, y + rise * arm), fill=_COMMAND, width=max(2, side // 160))
