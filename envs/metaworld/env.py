"""`deixis/MetaWorld-v0`: Meta-World's fifty tasks for a Sawyer arm, by the package's own rules and experts."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..foreign import Asked, Camera, ForeignEnv, Thing  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco
import numpy as np

from ...datasets.spec import ActionSpec, ProprioSpec
from ..asking import say
from ..drawing.level import DEFAULT
from .tasks import HELD_OUT, MT50, PHRASINGS

ENV_ID = "deixis/MetaWorld-v0"
MAX_STEPS = 500
RATE_HZ = 80.0  # five simulation steps of 2.5 ms
CAMERAS = {
    "corner": Camera("corner", "corner2", turned=True),  # which hangs upside down in the package's model
    "wrist": Camera("wrist", "gripperPOV"),
}
_NEARER = ("corner2", (0.75, 0.075, 0.7))
"""Where those who learn from pixels put it (Seo et al. 2022; LeRobot): from the package's place a cube is 6 pixels."""
ACTION = ActionSpec(
    names=("dx", "dy", "dz", "gripper"),
    units=("cm", "cm", "cm", "1"),
    low=(-1.0,) * 4,
    high=(1.0,) * 4,
    rate_hz=RATE_HZ,
)
PROPRIO = ProprioSpec(("hand_x", "hand_y", "hand_z", "gripper_opening"), ("m", "m", "m", "1"), RATE_HZ)
warnings.filterwarnings("ignore", "Constant.s. may be too high", module="metaworld")  # at every step of some experts
_NO_THINGS = ("tablelink", "RetainingWall", "base", "mocap", "")
_MEASURES = ("near_object", "grasp_success", "obj_to_target")


class MetaWorldEnv(ForeignEnv):
    """One of the tasks of Meta-World, drawn anew for each seed from the package's own distribution.

    Arguments:
        tasks: names without their `-v3`.
        cameras: which of `CAMERAS`.
        image_size, level, render_mode, render_size: see `ForeignEnv`.

    Action: hand displacement in the world (centimetres a step) and how hard the gripper closes. Proprioception: where
    the hand is, and how open it is. An episode is a success at the first step at which the package says so; the policy
    never sees the package's own 39 numbers, which name the goal.
    """

    robot_bodies = ("base", "mocap")
    packages = ("metaworld",)
    expert_name = "scripted expert of metaworld"

    def __init__(
        self,
        tasks: Sequence[str] = MT50,
        cameras: Sequence[str] = ("corner", "wrist"),
        image_size: int = 128,
        level: str = DEFAULT,
        render_mode: str | None = None,
        render_size: int = 256,
    ) -> None:
        for what, found, known in (("tasks", tasks, MT50), ("cameras", cameras, CAMERAS)):
            if unknown := [name for name in found if name not in known]:
                raise ValueError(f"{what}: found {unknown}, wanted some of {', '.join(known)}")
        self._classes = _package("metaworld.env_dict").ALL_V3_ENVIRONMENTS
        self._worlds: dict[str, Any] = {}
        seen = [CAMERAS[name] for name in cameras]
        super().__init__(ENV_ID, tasks, seen, PROPRIO, ACTION, image_size, level, render_mode, render_size)

    @property
    def model(self) -> mujoco.MjModel:
        return self._world.model

    @property
    def data(self) -> mujoco.MjData:
        return self._world.data

    @property
    def things(self) -> Sequence[Thing]:
        roots = np.flatnonzero(self.model.body_parentid == 0)
        names = [self.model.body(int(body)).name for body in roots if body]
        return [Thing(name, (name,)) for name in names if name not in _NO_THINGS]

    def points(self) -> np.ndarray:
        return np.stack([self._world.tcp_center, self._world._get_pos_objects()[:3], self._world._target_pos])

    def expert(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """The package's own, which sees the package's own observation; `rng` has no use."""
        policies = _package("metaworld.policies").ENV_POLICY_MAP
        policy = policies[f"{self.asked.task}-v3"]()
        return lambda: np.asarray(policy.get_action(self._seen), np.float64).clip(-1.0, 1.0)

    def _ask(self, task: str, condition: str, rng: np.random.Generator) -> Asked:
        return Asked(say(PHRASINGS[task], condition, rng, HELD_OUT), task)

    def _start(self, task: str, seed: int) -> None:
        if task not in self._worlds:
            self._worlds[task] = _Fresh(self._classes[f"{task}-v3"])
        self._world = self._worlds[task].world()
        self._world.seed(seed)
        self._seen, _ = self._world.reset()
        camera, eye = _NEARER
        self.model.camera(camera).pos = eye
        mujoco.mj_kinematics(self.model, self.data)  # what was moved last is else drawn where it was before
        mujoco.mj_camlight(self.model, self.data)
        self._said: dict[str, Any] = {}

    def _act(self, action: np.ndarray) -> None:
        world = self._world
        world.curr_path_length = 0  # the suite counts the steps
        self._seen, _, _, _, self._said = world.step(action.astype(np.float32))

    def _proprio(self) -> np.ndarray:
        return self._seen[:4]

    def _succeeded(self, task: str) -> bool:
        return bool(self._said.get("success", False))

    def _predicates(self) -> dict[str, Any]:
        return {name: round(float(self._said[name]), 6) for name in _MEASURES if name in self._said}


class _Fresh:
    """Worlds of one task that begin as if nobody had been there before.

    The package moves things in its model (walls, boxes, cabinets) and starts an episode from where the last one ended.
    """

    def __init__(self, made: Callable[[], Any]) -> None:
        self._world = made()
        self._world._freeze_rand_vec, self._world.seeded_rand_vec = False, True
        self._world._set_task_called, self._world._partially_observable = True, False
        vars(self._world).pop("sawyer_observation_space", None)  # which was computed for the other case
        self._model = {name: getattr(self._world.model, name).copy() for name in _MOVED}
        self._rest = {name: value.copy() for name, value in vars(self._world).items() if isinstance(value, np.ndarray)}

    def world(self) -> Any:
        for name, values in self._model.items():
            getattr(self._world.model, name)[:] = values
        for name, value in self._rest.items():
            setattr(self._world, name, value.copy())
        mujoco.mj_resetData(self._world.model, self._world.data)
        mujoco.mj_forward(self._world.model, self._world.data)
        return self._world


_MOVED = ("body_pos", "body_quat", "site_pos", "site_quat", "geom_pos", "geom_quat", "geom_rgba", "site_rgba")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Meta-World needs a package that is not here ({error.name}); pip install 'deixis[metaworld]'"
        ) from error
