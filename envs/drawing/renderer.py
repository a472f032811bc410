"""Pictures of one model's cameras, and of what each pixel shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .contexts import LARGEST, assets_key, context, draw_here  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco
import numpy as np

from .detail import drawn_model
from .level import Level

_MOST_GEOMS = 2000
_EFFECTS = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE)


class Renderer:
    """Draws one model's named cameras to uint8 RGB images [H, W, 3], upright, row 0 at the top.

    Arguments:
        model: what is drawn, with a context that holds its meshes and textures.
        effects: shadows, reflections and haze.
        groups: geom groups that are drawn; None draws MuJoCo's usual ones (0 to 2).
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        uploaded: mujoco.MjrContext,
        effects: bool = False,
        groups: Sequence[int] | None = None,
        most_geoms: int = _MOST_GEOMS,
    ) -> None:
        self._model, self._context = model, uploaded
        self._scene = mujoco.MjvScene(model, most_geoms)
        if not effects:
            for flag in _EFFECTS:
                self._scene.flags[flag] = False
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        if groups is not None:
            self._option.geomgroup[:] = [group in groups for group in range(len(self._option.geomgroup))]
        self._views = {model.camera(index).name: _view(index) for index in range(model.ncam)}

    def rgb(self, data: mujoco.MjData, camera: str, height: int, width: int) -> np.ndarray:
        """What `camera` sees now, uint8 [height, width, 3]."""
        return self.pictures(data, (camera,), height, width)[camera]

    def pictures(
        self, data: mujoco.MjData, cameras: Sequence[str], height: int, width: int
    ) -> Mapping[str, np.ndarray]:
        """What several cameras see now, each uint8 [height, width, 3]: side by side in one buffer, read once."""
        draw_here()
        # Another model's context may have drawn last, and each has a buffer of its own.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        for place, name in enumerate(cameras):
            every = mujoco.mjtCatBit.mjCAT_ALL.value
            mujoco.mjv_updateScene(
                self._model, data, self._option, self._perturb, self._views[name], every, self._scene
            )
            mujoco.mjr_render(mujoco.MjrRect(place * width, 0, width, height), self._scene, self._context)
        pixels = np.empty((height, width * len(cameras), 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, mujoco.MjrRect(0, 0, pixels.shape[1], height), self._context)
        return {
            name: np.ascontiguousarray(pixels[::-1, place * width : (place + 1) * width])
            for place, name in enumerate(cameras)
        }

    def segmentation(
        self, data: mujoco.MjData, camera: str, height: int, width: int, value_of_geom: np.ndarray
    ) -> np.ndarray:
        """uint8 [height, width]: `value_of_geom[geom id]` of the geom that each pixel shows, 0 where there is none."""
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        try:
            pixels = self.rgb(data, camera, height, width).astype(np.int32)
        finally:
            flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        segment = pixels[..., 0] + (pixels[..., 1] << 8) + (pixels[..., 2] << 16)  # segid + 1, 0 for background
        values = np.zeros(self._scene.ngeom + 1, np.uint8)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                values[geom.segid + 1] = value_of_geom[geom.objid]
        return values[segment]


def level_renderer(
    model: mujoco.MjModel, level: Level, allowed: Mapping[int, float], groups: Sequence[int] | None = None
) -> Renderer:
    """A renderer of a foreign model at one level; allowed: `tolerances` of its meshes.

    What it draws depends on nothing else: models that share a context share their meshes and tolerances.
    """

    def assets() -> mujoco.MjModel:
        drawn = drawn_model(model, level, allowed)
        if not level.effects:
            drawn.vis.quality.offsamples = drawn.vis.quality.shadowsize = 0
        drawn.vis.global_.offwidth = drawn.vis.global_.offheight = LARGEST
        return drawn

    uploaded = context(f"{assets_key(model)} {level} {sorted(allowed.items())}", assets)
    return Renderer(model, uploaded, level.effects, groups)


def _view(index: int) -> mujoco.MjvCamera:
    view = mujoco.MjvCamera()
    view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, index
    return view
