"""The world of one scene: arm, table, cameras and objects as one compiled MuJoCo model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .arm import HOME, arm_actuators, arm_body, arm_defaults
from .objects import object_body
from .scene import SceneObject

TIMESTEP = 0.005  # seconds
TABLE_HALF = (0.30, 0.42)  # metres, along x and y
TABLE_CENTRE = (0.50, 0.0)
TABLE_RGB = (0.76, 0.66, 0.54)


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike) -> np.ndarray:
    """Axes x, y and z of a camera at `eye` whose centre sees `target` (it looks along its -z axis): [3, 3], rows."""
    backward = np.asarray(eye, float) - np.asarray(target, float)
    backward /= np.linalg.norm(backward)
    right = np.cross(np.asarray(up, float), backward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(backward, right), backward])


def _xyaxes(eye: Sequence[float], target: Sequence[float], up: Sequence[float]) -> str:
    return " ".join(f"{value:.6f}" for value in look_at(eye, target, up)[:2].flatten())


# The front camera faces the robot from across the table: image left is -y, image right +y, nearer is +x.
FRONT_EYE, FRONT_TARGET = (1.02, 0.0, 0.60), (0.46, 0.0, 0.05)
FRONT_CAMERA = (
    f'<camera name="front" pos="{FRONT_EYE[0]} {FRONT_EYE[1]} {FRONT_EYE[2]}" '
    f'xyaxes="{_xyaxes(FRONT_EYE, FRONT_TARGET, (0, 0, 1))}" fovy="40"/>'
)
_WRIST_EYE, _WRIST_TARGET = (0.075, 0.0, 0.01), (0.01, 0.0, 0.20)
WRIST_CAMERA = (
    f'<camera name="wrist" pos="{_WRIST_EYE[0]} {_WRIST_EYE[1]} {_WRIST_EYE[2]}" '
    f'xyaxes="{_xyaxes(_WRIST_EYE, _WRIST_TARGET, (1, 0, 0))}" fovy="78"/>'
)


def arm_xml() -> str:
    """The arm alone: the model on which inverse kinematics runs."""
    compiler = '<compiler angle="radian"/>'
    return f"<mujoco>{compiler}<default>{arm_defaults()}</default><worldbody>{arm_body()}</worldbody></mujoco>"


def world_xml(objects: Sequence[SceneObject], more: str = "") -> str:
    """MJCF of the whole scene, and of what else is to be seen in it.

    Shadows and multisampling are off and curved surfaces coarse: rendering is vertex-bound. Things rest on a plane,
    whose contacts are exact and cheap (a box under a cylinder goes through the general convex collider); the table top
    is drawn only.
    """
    bodies = "".join(object_body(o.name, o.shape, o.colour, o.x, o.y, o.yaw) for o in objects)
    return f"""<mujoco model="tabletop">
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="5">
  <flag multiccd="enable"/>
</option>
<visual>
  <global offwidth="1280" offheight="1280"/>
  <quality offsamples="0" shadowsize="0" numslices="12" numstacks="8" numquads="1"/>
  <headlight ambient="0.38 0.38 0.38" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
  <map znear="0.02" zfar="10"/>
</visual>
<default>
  {arm_defaults()}
  <default class="object"><geom condim="4" friction="0.9 0.01 0.0012" solref="0.01 1"/></default>
</default>
<worldbody>
  <light directional="true" pos="0.4 -0.6 2" dir="0.1 0.35 -1" diffuse="0.5 0.5 0.5" specular="0 0 0"
         castshadow="false"/>
  {FRONT_CAMERA}
  <geom name="table_top" type="box" pos="{TABLE_CENTRE[0]} {TABLE_CENTRE[1]} -0.02"
        size="{TABLE_HALF[0]} {TABLE_HALF[1]} 0.02"
        contype="0" conaffinity="0" rgba="{TABLE_RGB[0]} {TABLE_RGB[1]} {TABLE_RGB[2]} 1"/>
  <geom name="table" type="plane" size="2 2 0.1" friction="0.9 0.01 0.0012" solref="0.01 1" group="5"/>
  <geom name="floor" type="plane" pos="0 0 -0.45" size="3 3 0.1" contype="0" conaffinity="0" rgba="0.55 0.58 0.62 1"/>
  {arm_body(WRIST_CAMERA)}
  {bodies}
  {more}
</worldbody>
{arm_actuators()}
</mujoco>"""


HOME_QPOS = np.asarray((*HOME, 0.04, 0.04))
