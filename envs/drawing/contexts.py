"""OpenGL contexts of a thread: one for all that it draws, and in it what was uploaded of each model.

What is uploaded (meshes, textures) belongs to a model's assets, not to the model: scenes whose assets are equal share
it, so that a reset which builds its model anew costs no upload. A context belongs to its thread, so an environment
draws in the one that reset it.
"""

from __future__ import annotations

import atexit
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from ..rendering_backend import RenderingError, select_backend

_BACKEND = select_backend()  # before mujoco is imported

import mujoco  # noqa: E402  (MUJOCO_GL must be set before mujoco is imported)
import numpy as np  # noqa: E402

_KEPT_BYTES = 600e6  # of textures and meshes that stay uploaded: dozens of Meta-World's models, a few of LIBERO's
_VERTEX_BYTES = 96  # three vertices of a face have a place, a normal and texture coordinates each
_TEXEL_BYTES = 16 / 3  # four bytes, and a third more for smaller copies
LARGEST = 1280  # pixels: of all pictures of one pass, side by side
_ASSETS = (
    *("mesh_vert", "mesh_face", "mesh_facenum", "mesh_normal", "mesh_facenormal", "mesh_texcoord"),
    *("mesh_faceadr", "mesh_vertadr", "tex_type", "tex_height", "tex_width", "tex_data", "hfield_data", "skin_vert"),
)


class _Contexts:
    """What one thread has uploaded, the least recently used first."""

    def __init__(self) -> None:
        self.gl = mujoco.GLContext(LARGEST, LARGEST)
        self.gl.make_current()
        self.of_assets: OrderedDict[str, tuple[mujoco.MjrContext, float]] = OrderedDict()


_of_thread = threading.local()
_making = threading.Lock()  # MuJoCo opens the display and looks up OpenGL's functions for the whole process


def draw_here() -> None:
    """Makes the thread's context the one that OpenGL draws in: another library may have drawn in its own since."""
    if hasattr(_of_thread, "contexts"):
        _of_thread.contexts.gl.make_current()
        return
    with _making:
        _of_thread.contexts = _Contexts()
        # Of the main thread, at exit: before the display is closed, which MuJoCo registered just now.
        atexit.register(lambda: vars(_of_thread).clear())


def context(key: str, make_model: Callable[[], mujoco.MjModel]) -> mujoco.MjrContext:
    """The context of the assets named `key`, with what `make_model` gives uploaded where it is not yet."""
    draw_here()
    known = _of_thread.contexts.of_assets
    if key not in known:
        model = make_model()
        size = _uploaded_bytes(model)
        while known and size + sum(other for _, other in known.values()) > _KEPT_BYTES:
            known.popitem(last=False)  # freed once no renderer uses it any more
        known[key] = _upload(model), size
    known.move_to_end(key)
    return known[key][0]


def _uploaded_bytes(model: mujoco.MjModel) -> float:
    """What OpenGL keeps of a model, about."""
    texels = float((model.tex_width.astype(np.int64) * model.tex_height).sum())
    return texels * _TEXEL_BYTES + float(model.mesh_facenum.sum()) * _VERTEX_BYTES


def _upload(model: mujoco.MjModel) -> mujoco.MjrContext:
    try:
        found = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except mujoco.FatalError as error:
        raise RenderingError(
            f"MuJoCo cannot draw: {error}. It was imported before MUJOCO_GL was chosen; import "
            f"deixis.envs before mujoco, or set MUJOCO_GL={_BACKEND} before Python starts"
        ) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, found)
    return found


def assets_key(model: mujoco.MjModel) -> str:
    """A name for what a context holds of a model: equal where meshes, textures and fields are."""
    digest = hashlib.sha256()
    for name in _ASSETS:
        array = getattr(model, name, None)
        if array is not None:
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.tobytes())
    quality = model.vis.quality
    digest.update(f"{quality.shadowsize} {quality.offsamples} {model.vis.map.znear}".encode())
    return digest.hexdigest()
