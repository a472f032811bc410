"""Levels of drawing: how a suite looks. A level belongs to the suite's version: training and evaluation share it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """How much of a model is drawn.

    Attributes:
        effects: shadows, reflections and multisampling, as the package's model has them.
        error_px: meshes are simplified as far as 99% of their surface stays within this many pixels of where it was, in
            a picture of the camera's size (`detail.tolerances`); None draws them as they are.
        hulls: convex hulls in place of meshes without textures.
        meaning: in words.
    """

    effects: bool
    error_px: float | None
    hulls: bool
    meaning: str


LEVELS = {
    "package": Level(True, None, False, "as the package draws: shadows, reflections, multisampling, all meshes"),
    "plain": Level(False, None, False, "without shadows, reflections and multisampling"),
    "simple": Level(False, 0.5, False, "plain, with meshes simplified to within half a pixel"),
    "coarse": Level(False, 2.0, False, "plain, with meshes simplified to within two pixels"),
    "hulls": Level(False, 2.0, True, "plain, with convex hulls in place of meshes without textures"),
}
DEFAULT = "simple"


def level_named(name: str) -> Level:
    """The level of that name; an unknown name is a ValueError that lists the known ones."""
    if name not in LEVELS:
        known = "; ".join(f"{known} ({level.meaning})" for known, level in LEVELS.items())
        raise ValueError(f"level: found {name!r}, wanted one of {known}")
    return LEVELS[name]
