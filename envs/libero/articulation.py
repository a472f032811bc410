"""Drawers, doors and knobs: the part that moves, and which way."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from .simulation import Simulation


@dataclass(frozen=True)
class Part:
    """body: of the model. address: of its joint in qpos. outward: a drawer's way out, of length 1 [3]; of what turns on
    hinges the axis about which it opens. hinge: a place on that axis, metres in the world [3]; None of a drawer."""

    body: int
    address: int
    outward: np.ndarray
    hinge: np.ndarray | None = None

    def opens(self, place: np.ndarray) -> np.ndarray:
        """Which way a place of it goes as it opens, of length 1 [3]."""
        if self.hinge is None:
            return self.outward
        way = np.cross(self.outward, place - self.hinge)
        return way / np.linalg.norm(way)


def part_of(simulation: Simulation, name: str) -> Part | None:
    """The moving part of a region or thing; None where nothing of it moves."""
    sites, model = simulation.problem.object_sites_dict, simulation.model
    joints = sites[name].joints if name in sites else simulation.problem.get_object(name).joints
    joints = [joint for joint in joints or () if model.joint(joint).type[0] != mujoco.mjtJoint.mjJNT_FREE.value]
    if not joints:
        return None
    joint = model.joint(joints[0])
    low, high = joint.range
    away = 1.0 if high > -low else -1.0
    outward = simulation.data.xaxis[joint.id] * away
    turns = joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE.value
    hinge = simulation.data.xanchor[joint.id].copy() if turns else None
    return Part(int(model.jnt_bodyid[joint.id]), int(joint.qposadr[0]), outward, hinge)
