"""What differs between robosuite 1.4 and 1.5, and what is not used of either: observations, and work done thrice."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import mujoco
import numpy as np

from .control import ArmControl, solve

RATE_HZ = 20
_MODEL_SEED = 0  # sizes that robosuite draws when it builds a model (Lift's cube, the hammer) are those of this seed


def package() -> Any:
    """The third-party package; ImportError says which extra is missing."""
    logger = logging.getLogger("robosuite_logs")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns at import that nobody wrote a file of private settings
    try:
        return importlib.import_module("robosuite")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"robosuite needs a package that is not here ({error.name}); pip install 'deixis[robosuite]'"
        ) from error
    finally:
        logger.setLevel(level)


def has(scene: str) -> bool:
    """Whether the installed version has the scene, by robosuite's name."""
    package()
    return scene in importlib.import_module("robosuite.environments.base").REGISTERED_ENVS


class Simulation:
    """A robosuite environment of `arms` Pandas that is reset exactly and stepped without observing.

    Attributes:
        env: robosuite's environment. model, data: MuJoCo's.
    """

    def __init__(self, scene: str, arms: int) -> None:
        robosuite = package()
        self._old = robosuite.__version__.startswith("1.4.")
        state = np.random.get_state()
        np.random.seed(_MODEL_SEED)
        try:
            self.env = robosuite.make(
                scene,
                robots=["Panda"] * arms,
                controller_configs=_controller() if self._old else [_composite_controller() for _ in range(arms)],
                control_freq=RATE_HZ,
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                use_object_obs=False,
                ignore_done=True,
                hard_reset=False,
                **({} if self._old else {"seed": _MODEL_SEED}),
            )
        finally:
            np.random.set_state(state)
        self.leave_observations_out()
        self.model, self.data = self.env.sim.model._model, self.env.sim.data._data
        self._substeps = int(self.env.control_timestep / self.env.model_timestep)

    def leave_observations_out(self) -> None:
        """Nobody reads robosuite's own observations, which are made after every substep."""
        self.env._update_observables = _nothing
        self.env._get_observations = _nothing

    def reset(self) -> None:
        """Begins an episode, from numpy's global generator alone.

        robosuite's reset leaves two things behind that an earlier episode made: where the fingers were last sent, and
        the solver's warm start.
        """
        for robot in self.env.robots:
            gripper = _one(robot.gripper)
            gripper.current_action = np.zeros(gripper.dof)
        if not self._old:  # it draws from a generator of its own, which its parts share
            drawn = np.random.default_rng(np.random.randint(2**31))
            self.env.rng.bit_generator.state = drawn.bit_generator.state
        self.env.reset()
        positions = self.data.qpos.copy()
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = positions
        mujoco.mj_forward(self.model, self.data)
        if self._old:
            self._arms = [ArmControl(self.env, robot) for robot in self.env.robots]

    def step(self, action: np.ndarray) -> None:
        """One control step with an action [7 * arms], the same to the last bit as robosuite's own.

        Tools without fingers take no notice of the gripper's part.
        """
        parts = np.split(action, len(self.env.robots))
        parts = [part[: robot.action_dim] for part, robot in zip(parts, self.env.robots, strict=True)]
        substep = self._substep if self._old else self._substep_of_15
        for number in range(self._substeps):
            substep(parts, number == 0)
        self.env.timestep += 1
        self.env.cur_time += self.env.control_timestep
        if hasattr(self.env, "wiped_markers"):
            with redirect_stdout(StringIO()):  # it prints where a joint is near its limit
                self.env.reward(action)  # which marks what was wiped

    def _substep(self, parts: Sequence[np.ndarray], new: bool) -> None:
        """robosuite 1.4 computes positions and velocities three times for one state; here the second and third time
        do only what differs, which is the solver's: it starts from where it ended."""
        mujoco.mj_step1(self.model, self.data)
        solve(self.model, self.data)
        for arm, part in zip(self._arms, parts, strict=True):
            arm(part, new)
        mujoco.mj_step2(self.model, self.data)

    def _substep_of_15(self, parts: Sequence[np.ndarray], new: bool) -> None:
        mujoco.mj_step1(self.model, self.data)
        self.env._pre_action(np.concatenate(parts), new)
        mujoco.mj_step2(self.model, self.data)

    def grip_site(self, arm: int) -> int:
        """Number of the site between the fingers."""
        return self.model.site(_one(self.env.robots[arm].gripper).important_sites["grip_site"]).id

    def hand_body(self, arm: int) -> int:
        """Number of the body whose rotation is proprioception."""
        return self.model.body(_one(self.env.robots[arm].robot_model.eef_name)).id

    def finger_positions(self, arm: int) -> np.ndarray:
        """Of the joints of the fingers, metres [2]; zeros where a tool has none."""
        joints = _one(self.env.robots[arm].gripper).joints
        return np.array([self.data.joint(name).qpos[0] for name in joints]) if joints else np.zeros(2)


def _controller() -> Any:
    return importlib.import_module("robosuite.controllers").load_controller_config(default_controller="OSC_POSE")


def _composite_controller() -> Any:
    """The same controller as 1.5 says it, which may turn about the robot's axes and not the world's."""
    config = importlib.import_module("robosuite").load_composite_controller_config(robot="Panda")
    config["body_parts"]["right"]["input_ref_frame"] = "world"
    return config


def _one(value: Any) -> Any:
    """What 1.4 has of an arm, and 1.5 of each side of a robot."""
    return value["right"] if isinstance(value, dict) else value


def _nothing(*_: Any, **__: Any) -> dict[str, Any]:
    return {}
