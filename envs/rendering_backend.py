"""Which way MuJoCo can draw without a screen on this machine: EGL, OSMesa or neither.

MuJoCo reads `MUJOCO_GL` once, when it is first imported, so the choice is made before that. A library that loads may
still fail to draw (EGL without a driver), so each candidate really draws a frame in a process of its own. `make setup`
runs this file as a script, before the package is installed, which is why it imports nothing else of the package.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from functools import cache

LIBRARIES = {"egl": ("libEGL.so.1", "libEGL.so"), "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")}
"""Backends in order of preference: EGL also uses a graphics card where there is one."""

INSTALL_COMMAND = "apt-get install -y --no-install-recommends libegl1 libopengl0 libgl1 libgl1-mesa-dri"
"""Debian's and Ubuntu's packages of the software renderer, to be run as root."""

_DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 3"/><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
pixels = renderer.render()
renderer.close()
raise SystemExit(0 if pixels.any() else "the frame is black")
"""


class RenderingError(RuntimeError):
    """Neither EGL nor OSMesa can draw here; the message holds the command that helps."""


def loads(backend: str) -> bool:
    """Whether the shared library of `backend` ("egl" or "osmesa") can be loaded."""
    for library in LIBRARIES[backend]:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def draws(backend: str, timeout_s: float = 60.0) -> bool:
    """Whether MuJoCo draws a frame with `backend`, tried in a process of its own (about a second)."""
    environment = {**os.environ, "MUJOCO_GL": backend, "PYTHONSAFEPATH": "1"}
    environment.pop("PYOPENGL_PLATFORM", None)  # MuJoCo sets it to match its backend and refuses another
    try:
        finished = subprocess.run(
            [sys.executable, "-c", _DRAW], env=environment, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0


@cache
def usable_backend() -> str:
    """The first of "egl" and "osmesa" that draws here.

    Raises:
        RenderingError: none does. The message names the packages that are missing.
    """
    for backend in LIBRARIES:
        if loads(backend) and draws(backend):
            return backend
    raise RenderingError(
        "MuJoCo cannot draw without a screen here: neither EGL nor OSMesa works. Run as root:\n"
        f"  {INSTALL_COMMAND}\n(other systems: install Mesa's software EGL driver)"
    )


def select_backend() -> str:
    """Set `MUJOCO_GL` (and one thread per software renderer) for this process and its children, unless they are set.

    Call it before mujoco is imported. Returns the backend in force.

    Raises:
        RenderingError: `MUJOCO_GL` is not set and no backend works.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")  # llvmpipe's threads of several workers get in each other's way
    if not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = usable_backend()
    return os.environ["MUJOCO_GL"]


if __name__ == "__main__":
    if sys.argv[1:] == ["--install-command"]:
        print(INSTALL_COMMAND)
    else:
        try:
            print(usable_backend())
        except RenderingError as error:
            sys.exit(str(error))
