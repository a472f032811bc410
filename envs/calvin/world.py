"""The play table of a checkout, simulated by PyBullet: begun, moved on, looked at and judged."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np

from .checkout import Checkout
from .tasks import BLOCKS

RATE_HZ = 30
_BULLET_HZ = 240
_ROBOT_DIM = 15

_MAKING = threading.Lock()
_alive: weakref.ref[PlayTable] | None = None


class PlayTable:
    """One simulated table. Only one at a time can live in a process: parts of calvin_env speak to PyBullet's first
    simulation whichever they belong to; a second one is a RuntimeError until the first is closed.

    Arguments:
        sizes: camera -> pixels a side.
        egl: draw with a GPU through EGL, as CALVIN's data were drawn; else on the CPU.
    """

    def __init__(self, checkout: Checkout, sizes: Mapping[str, int], egl: bool = False) -> None:
        global _alive
        self.closed = True
        with _MAKING:
            _refuse_a_second()
            self._sim = _simulation(checkout, sizes, egl)
            _alive = weakref.ref(self)
            self.closed = False
        self._oracle = checkout.tasks
        self._cameras = {camera.name: camera for camera in self._sim.cameras}
        self._sim.cameras = []  # it draws with every step otherwise; pictures are drawn here when they are asked for
        self._pristine = self._sim.p.saveState(physicsClientId=self._sim.cid)

    def start(self, robot: np.ndarray, parts: Mapping[str, float | np.ndarray]) -> None:
        """Puts arm and table where an episode begins, whatever was before.

        robot: CALVIN's 15 numbers. parts: as `chains.scene` gives them.
        """
        sim = self._sim
        scene = np.concatenate([np.atleast_1d(parts[part.name]) for part in self._parts()]).astype(np.float64)
        sim.p.restoreState(self._pristine, physicsClientId=sim.cid)  # contacts, which a reset leaves as they were
        # A button takes over its light's state when it is reset, and the lights are reset after it; and what it takes
        # for pressed is from the last step. So three times, with a step of the scene's own logic after the first.
        for step in (True, False, False):
            sim.robot.gripper_action = int(robot[-1])
            sim.reset(robot_obs=robot.copy(), scene_obs=scene.copy())
            if step:
                sim.scene.step()
        self.begin_task()

    def begin_task(self) -> None:
        """What is asked next is judged by what changes from now on."""
        self.info = self._start_info = self._sim.get_info()

    def step(self, action: np.ndarray) -> None:
        """One control step. action: float64 [7] in [-1, 1]; the gripper opens above 0 and closes else."""
        command = action.copy()  # which calvin_env scales in place
        command[-1] = 1.0 if action[-1] > 0 else -1.0
        self.info = self._sim.step(command)[-1]

    def done(self, task: str) -> bool:
        """Whether CALVIN's oracle says that the task has been carried out since it was begun."""
        return task in self._oracle.get_task_info_for_set(self._start_info, self.info, {task})

    def robot(self) -> np.ndarray:
        """float64 [15]: place (metres) and Euler angles (radians) of the grip, opening of the gripper (metres), seven
        joints (radians), the last command to the gripper."""
        found = np.asarray(self._sim.robot.get_observation()[0], np.float64)
        if found.shape != (_ROBOT_DIM,):
            raise ValueError(f"CALVIN: robot_obs: found shape {found.shape}, wanted ({_ROBOT_DIM},)")
        return found

    def pictures(self) -> dict[str, np.ndarray]:
        """uint8 [size, size, 3] of each camera, upright, drawn now."""
        return {name: self._picture(name) for name in self._cameras}

    def _picture(self, name: str) -> np.ndarray:
        camera = self._cameras[name]
        picture = np.ascontiguousarray(camera.render()[0], np.uint8)
        if picture.shape != (camera.height, camera.width, 3):
            raise ValueError(
                f"CALVIN: camera {name!r}: found a picture of shape {picture.shape}, wanted "
                f"{(camera.height, camera.width, 3)}"
            )
        return picture

    def places(self) -> dict[str, np.ndarray]:
        """Where each block is, metres in the world [3]."""
        known = self.info["scene_info"]["movable_objects"]
        return {name: np.asarray(known[name]["current_pos"], np.float64) for name in BLOCKS}

    def close(self) -> None:
        """Ends the simulation."""
        if not self.closed:
            self.closed = True
            with redirect_stdout(io.StringIO()):
                self._sim.close()
            self._sim.ownsPhysicsClient = False  # or it disconnects again when it is forgotten

    def _parts(self) -> list[Any]:
        """The parts of the scene in the order of CALVIN's scene_obs."""
        scene = self._sim.scene
        return [*scene.doors, *scene.buttons, *scene.switches, *scene.lights, *scene.movable_objects]


def _refuse_a_second() -> None:
    gc.collect()  # a table that nobody holds any more
    other = _alive() if _alive is not None else None
    if other is not None and not other.closed:
        raise RuntimeError(
            "CALVIN: found a table that lives in this process, wanted none: parts of calvin_env speak to the first "
            "simulation of a process whichever they belong to; close() the other environment first, and evaluate with "
            "eval.environments 1 and as many eval.workers as you like"
        )


def _simulation(checkout: Checkout, sizes: Mapping[str, int], egl: bool) -> Any:
    """calvin_env's own environment, without a window."""
    settings = checkout.settings(sizes)
    make = checkout.module("envs.play_table_env").PlayTableSimEnv
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return make(
            robot_cfg=settings.robot,
            seed=settings.seed,
            use_vr=False,
            bullet_time_step=_BULLET_HZ,
            cameras=settings.cameras,
            show_gui=False,
            scene_cfg=settings.scene,
            use_scene_info=True,
            use_egl=egl,
            control_freq=RATE_HZ,
        )
