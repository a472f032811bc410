"""`deixis/Robosuite-v0` and `deixis/RobosuiteTwoArm-v0`: robosuite's tasks, Pandas under operational-space control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..foreign import Asked, Camera, ForeignEnv, Thing  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco
import numpy as np

from ...datasets.spec import ActionSpec, ProprioSpec
from ..asking import say
from ..drawing.level import DEFAULT
from .instructions import HELD_OUT, TEXTS
from .tasks import OBJECTS, SINGLE, TWO_ARMS, Task, placed
from .versions import RATE_HZ, Simulation, has

ARM_ACTION = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
_EEF = ("eef_x", "eef_y", "eef_z", "eef_qx", "eef_qy", "eef_qz", "eef_qw", "finger_1", "finger_2")
_EEF_UNITS = (*("metre",) * 3, *("1",) * 4, *("metre",) * 2)


class RobosuiteEnv(ForeignEnv):
    """One Panda in robosuite's scenes.

    Action [7] in [-1, 1]: the hand's way from where it is, 0.05 m at 1, and its turn about the world's axes, 0.5 rad at
    1, in a twentieth of a second; the gripper closes above 0 and opens below. Proprioception [9]: place of the
    fingertips (metres, world), rotation of the hand (quaternion x y z w), joints of the fingers (metres), as robomimic
    has them. A tool without fingers takes no notice of `gripper` and has zeros in place of their joints.

    The condition "swap" asks for another object, or the other order, where a scene has one: tasks `pick-...` and
    `stack-...-...`. Sizes that robosuite draws as it builds a model are the same in all episodes.
    """

    metadata = {**ForeignEnv.metadata, "render_fps": RATE_HZ}
    conditions = (*ForeignEnv.conditions, "swap")
    groups = (1,)
    robot_bodies = ("robot", "gripper", "mount", "fixed_mount")
    packages = ("robosuite",)
    _known: Mapping[str, Task] = SINGLE
    _env_id = "deixis/Robosuite-v0"
    _cameras: tuple[Camera, ...] = (Camera("agentview", "agentview"), Camera("wrist", "robot0_eye_in_hand"))
    _arms = 1

    def __init__(
        self,
        image_size: int = 84,
        level: str = DEFAULT,
        render_mode: str | None = None,
        tasks: Sequence[str] | None = None,
        cameras: Sequence[str] | None = None,
        render_size: int = 256,
    ) -> None:
        """tasks, cameras: some of the environment's, by name; None is all."""
        seen = {camera.name: camera for camera in self._cameras}
        for name in cameras or ():
            if name not in seen:
                raise ValueError(f"cameras: found {name!r}, wanted some of {', '.join(seen)}")
        available = [name for name, task in self._known.items() if has(task.scene.name)]
        for name in tasks or ():
            if name not in available:
                lacking = f" (this version of robosuite has no scene for {name!r})" if name in self._known else ""
                raise ValueError(f"tasks: found {name!r}, wanted some of {', '.join(available)}{lacking}")
        super().__init__(
            self._env_id,
            available if tasks is None else tasks,
            self._cameras if cameras is None else [seen[name] for name in cameras],
            _proprio(self._arms),
            _action(self._arms),
            image_size,
            level,
            render_mode,
            render_size,
        )
        self._simulations: dict[str, Simulation] = {}
        self.simulation: Simulation

    @property
    def model(self) -> mujoco.MjModel:
        return self.simulation.model

    @property
    def data(self) -> mujoco.MjData:
        return self.simulation.data

    @property
    def things(self) -> Sequence[Thing]:
        return self._task.scene.things

    def points(self) -> np.ndarray:
        """Of two arms the first one's hand."""
        asked, env = self._known[self.asked.task], self.simulation.env
        thing = next(thing for thing in self.things if thing.name == asked.target)
        place = self.data.body(thing.bodies[0]).xpos
        return np.stack([self.data.site_xpos[self.simulation.grip_site(0)], place, asked.goal(env, place)])

    def expert(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        from .expert import expert

        return expert(self, rng)

    def _ask(self, task: str, condition: str, rng: np.random.Generator) -> Asked:
        asked, original = task, None
        if condition == "swap":
            others = self._known[task].others
            if not others:
                words = ", ".join(name for name in self.tasks if self._known[name].others)
                raise ValueError(f"reset option 'condition': found 'swap' for {task!r}, wanted one of {words} for it")
            asked, original = others[int(rng.integers(len(others)))], (task, self._known[task].target)
        return Asked(say(TEXTS[asked], condition, rng, HELD_OUT), asked, self._known[asked].target, original)

    def _start(self, task: str, seed: int) -> None:
        self._task = self._known[task]
        scene = self._task.scene
        if scene.name not in self._simulations:
            self._simulations[scene.name] = Simulation(scene.name, scene.arms)
        self.simulation = self._simulations[scene.name]
        self.simulation.reset()

    def _act(self, action: np.ndarray) -> None:
        self.simulation.step(action)

    def _proprio(self) -> np.ndarray:
        simulation, parts = self.simulation, []
        for arm in range(self._arms):
            rotation = simulation.data.xquat[simulation.hand_body(arm)]
            place = simulation.data.site_xpos[simulation.grip_site(arm)]
            parts += [place, rotation[[1, 2, 3, 0]], simulation.finger_positions(arm)]
        return np.concatenate(parts)

    def _succeeded(self, task: str) -> bool:
        return self._known[task].done(self.simulation.env)

    def _failed(self) -> bool:
        return self._task.lost(self.simulation.env)

    def _predicates(self) -> dict[str, Any]:
        env = self.simulation.env
        if self._task.scene.name == "PickPlace":
            return {f"{name} in its bin": placed(env, name) for name in OBJECTS}
        if self._task.scene.name == "Wipe":
            return {"wiped": round(len(env.wiped_markers) / env.num_markers, 4)}
        return {}


class RobosuiteTwoArmEnv(RobosuiteEnv):
    """Two Pandas in robosuite's scenes: actions [14] and proprioception [18] are those of one arm, then the other."""

    conditions = ForeignEnv.conditions
    _known = TWO_ARMS
    _env_id = "deixis/RobosuiteTwoArm-v0"
    _cameras = (
        Camera("agentview", "agentview"),
        Camera("wrist0", "robot0_eye_in_hand"),
        Camera("wrist1", "robot1_eye_in_hand"),
    )
    _arms = 2


def _numbered(names: Sequence[str], arms: int) -> tuple[str, ...]:
    return tuple(names) if arms == 1 else tuple(f"{name}_{arm}" for arm in range(arms) for name in names)


def _proprio(arms: int) -> ProprioSpec:
    return ProprioSpec(_numbered(_EEF, arms), _EEF_UNITS * arms, RATE_HZ)


def _action(arms: int) -> ActionSpec:
    size = len(ARM_ACTION) * arms
    return ActionSpec(_numbered(ARM_ACTION, arms), ("1",) * size, (-1.0,) * size, (1.0,) * size, RATE_HZ)
