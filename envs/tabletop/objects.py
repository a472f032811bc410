"""What lies on the table: coloured shapes, a plate and a bowl. Sizes in metres, masses in kilograms."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, tan

RGB = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.95, 0.87, 0.10),
    "purple": (0.52, 0.12, 0.66),
    "orange": (0.97, 0.48, 0.06),
}
PLATE_RGB = (0.96, 0.96, 0.96)
BOWL_RGB = (0.42, 0.50, 0.54)

CUBE_HALF = 0.022
CYLINDER_RADIUS, CYLINDER_HALF = 0.021, 0.029
BALL_RADIUS = 0.024
PLATE_RADIUS, PLATE_HALF = 0.068, 0.005
BOWL_RADIUS, BOWL_HEIGHT, BOWL_BASE_HALF = 0.064, 0.034, 0.004
_BOWL_SIDES = 8


@dataclass(frozen=True)
class Shape:
    """Extent of a shape standing on the table: half its height, and the radius of its footprint (metres)."""

    half_height: float
    radius: float


EXTENT = {
    "cube": Shape(CUBE_HALF, CUBE_HALF * 2**0.5),
    "cylinder": Shape(CYLINDER_HALF, CYLINDER_RADIUS),
    "ball": Shape(BALL_RADIUS, BALL_RADIUS),
    "plate": Shape(PLATE_HALF, PLATE_RADIUS),
    "bowl": Shape(BOWL_BASE_HALF, BOWL_RADIUS),
}


def object_body(name: str, shape: str, colour: str | None, x: float, y: float, yaw: float) -> str:
    """MJCF of one free object at rest on the table plane z = 0; `yaw` in radians."""
    height = EXTENT[shape].half_height
    quaternion = f"{cos(yaw / 2)} 0 0 {sin(yaw / 2)}"
    return (
        f'<body name="{name}" pos="{x} {y} {height}" quat="{quaternion}"><freejoint name="{name}"/>'
        f"{_geoms(name, shape, colour)}</body>"
    )


def _rgba(rgb: tuple[float, float, float]) -> str:
    return f'rgba="{rgb[0]} {rgb[1]} {rgb[2]} 1"'


def _geoms(name: str, shape: str, colour: str | None) -> str:
    paint = _rgba(RGB[colour]) if colour is not None else ""
    if shape == "cube":
        return f'<geom class="object" type="box" size="{CUBE_HALF} {CUBE_HALF} {CUBE_HALF}" mass="0.06" {paint}/>'
    # condim 6: without rolling friction a ball, or a cylinder on its side, would never come to rest.
    if shape == "cylinder":
        size = f"{CYLINDER_RADIUS} {CYLINDER_HALF}"
        return f'<geom class="object" type="cylinder" size="{size}" condim="6" mass="0.06" {paint}/>'
    if shape == "ball":
        return f'<geom class="object" type="sphere" size="{BALL_RADIUS}" condim="6" mass="0.05" {paint}/>'
    if shape == "plate":
        return (
            f'<geom class="object" type="cylinder" size="{PLATE_RADIUS} {PLATE_HALF}" mass="0.4" {_rgba(PLATE_RGB)}/>'
        )
    if shape == "bowl":
        return _bowl()
    raise ValueError(f"object {name!r}: unknown shape {shape!r}; known: {', '.join(EXTENT)}")


def _bowl() -> str:
    """A flat base and a ring of upright boxes: hollow, so that things can really lie in it.

    The walls end a little above the table: with all eight of them on it, forty redundant contacts upset the solver.
    """
    wall, lifted = 0.003, 0.002
    half_side = BOWL_RADIUS * tan(pi / _BOWL_SIDES)
    sides = "".join(
        f'<geom class="object" type="box" size="{wall} {half_side} {BOWL_HEIGHT / 2 - lifted}" '
        f'mass="0.03" {_rgba(BOWL_RGB)} '
        f'pos="{(BOWL_RADIUS - wall) * cos(angle)} {(BOWL_RADIUS - wall) * sin(angle)} '
        f'{BOWL_HEIGHT / 2 - BOWL_BASE_HALF}" '
        f'quat="{cos(angle / 2)} 0 0 {sin(angle / 2)}"/>'
        for angle in (2 * pi * side / _BOWL_SIDES for side in range(_BOWL_SIDES))
    )
    base = f'<geom class="object" type="cylinder" size="{BOWL_RADIUS - wall} {BOWL_BASE_HALF}" '
    base += f'mass="0.2" {_rgba(BOWL_RGB)}/>'
    return base + sides
