"""Cartesian control: a tool pose that moves by small steps, followed by joint servos through damped least squares.

The step of Nakamura & Hanafusa (1986): dq = J^T (J J^T + lambda^2 I)^-1 e, with the null space used to stay
near the home posture.
"""

from __future__ import annotations

import mujoco
import numpy as np

from .arm import HOME, JOINT_HIGH, JOINT_LOW
from .world import arm_xml

DAMPING = 0.03
_ITERATIONS = 6
_POSTURE_GAIN = 0.05
_LEASH = 0.06  # metres the commanded pose may run ahead of the measured one, as when the hand presses on the table
TOOL_LOW, TOOL_HIGH = np.array((0.25, -0.36, 0.004)), np.array((0.74, 0.36, 0.45))  # metres
YAW_LIMIT = np.pi / 2
_NEXT, _LAST = np.array((1, 2, 0)), np.array((2, 0, 1))  # of the axes x, y, z


class CartesianController:
    """Turns tool displacements into joint targets. The tool points straight down and may turn about the vertical."""

    def __init__(self) -> None:
        self._model = mujoco.MjModel.from_xml_string(arm_xml())
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._jacobian = np.zeros((6, self._model.nv))
        self._low, self._high = np.asarray(JOINT_LOW), np.asarray(JOINT_HIGH)
        self._home = np.asarray(HOME)
        self.reset(self._home)

    def reset(self, joints: np.ndarray) -> None:
        """Start from joint angles [7] (radians), commanding the pose they give."""
        self.joints = np.array(joints, dtype=float)
        self.position, rotation = self._forward(self.joints)
        self.yaw = tool_yaw(rotation)

    def step(self, displacement: np.ndarray, turn: float, measured: np.ndarray) -> np.ndarray:
        """Joint targets [7] (radians) for the pose `displacement` [3] (metres) and `turn` (radians) further on.

        `measured` [3]: where the tool really is; the command is kept within reach of it.
        """
        ahead = np.clip(self.position + displacement - measured, -_LEASH, _LEASH)
        self.position = np.clip(measured + ahead, TOOL_LOW, TOOL_HIGH)
        self.yaw = float(np.clip(self.yaw + turn, -YAW_LIMIT, YAW_LIMIT))
        self.joints = self._solve(self.position, self.yaw)
        return self.joints

    def _solve(self, position: np.ndarray, yaw: float) -> np.ndarray:
        joints = self.joints.copy()
        wanted = tool_rotation(yaw)
        for _ in range(_ITERATIONS):
            found, rotation = self._forward(joints)
            error = np.concatenate((position - found, _rotation_error(wanted, rotation)))
            if np.abs(error).max() < 1e-4:
                break
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
            jacobian = self._jacobian[:, :7]
            gram = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
            posture = _POSTURE_GAIN * (self._home - joints)
            joints = joints + posture + jacobian.T @ np.linalg.solve(gram, error - jacobian @ posture)
            joints = np.clip(joints, self._low, self._high)
        return joints

    def _forward(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._data.qpos[:7] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()


def tool_rotation(yaw: float) -> np.ndarray:
    """Rotation matrix [3, 3] of a tool that points down, its x axis turned by `yaw` from the world's."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array(((cosine, sine, 0.0), (sine, -cosine, 0.0), (0.0, 0.0, -1.0)))


def tool_yaw(rotation: np.ndarray) -> float:
    """Angle (radians) of the tool's x axis about the vertical."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _rotation_error(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Small-angle rotation vector [3] from `found` to `wanted`, in the world's frame."""
    a, b = found.T, wanted.T  # their rows' cross products, written out: np.cross takes three times as long
    return 0.5 * (a[:, _NEXT] * b[:, _LAST] - a[:, _LAST] * b[:, _NEXT]).sum(axis=0)
