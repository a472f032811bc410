"""Where things are solid: points on the collision shapes of a scene, which grasps and paths are planned among."""

from __future__ import annotations

from itertools import product

import mujoco
import numpy as np

from .simulation import Simulation

_SPACING_M, _MOST_A_SIDE = 0.007, 40
_ROBOT = ("robot0", "gripper0", "mount0")


class Solids:
    """Points on all collision shapes of a scene but the robot's.

    Attributes:
        owner: int [P], which thing each point belongs to, by the order of `names`; -1 tables and walls.
        names: of things.
    """

    def __init__(self, simulation: Simulation, names: tuple[str, ...]) -> None:
        self._data, self.names = simulation.data, names
        model = simulation.model
        things = {_main_body(simulation, name): number for number, name in enumerate(names)}
        points, geoms, owners = [], [], []
        for geom in range(model.ngeom):
            body = int(model.geom_bodyid[geom])
            collides = model.geom_contype[geom] or model.geom_conaffinity[geom]
            if not collides or model.body(body).name.startswith(_ROBOT):
                continue
            local = _surface(model, geom)
            points.append(local)
            geoms.append(np.full(len(local), geom))
            owners.append(np.full(len(local), _owner(model, body, things)))
        self._local, self._geom, self.owner = np.concatenate(points), np.concatenate(geoms), np.concatenate(owners)
        self._bodies = model.geom_bodyid[self._geom]

    def now(self) -> np.ndarray:
        """Where the points are, metres in the world, [P, 3]."""
        turn = self._data.geom_xmat.reshape(-1, 3, 3)[self._geom]
        return np.einsum("pij,pj->pi", turn, self._local) + self._data.geom_xpos[self._geom]

    def of(self, name: str) -> np.ndarray:
        """Which points belong to a thing, bool [P]."""
        return self.owner == self.names.index(name)

    def of_body(self, body: int) -> np.ndarray:
        """Which points belong to a body of the model, bool [P]."""
        return self._bodies == body


def _main_body(simulation: Simulation, name: str) -> int:
    return simulation.model.body(simulation.problem.get_object(name).root_body).id


def _owner(model: mujoco.MjModel, body: int, things: dict[int, int]) -> int:
    while body:
        if body in things:
            return things[body]
        body = int(model.body_parentid[body])
    return -1


def _surface(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Points on a shape in its own frame, [P, 3]: of a box exactly, of others nearly; a floor has none."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_PLANE.value:
        return np.zeros((0, 3))
    if kind == mujoco.mjtGeom.mjGEOM_MESH.value:
        mesh = model.geom_dataid[geom]
        start = model.mesh_vertadr[mesh]
        return model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(np.float64)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER.value:
        return _cylinder(size[0], size[1])
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE.value:
        size = np.full(3, size[0])
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE.value:
        size = np.array((size[0], size[0], size[0] + size[1]))
    return _box(size)


def _box(half: np.ndarray) -> np.ndarray:
    sides = [np.linspace(-size, size, _count(2 * size)) for size in half]
    faces = []
    for axis, sign in product(range(3), (-1, 1)):
        grid = [np.array([sign * half[axis]]) if other == axis else sides[other] for other in range(3)]
        faces.append(np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 3))
    return np.concatenate(faces)


def _cylinder(radius: float, half: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    rows = [(radius, height) for height in np.linspace(-half, half, _count(2 * half))]
    rows += [(share * radius, sign * half) for share in (0.0, 0.33, 0.67) for sign in (-1, 1)]
    return np.concatenate([np.column_stack([reach * ring, np.full(len(ring), height)]) for reach, height in rows])


def _count(length: float) -> int:
    return int(np.clip(np.ceil(length / _SPACING_M) + 1, 2, _MOST_A_SIDE))
