"""One task of LIBERO in robosuite: started again exactly, and stepped without what nobody reads.

robosuite builds a model anew at every reset (seconds) because its quick reset leaves three things as the last episode
had them. They are put back here:

- the gripper's command: it ramps towards open or closed, and a reset does not touch it. It alone moves a replay by
  1e-4 to 1e-7;
- where fixtures stand and which flames show: a reset writes them into the model. Things that are placed on a fixture
  are placed by where it stood before;
- the rest (state, warm start, controller) is made anew by the package.

A control step is 25 parts. The package computes positions and velocities three times in each and reads all
observations after it. Here both are done once, to the same bits: the second and third time only the solver has
something new to say, because it begins where it ended before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from ..robosuite.control import ArmControl, solve
from .package import package

RATE_HZ = 20
_MODEL_FIELDS = ("body_pos", "body_quat", "site_rgba", "geom_rgba")
_PLACEMENTS_TRIED = 100
PARTS = 25


class _Quick:
    """What a problem of the package does differently here; mixed in before its class."""

    def _initialize_sim(self, xml_string: str | None = None) -> None:
        super()._initialize_sim(xml_string)  # pyright: ignore[reportAttributeAccessIssue]
        model = self.sim.model._model  # pyright: ignore[reportAttributeAccessIssue]
        self.as_built = {name: getattr(model, name).copy() for name in _MODEL_FIELDS}

    def _update_observables(self, force: bool = False) -> None:
        """Nothing: observations are read from the simulation where they are wanted."""

    def _get_observations(self, force_update: bool = False) -> dict[str, Any]:
        return {}


class Simulation:
    """A problem's world.

    Attributes:
        problem: the package's environment. model, data: MuJoCo's.
    """

    def __init__(self, bddl: Path, quick: bool = True) -> None:
        """quick=False keeps the package's own observations, which tests compare with."""
        robosuite, envs = package("robosuite"), package("libero.libero.envs")
        name = package("libero.libero.envs.bddl_utils").get_problem_info(str(bddl))["problem_name"]
        kind = envs.TASK_MAPPING[name]
        if quick:
            kind = type(kind.__name__, (_Quick, kind), {})  # the package looks at the name
        self.problem: Any = _drawn(
            lambda: kind(
                bddl_file_name=str(bddl),
                robots=["Panda"],
                controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
                initialization_noise=None,
                use_camera_obs=False,
                has_renderer=False,
                has_offscreen_renderer=False,
                control_freq=RATE_HZ,
                ignore_done=True,
                hard_reset=False,
            )
        )
        self._quick, self.robot = quick, self.problem.robots[0]
        self._hand = self.robot.robot_model.eef_name

    @property
    def model(self) -> mujoco.MjModel:
        return self.problem.sim.model._model

    @property
    def data(self) -> mujoco.MjData:
        return self.problem.sim.data._data

    def start(self, state: np.ndarray | None) -> None:
        """A start that the package draws from numpy's global generator, or `state` [1 + nq + nv] in it.

        Fixtures are not part of a state: where they stand is drawn in either case.
        """
        for name, value in getattr(self.problem, "as_built", {}).items():
            getattr(self.model, name)[:] = value
        self.robot.gripper.current_action = np.zeros_like(self.robot.gripper.current_action)
        _drawn(self.problem.reset)
        if self._quick:
            self._arm = ArmControl(self.problem, self.robot)
        if state is not None:
            wanted = 1 + self.model.nq + self.model.nv
            if len(state) != wanted:
                raise ValueError(f"initial state: found {len(state)} numbers, wanted {wanted} for this scene")
            self.problem.sim.set_state_from_flattened(state)
            self.problem.sim.forward()
        self.problem._post_process()

    def step(self, action: np.ndarray) -> None:
        """One control step of `action` [7]."""
        if not self._quick:
            self.problem.step(action)
            return
        for part in range(PARTS):
            mujoco.mj_step1(self.model, self.data)
            solve(self.model, self.data)
            self._arm(action, part == 0)
            mujoco.mj_step2(self.model, self.data)
        self.problem._post_process()

    def succeeded(self) -> bool:
        return bool(self.problem._check_success())

    def holds(self, predicate: tuple[str, ...]) -> bool:
        """Whether a predicate, as the package writes it (name, thing, ...), is true now."""
        return bool(self.problem._eval_predicate(list(predicate)))

    # ---- the robot ----

    @property
    def grip(self) -> np.ndarray:
        """Between the finger tips, metres in the world [3]."""
        return self.data.site_xpos[self.robot.eef_site_id].copy()

    @property
    def grip_axes(self) -> np.ndarray:
        """The hand's axes in the world as columns, [3, 3]."""
        return self.data.site_xmat[self.robot.eef_site_id].reshape(3, 3).copy()

    @property
    def fingers(self) -> np.ndarray:
        """Positions of the two finger joints, metres [2]."""
        return self.data.qpos[self.robot._ref_gripper_joint_pos_indexes].copy()

    @property
    def hand_turn(self) -> np.ndarray:
        """The hand's orientation as axis times angle, [3]: as policies for LIBERO are told."""
        w, x, y, z = self.data.body(self._hand).xquat
        return np.array((x, y, z)) * _angle_over_sine(float(np.clip(w, -1.0, 1.0)))


def _drawn(place: Callable[[], Any]) -> Any:
    """What comes of placing things from numpy's global generator; another draw where they did not fit."""
    failure = package("robosuite.utils.errors").RandomizationError
    for _ in range(_PLACEMENTS_TRIED):
        try:
            return place()
        except failure as error:
            last = error
    raise RuntimeError(f"no placement found in {_PLACEMENTS_TRIED} draws: {last}")


def _angle_over_sine(w: float) -> float:
    sine = np.sqrt(1.0 - w * w)
    return 0.0 if np.isclose(sine, 0.0) else float(2.0 * np.arccos(w) / sine)
