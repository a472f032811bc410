"""Offscreen rendering of the tabletop. Its models have neither meshes nor textures, so one context serves them all."""

from __future__ import annotations

from ..drawing.contexts import context  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco

from ..drawing.renderer import Renderer
from .world import world_xml

SEGMENT_ROBOT = 255

_MOST_GEOMS = 200


class SceneRenderer(Renderer):
    """A `Renderer` of one model of the tabletop: a reset costs no context, only a new list of shapes."""

    def __init__(self, model: mujoco.MjModel) -> None:
        uploaded = context("tabletop", lambda: mujoco.MjModel.from_xml_string(world_xml(())))
        super().__init__(model, uploaded, most_geoms=_MOST_GEOMS)
