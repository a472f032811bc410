"""Offscreen rendering of cameras and of what each pixel shows.

One OpenGL context serves every scene of a thread: models without meshes or textures share it, so a reset costs no
context, only a new list of shapes. A context belongs to its thread, so an environment draws in the one that reset it.
"""

from __future__ import annotations

import atexit
import threading

from ..rendering_backend import RenderingError, select_backend

_BACKEND = select_backend()  # before mujoco is imported

import mujoco  # noqa: E402  (MUJOCO_GL must be set before mujoco is imported)
import numpy as np  # noqa: E402

SEGMENT_ROBOT = 255

_MAX_GEOMS = 200


class _SharedContext:
    """A thread's one OpenGL context, made at first use from the object-free world."""

    def __init__(self) -> None:
        from .world import world_xml

        self.gl = mujoco.GLContext(1280, 1280)
        self.gl.make_current()
        model = mujoco.MjModel.from_xml_string(world_xml(()))
        try:
            self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except mujoco.FatalError as error:
            raise RenderingError(
                f"MuJoCo cannot draw: {error}. It was imported before MUJOCO_GL was chosen; import "
                f"deixis.envs.tabletop.env before "
                f"mujoco, or set MUJOCO_GL={_BACKEND} before Python starts"
            ) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.context)


_of_thread = threading.local()
_making = threading.Lock()  # MuJoCo opens the display and looks up OpenGL's functions for the whole process


def _context() -> mujoco.MjrContext:
    if not hasattr(_of_thread, "shared"):
        with _making:
            _of_thread.shared = _SharedContext()
            # Of the main thread, at exit: before the display is closed, which MuJoCo registered just now.
            atexit.register(lambda: vars(_of_thread).clear())
    return _of_thread.shared.context


class SceneRenderer:
    """Renders one model's named cameras to uint8 RGB images [H, W, 3], upright, row 0 at the top."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._context = _context()
        self._model = model
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE):
            self._scene.flags[flag] = False
        self._option = mujoco.MjvOption()
        self._perturb = mujoco.MjvPerturb()
        self._cameras = {}
        for index in range(model.ncam):
            camera = mujoco.MjvCamera()
            camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = index
            self._cameras[model.camera(index).name] = camera

    def rgb(self, data: mujoco.MjData, camera: str, height: int, width: int) -> np.ndarray:
        """What `camera` sees now, uint8 [height, width, 3]."""
        self._update(data, camera)
        return self._render(height, width)

    def segmentation(
        self, data: mujoco.MjData, camera: str, height: int, width: int, value_of_geom: np.ndarray
    ) -> np.ndarray:
        """uint8 [height, width]: `value_of_geom[geom id]` of the geom that each pixel shows, 0 where there is none."""
        self._update(data, camera)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = True
        self._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        try:
            pixels = self._render(height, width).astype(np.int32)
        finally:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = False
            self._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        segment = pixels[..., 0] + (pixels[..., 1] << 8) + (pixels[..., 2] << 16)  # segid + 1, 0 for background
        values = np.zeros(self._scene.ngeom + 1, np.uint8)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                values[geom.segid + 1] = value_of_geom[geom.objid]
        return values[segment]

    def _update(self, data: mujoco.MjData, camera: str) -> None:
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            self._perturb,
            self._cameras[camera],
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )

    def _render(self, height: int, width: int) -> np.ndarray:
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return np.ascontiguousarray(pixels[::-1])
