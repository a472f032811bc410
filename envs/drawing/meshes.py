"""Triangle meshes with fewer triangles, whose surfaces stray hardly further than asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy.spatial import ConvexHull, KDTree, QhullError

_VERSION = 2  # of what is written here: another one makes other meshes
_SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6)  # of the triangles, tried from the fewest on
_FEWEST = 64  # triangles below which there is nothing to gain
_TEXTURE_CELLS = 64  # along each side of a texture
_CELLS = (2.0, 1.5, 1.0, 0.5, 0.25)  # tolerances, of the cells in which vertices are merged
_ASKED, _MAY_STRAY = 4000, 0.01
_POINTS, _NEAREST = 50_000, 8  # on a surface, about; of them, whose triangles a place is compared with
_MOST_PARTS = 128  # that the side of a triangle is divided into where it is measured
_CREASE = 0.8  # cosine of the angle beyond which an edge is drawn sharp


@dataclass(frozen=True)
class Mesh:
    """vertices float32 [V, 3] metres; faces int32 [F, 3], outward by the right hand; uv float32 [V, 2] or None."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None


def simplified(mesh: Mesh, tolerance: float) -> Mesh:
    """The mesh with the fewest triangles tried such that of either surface 99% lies within `tolerance` (metres) of the
    other; `mesh` itself where no such mesh was found. A bolt may go, a link may not.

    Edges are collapsed by quadric error (Garland and Heckbert 1997, by the package fast-simplification); the distance
    is measured afterwards.
    """
    if len(mesh.faces) < _FEWEST or tolerance <= 0:
        return mesh
    vertices, faces = np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int32)
    uv = None if mesh.uv is None else np.ascontiguousarray(mesh.uv, np.float32)
    return _known(Mesh(vertices, faces, uv), tolerance)


_found: dict[str, Mesh] = {}  # an arm's meshes are those of many tasks


def _known(mesh: Mesh, tolerance: float) -> Mesh:
    """What was found before, in this process or in another one's cache, else now."""
    digest = hashlib.sha256(f"{_VERSION} {tolerance:.6g}".encode())
    for array in (mesh.vertices, mesh.faces, *(() if mesh.uv is None else (mesh.uv,))):
        digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
    key = digest.hexdigest()
    if key not in _found:
        path = cache_folder() / f"{key}.npz"
        found = _read(path)
        if found is None:
            found = _searched(mesh, tolerance)
            _write(path, found)
        _found[key] = found
    return _found[key]


def cache_folder() -> Path:
    """Where simplified meshes lie between runs; it can be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deixis" / "meshes"


def _read(path: Path) -> Mesh | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Mesh(arrays["vertices"], arrays["faces"], arrays.get("uv"))
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _write(path: Path, mesh: Mesh) -> None:
    arrays = {"vertices": mesh.vertices, "faces": mesh.faces}
    if mesh.uv is not None:
        arrays["uv"] = mesh.uv
    with suppress(OSError):  # a cache that cannot be written is done without
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(file.name, path)


def _searched(mesh: Mesh, tolerance: float) -> Mesh:
    """Vertices are merged as coarsely as `mesh` allows first, edges collapsed then."""
    judge = _Judge(mesh, tolerance)
    merged = _first(judge, (_welded(mesh, tolerance * size) for size in _CELLS)) or mesh
    counts = [int(len(mesh.faces) * share) for share in _SHARES]
    counts = [count for count in counts if _FEWEST / 4 <= count < len(merged.faces)]
    found, low, high = merged, 0, len(counts)
    while low < high:  # bisection: the more triangles, the nearer
        middle = (low + high) // 2
        tried = _collapsed(merged, counts[middle])
        if judge.keeps(tried):
            found, high = tried, middle
        else:
            low = middle + 1
    return found


def _first(judge: _Judge, candidates: Iterable[Mesh]) -> Mesh | None:
    return next((candidate for candidate in candidates if judge.keeps(candidate)), None)


class _Judge:
    """Whether another mesh lies within a tolerance of one. Either surface is asked at `_ASKED` places."""

    def __init__(self, mesh: Mesh, tolerance: float) -> None:
        self._tolerance, self._places, self._surface = tolerance, _places(mesh), _Surface(mesh, tolerance)

    def keeps(self, other: Mesh) -> bool:
        """Whether all but `_MAY_STRAY` of either surface lies within the tolerance of the other."""
        if not len(other.faces) or self._strays(self._surface, _places(other)):
            return False
        return not self._strays(_Surface(other, self._tolerance), self._places)

    def _strays(self, surface: _Surface, places: np.ndarray) -> bool:
        return bool((surface.distance(places) > self._tolerance).mean() > _MAY_STRAY)


class _Surface:
    """How far places are from a mesh: from the triangles of the points on it that are nearest, so never underrated."""

    def __init__(self, mesh: Mesh, tolerance: float) -> None:
        self._corners = mesh.vertices[mesh.faces].astype(np.float64)
        area = np.linalg.norm(_across(self._corners), axis=1).sum() / 2
        points, self._triangle = _spread(self._corners, max(tolerance / 2, np.sqrt(area / _POINTS)))
        self._tree = KDTree(points, balanced_tree=False, compact_nodes=False)

    def distance(self, places: np.ndarray) -> np.ndarray:
        """Of places [N, 3], [N] metres."""
        _, near = self._tree.query(places, k=min(_NEAREST, len(self._triangle)))
        near = near.reshape(len(places), -1)
        far = _to_triangles(np.repeat(places, near.shape[1], axis=0), self._corners[self._triangle[near.ravel()]])
        return far.reshape(near.shape).min(1)


def hull(mesh: Mesh) -> Mesh:
    """The convex hull; `mesh` itself where it is flat."""
    try:
        found = ConvexHull(mesh.vertices)
    except QhullError:
        return mesh
    faces = found.simplices.astype(np.int32)
    corners = mesh.vertices[faces]
    inward = ((_across(corners) * found.equations[:, :3]).sum(1) < 0).nonzero()[0]
    faces[inward] = faces[inward][:, ::-1]
    kept, renamed = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices[kept], renamed.reshape(-1, 3).astype(np.int32))


def normals(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals float32 [V + F, 3] and the three of each face, int32 [F, 3]: smooth, but sharp across creases."""
    across = _across(mesh.vertices[mesh.faces])
    smooth = np.zeros_like(mesh.vertices, dtype=np.float64)
    for corner in range(3):
        np.add.at(smooth, mesh.faces[:, corner], across)
    flat, smooth = _unit(across), _unit(smooth)
    sharp = (smooth[mesh.faces] * flat[:, None]).sum(-1) < _CREASE
    own = len(mesh.vertices) + np.arange(len(mesh.faces), dtype=np.int32)[:, None]
    return np.concatenate([smooth, flat]).astype(np.float32), np.where(sharp, own, mesh.faces).astype(np.int32)


