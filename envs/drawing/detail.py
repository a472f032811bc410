"""A model whose meshes are drawn with less detail: a copy for OpenGL alone, which the simulation never sees."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from .level import Level
from .meshes import Mesh, hull, normals, simplified

_APPROACHED_M = 0.1  # how near to whatever it works on a hand brings its camera
_NEAREST_M = 0.03
_MARGIN = 0.3  # of the picture, beyond its border, that the arm may yet bring into view
_STEP = 2.0**0.5  # tolerances are rounded down to powers of it, so that scenes that differ little share their meshes


def drawn_model(model: mujoco.MjModel, level: Level, tolerances: Mapping[int, float]) -> mujoco.MjModel:
    """A copy of `model` whose meshes have the level's detail; tolerances: of each mesh by number, metres.

    It has the same meshes by number, so a context made from it draws scenes of `model`.
    """
    drawn = copy.copy(model)
    textured = _textured(model)
    for mesh, tolerance in tolerances.items():
        full = _mesh(model, mesh, mesh in textured)
        less = full
        if level.hulls and full.uv is None:
            less = hull(full)
        less = simplified(less, tolerance)
        if len(less.faces) < len(full.faces):
            _put(drawn, mesh, less)
    return drawn


def tolerances(
    model: mujoco.MjModel, data: mujoco.MjData, level: Level, cameras: Sequence[str], height: int
) -> dict[int, float]:
    """How far the surface of each mesh may move, metres, so that no camera sees it move by more than the level's error.

    Pictures have `height` rows. A fixed camera sees everything where it is in `data`. One on a hand may come as near
    as 10 cm to all that is not part of the same arm. What a camera does not see has no say. Empty where the level
    leaves meshes as they are.
    """
    if level.error_px is None:
        return {}
    found = dict.fromkeys(range(model.nmesh), np.inf)
    meshes = {mesh: _mesh(model, mesh, False).vertices for mesh in found}
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_MESH.value):
        mesh = int(model.geom_dataid[geom])
        vertices = meshes[mesh] @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        for name in cameras:
            camera = model.camera(name).id
            tangent = np.tan(np.radians(model.cam_fovy[camera]) / 2)
            across = (vertices - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
            depth = -across[:, 2]
            seen = (np.abs(across[:, :2]) < (1 + _MARGIN) * tangent * depth[:, None]).all(1)
            away = max(depth[seen].min(), _NEAREST_M) if seen.any() else np.inf
            if _approaches(model, model.cam_bodyid[camera], model.geom_bodyid[geom]):
                away = min(away, _APPROACHED_M)
            found[mesh] = min(found[mesh], level.error_px * away * tangent * 2 / height)
    largest = {mesh: np.ptp(vertices, axis=0).max() / 4 for mesh, vertices in meshes.items()}
    return {mesh: _round(min(allowed, largest[mesh])) for mesh, allowed in found.items()}


def _approaches(model: mujoco.MjModel, camera_body: int, body: int) -> bool:
    """Whether the camera moves, and the body is not of its arm."""
    return bool(model.body_weldid[camera_body]) and model.body_rootid[camera_body] != model.body_rootid[body]


def _round(tolerance: float) -> float:
    return float(_STEP ** np.floor(np.log(max(tolerance, 1e-6)) / np.log(_STEP)))


def _textured(model: mujoco.MjModel) -> set[int]:
    """Meshes that a geom with a texture has."""
    has = np.array([(texture >= 0).any() for texture in model.mat_texid], bool)
    geoms = np.flatnonzero((model.geom_type == mujoco.mjtGeom.mjGEOM_MESH.value) & (model.geom_matid >= 0))
    return {int(model.geom_dataid[geom]) for geom in geoms if has[model.geom_matid[geom]]}


def _mesh(model: mujoco.MjModel, mesh: int, textured: bool) -> Mesh:
    start, faces = model.mesh_vertadr[mesh], _rows(model.mesh_faceadr[mesh], model.mesh_facenum[mesh])
    vertices, corners = model.mesh_vert[start : start + model.mesh_vertnum[mesh]], model.mesh_face[faces]
    at = model.mesh_texcoordadr[mesh]
    if at < 0 or not textured:
        return Mesh(vertices.copy(), corners.copy())
    # A vertex with several places in the texture is as many vertices.
    pairs = np.stack([corners, model.mesh_facetexcoord[faces]], axis=-1).reshape(-1, 2)
    pairs, renamed = np.unique(pairs, axis=0, return_inverse=True)
    uv = model.mesh_texcoord[at : at + model.mesh_texcoordnum[mesh]]
    return Mesh(vertices[pairs[:, 0]], renamed.reshape(-1, 3).astype(np.int32), uv[pairs[:, 1]])


def _put(model: mujoco.MjModel, mesh: int, less: Mesh) -> None:
    """Writes a mesh into the place of one with more of everything; left as it is where something does not fit."""
    unit, corners = normals(less)
    needed = {"vert": len(less.vertices), "normal": len(unit), "face": len(less.faces)}
    if less.uv is not None:
        needed["texcoord"] = len(less.uv)
    if any(count > getattr(model, f"mesh_{what}num")[mesh] for what, count in needed.items()):
        return
    for what, rows in (("vert", less.vertices), ("normal", unit), ("texcoord", less.uv)):
        if rows is not None:
            at = getattr(model, f"mesh_{what}adr")[mesh]
            getattr(model, f"mesh_{what}")[at : at + len(rows)] = rows
            getattr(model, f"mesh_{what}num")[mesh] = len(rows)
    faces = _rows(model.mesh_faceadr[mesh], len(less.faces))
    model.mesh_face[faces], model.mesh_facenormal[faces] = less.faces, corners
    model.mesh_facetexcoord[faces] = 0 if less.uv is None else less.faces
    model.mesh_facenum[mesh] = len(less.faces)


def _rows(start: int, count: int) -> slice:
    return slice(int(start), int(start) + int(count))
