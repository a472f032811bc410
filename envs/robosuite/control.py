"""Operational-space control of one arm by the controller of robosuite 1.4, with less work around it."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np


class ArmControl:
    """Sends an arm's actions to its controller, and what that answers to the motors.

    The numbers are robosuite's to the last bit. What is left out: looking up names, computing each Jacobian twice, and
    records of the past that nobody reads; robosuite does so in every substep.
    """

    def __init__(self, env: Any, robot: Any) -> None:
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._robot, self._controller = robot, robot.controller
        self._site = self._model.site(self._controller.eef_name).id
        self._low, self._high = robot.torque_limits
        self._motors = list(robot._ref_joint_actuator_indexes)
        self._fingers: list[int] = []
        if robot.has_gripper:
            self._fingers = [self._model.actuator(name).id for name in robot.gripper.actuators]
            limits = self._model.actuator_ctrlrange[self._fingers]
            self._middle, self._half = 0.5 * (limits[:, 1] + limits[:, 0]), 0.5 * (limits[:, 1] - limits[:, 0])
        size = self._model.nv
        self._jacobians, self._masses = np.zeros((2, 3, size)), np.zeros((size, size))

    def __call__(self, action: np.ndarray, new: bool) -> None:
        """One substep. action: the hand's [6], and the gripper's where there is one. new: it is another one than in the
        substep before."""
        controller = self._controller
        if controller.new_update:
            self._update()
        if new:
            controller.set_goal(action[: controller.control_dim])
        self._data.ctrl[self._motors] = np.clip(controller.run_controller(), self._low, self._high)
        if self._fingers:
            wanted = self._robot.gripper.format_action(action[controller.control_dim :])
            self._data.ctrl[self._fingers] = self._middle + self._half * wanted

    def _update(self) -> None:
        """What `Controller.update` does."""
        model, data, controller = self._model, self._data, self._controller
        solve(model, data)
        positions, velocities = controller.qpos_index, controller.qvel_index
        forward, turning = self._jacobians
        mujoco.mj_jacSite(model, data, forward, turning, self._site)
        controller.ee_pos = data.site_xpos[self._site].copy()
        controller.ee_ori_mat = data.site_xmat[self._site].reshape(3, 3).copy()
        controller.ee_pos_vel, controller.ee_ori_vel = np.dot(forward, data.qvel), np.dot(turning, data.qvel)
        controller.joint_pos, controller.joint_vel = data.qpos[positions], data.qvel[velocities]
        controller.J_pos, controller.J_ori = forward[:, velocities], turning[:, velocities]
        controller.J_full = np.vstack([controller.J_pos, controller.J_ori])
        mujoco.mj_fullM(model, self._masses, data.qM)
        controller.mass_matrix = self._masses[velocities, :][:, velocities]
        controller.new_update = False


def solve(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """mj_forward for positions and velocities that are known: the solver starts from where it ended."""
    mujoco.mj_forwardSkip(model, data, mujoco.mjtStage.mjSTAGE_VEL.value, 1)