def _welded(mesh: Mesh, size: float) -> Mesh:
    """Vertices that share a cell of this size, and one of the texture, as one; without triangles that lose their area.

    Scanned and drawn meshes are often many pieces, whose borders no collapse may cross.
    """
    cells = np.round(mesh.vertices / size)
    if mesh.uv is not None:
        cells = np.concatenate([cells, np.round(mesh.uv * _TEXTURE_CELLS)], axis=1)
    _, first, renamed = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = renamed.reshape(-1)[mesh.faces].astype(np.int32)
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, once = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return Mesh(mesh.vertices[first], faces[np.sort(once)], None if mesh.uv is None else mesh.uv[first])


def _collapsed(mesh: Mesh, count: int) -> Mesh:
    """The mesh with about `count` triangles."""
    try:
        import fast_simplification
    except ModuleNotFoundError as error:
        raise ImportError(
            "meshes are simplified by fast-simplification, which is not here; pip install 'deixis[robosuite]' (or "
            "metaworld, or libero), or draw with level='plain'"
        ) from error

    points, faces = mesh.vertices.astype(np.float64), np.ascontiguousarray(mesh.faces)
    if count >= len(faces):
        return mesh
    reduction = 1.0 - count / len(faces)
    *_, collapses = fast_simplification.simplify(points, faces, reduction, agg=3, return_collapses=True)
    replayed: Any = fast_simplification.replay_simplification(points, faces, collapses)
    vertices, faces, moved_to = replayed
    vertices = np.ascontiguousarray(vertices, np.float32)
    uv = None
    if mesh.uv is not None:
        away = np.linalg.norm(mesh.vertices - vertices[moved_to], axis=1)
        order = np.lexsort((away, moved_to))
        first = order[np.unique(moved_to[order], return_index=True)[1]]
        uv = np.zeros((len(vertices), 2), np.float32)
        uv[moved_to[first]] = mesh.uv[first]
    return Mesh(vertices, np.ascontiguousarray(faces, np.int32), uv)


def _places(mesh: Mesh) -> np.ndarray:
    """Places on the surface, as many on equal areas, [_ASKED, 3]."""
    rng = np.random.default_rng(0)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(_across(corners), axis=1)
    chosen = corners[rng.choice(len(corners), _ASKED, p=area / area.sum())]
    return np.einsum("nc,ncx->nx", rng.dirichlet((1.0, 1.0, 1.0), _ASKED), chosen)


def _spread(corners: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points on triangles [F, 3, 3] about a spacing apart, the corners among them [N, 3], and whose they are [N]."""
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(1)
    parts = np.minimum(np.maximum(1, np.ceil(longest / spacing)), _MOST_PARTS).astype(int)
    points, owners = [], []
    for count in np.unique(parts):
        first, second = np.divmod(np.arange((count + 1) ** 2), count + 1)
        kept = first + second <= count
        weights = np.stack([first, second, count - first - second], axis=1)[kept] / count
        chosen = np.flatnonzero(parts == count)
        points.append(np.einsum("wc,fcx->fwx", weights, corners[chosen]).reshape(-1, 3))
        owners.append(np.repeat(chosen, len(weights)))
    return np.concatenate(points), np.concatenate(owners)


def _to_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distances of points [N, 3] from one triangle each [N, 3, 3], [N]."""
    normal = _unit(_across(corners))
    height = ((points - corners[:, 0]) * normal).sum(1)
    foot = points - height[:, None] * normal
    inside, nearest = (normal != 0).any(1), np.full(len(points), np.inf)
    for corner in range(3):
        start = corners[:, corner]
        edge = corners[:, (corner + 1) % 3] - start
        inside &= (np.cross(edge, foot - start) * normal).sum(1) >= 0
        along = ((points - start) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-24)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - along.clip(0, 1)[:, None] * edge, axis=1))
    return np.where(inside, np.abs(height), nearest)


def _across(corners: np.ndarray) -> np.ndarray:
    """Cross products of two edges of triangles [F, 3, 3]: along the normal, twice the area long, [F, 3]."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
