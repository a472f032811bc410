"""Levels of drawing: what is simplified stays where it was, what is simulated stays what it was."""

import copy

import numpy as np
import pytest

from deixis.envs.drawing.renderer import level_renderer  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from deixis.envs.drawing import meshes
from deixis.envs.drawing.detail import drawn_model, tolerances
from deixis.envs.drawing.level import LEVELS, level_named
from deixis.envs.drawing.meshes import Mesh, hull, normals, simplified

pytest.importorskip("fast_simplification", reason="needs the extra metaworld, robosuite or libero")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def sphere(rings: int, radius: float = 0.1, uv: bool = False) -> Mesh:
    """A sphere of `rings` rings and twice as many segments, with a place in a texture for each vertex."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    at = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(rings - 1), np.arange(2 * rings - 1), indexing="ij")
    first = (row * 2 * rings + column).ravel()
    faces = np.concatenate(
        [
            np.stack([first, first + 2 * rings, first + 1], 1),
            np.stack([first + 1, first + 2 * rings, first + 2 * rings + 1], 1),
        ]
    )
    places = np.stack([turn / (2 * np.pi), polar / np.pi], -1).reshape(-1, 2).astype(np.float32) if uv else None
    return Mesh((radius * at).astype(np.float32), faces.astype(np.int32), places)


@settings(max_examples=6, deadline=None)
@given(rings=st.integers(12, 40), tolerance=st.floats(0.001, 0.02))
def test_a_simplified_sphere_stays_within_its_tolerance(rings: int, tolerance: float) -> None:
    full = sphere(rings)
    found = simplified(full, tolerance)
    assert len(found.faces) <= len(full.faces)
    corners = found.vertices[found.faces]
    weights = np.random.default_rng(0).dirichlet((1, 1, 1), (len(corners), 8))
    points = np.einsum("fwc,fcx->fwx", weights, corners)
    flat = 0.1 * (1 - np.cos(np.pi / 2 / (rings - 1)))  # by which a polyhedron of so many rings falls short of a sphere
    off = np.abs(np.linalg.norm(points, axis=-1) - 0.1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    beyond = (off > tolerance + 2 * flat).mean(1)
    assert (beyond * area).sum() / area.sum() < 0.03, "1% may stray, and is measured at 4,000 places"


def test_more_tolerance_leaves_fewer_triangles_and_a_fine_mesh_loses_most() -> None:
    full = sphere(60)
    counts = [len(simplified(full, tolerance).faces) for tolerance in (0.0005, 0.002, 0.008)]
    assert counts == sorted(counts, reverse=True) and counts[1] < 0.15 * len(full.faces), counts
    assert simplified(full, 0.0) is full and len(simplified(sphere(4), 0.01).faces) == len(sphere(4).faces)


def test_what_was_found_once_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    full = sphere(31)
    first = simplified(full, 0.003)
    meshes._found.clear()
    monkeypatch.setattr(meshes, "_searched", lambda *_: pytest.fail("it was searched for again"))
    again = simplified(full, 0.003)
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)
    for file in meshes.cache_folder().glob("*.npz"):
        file.write_bytes(b"not a mesh")
    meshes._found.clear()
    with pytest.raises(pytest.fail.Exception, match="searched for again"):
        simplified(full, 0.003)


def test_a_texture_stays_where_it_was() -> None:
    full = sphere(48, uv=True)
    found = simplified(full, 0.004)
    assert found.uv is not None and full.uv is not None and len(found.faces) < len(full.faces) / 2
    _, nearest = KDTree(full.vertices).query(found.vertices)
    inner = (found.uv[:, 0] > 0.1) & (found.uv[:, 0] < 0.9) & (found.uv[:, 1] > 0.1) & (found.uv[:, 1] < 0.9)
    assert np.abs(found.uv - full.uv[nearest])[inner].max() < 0.08


def test_a_hull_is_convex_and_its_faces_look_outward() -> None:
    rng = np.random.default_rng(0)
    cloud = Mesh(rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 200, (300, 3)).astype(np.int32))
    found = hull(cloud)
    corners = found.vertices[found.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    heights = np.einsum("fx,vfx->vf", across, found.vertices[:, None] - corners[None, :, 0])
    assert heights.max() < 1e-5, "no vertex lies before a face"
    flat = Mesh(np.c_[rng.normal(size=(9, 2)), np.zeros(9)].astype(np.float32), cloud.faces[:4] % 9)
    assert hull(flat) is flat


def test_normals_are_smooth_on_a_sphere_and_sharp_on_a_cube() -> None:
    ball = sphere(30)
    unit, corners = normals(ball)
    placed = ball.vertices[ball.faces]
    area = np.linalg.norm(np.cross(placed[:, 1] - placed[:, 0], placed[:, 2] - placed[:, 0]), axis=1)
    real = area > 1e-9
    outward = ball.vertices[ball.faces[real]] / 0.1
    inner = np.abs(outward[:, :, 0]).max(1) < 0.8  # beside the seam, where vertices are there twice
    assert (unit[corners[real]][inner] * outward[inner]).sum(-1).min() > 0.97
    box = hull(Mesh(np.array(np.meshgrid(*[[-1.0, 1]] * 3), np.float32).reshape(3, -1).T, np.zeros((0, 3), np.int32)))
    unit, corners = normals(box)
    assert np.allclose(np.abs(unit[corners]).max(-1), 1, atol=1e-6), "each corner of a face has that face's normal"


SCENE = """
<mujoco>
  <asset><mesh name="ball" vertex="{vertices}" face="{faces}"/></asset>
  <worldbody>
    <light pos="0 0 3"/><light pos="1 1 3" castshadow="true" directional="true"/>
    <camera name="near" pos="0.5 0 0.52" xyaxes="0 1 0 -0.4 0 0.9"/>
    <camera name="far" pos="0 -2.5 0.6" xyaxes="1 0 0 0 0.25 1"/>
    <geom type="plane" size="2 2 0.1" rgba="0.5 0.6 0.5 1"/>
    <body pos="0 0 0.3"><freejoint/><geom type="mesh" mesh="ball" rgba="0.9 0.2 0.1 1"/></body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    ball = sphere(60)
    text = SCENE.format(
        vertices=" ".join(map(str, ball.vertices.ravel())), faces=" ".join(map(str, ball.faces.ravel()))
    )
    return mujoco.MjModel.from_xml_string(text)


def moved(model: mujoco.MjModel) -> mujoco.MjData:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data


def allowed(model: mujoco.MjModel, level: str, cameras: tuple[str, ...], height: int = 84) -> dict[int, float]:
    return tolerances(model, moved(model), LEVELS[level], cameras, height)


def test_the_nearer_a_camera_the_more_is_drawn_and_the_model_itself_is_untouched(model: mujoco.MjModel) -> None:
    before = copy.copy(model)

    def triangles(cameras: tuple[str, ...], height: int = 84) -> int:
        return int(drawn_model(model, LEVELS["simple"], allowed(model, "simple", cameras, height)).mesh_facenum[0])

    assert triangles(("far",)) < triangles(("near",)) == triangles(("far", "near")) < model.mesh_facenum[0]
    assert triangles(("far",)) < triangles(("far",), 336), "a larger picture shows more"
    for name in ("mesh_vert", "mesh_face", "mesh_facenum", "mesh_normal"):
        assert np.array_equal(getattr(model, name), getattr(before, name)), name


def test_levels_look_alike_and_several_cameras_at_once_are_each_alone(model: mujoco.MjModel) -> None:
    data, found = moved(model), {}
    for name, level in LEVELS.items():
        renderer = level_renderer(model, level, allowed(model, name, ("near", "far")))
        found[name] = renderer.pictures(data, ("near", "far"), 84, 84)
        for camera, picture in found[name].items():
            alone = renderer.rgb(data, camera, 84, 84)
            assert np.abs(picture.astype(int) - alone).mean() < 0.02, (name, camera)
    for camera in ("near", "far"):
        plain = found["plain"][camera].astype(int)
        differing = {name: (np.abs(found[name][camera] - plain).max(-1) > 40).mean() for name in LEVELS}
        assert differing["simple"] <= 0.01 and differing["coarse"] <= 0.05, (camera, differing)
    assert (found["package"]["near"] != found["plain"]["near"]).any(), "shadows are drawn where they are asked for"
    red = np.argwhere(found["simple"]["near"][..., 0] > 2 * found["simple"]["near"][..., 1].astype(int))
    assert 0.15 < len(red) / 84**2 < 0.6 and abs(red.mean(0) - 42).max() < 14, "the ball is where it is"


def test_a_reset_that_builds_its_model_anew_uploads_nothing(
    model: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    simple, coarse = (allowed(model, level, ("near",), 21) for level in ("simple", "coarse"))  # as no other test has
    level_renderer(model, LEVELS["simple"], simple)
    monkeypatch.setattr(mujoco, "MjrContext", lambda *_: pytest.fail("uploaded again"))
    again = copy.copy(model)
    again.body_pos[1] += 0.1
    level_renderer(again, LEVELS["simple"], simple)
    with pytest.raises(pytest.fail.Exception, match="uploaded again"):
        level_renderer(again, LEVELS["coarse"], coarse)
    with pytest.raises(pytest.fail.Exception, match="uploaded again"):
        level_renderer(model, LEVELS["simple"], coarse)  # other errors, other meshes


ARM = """
<mujoco>
  <asset><mesh name="ball" vertex="{vertices}" face="{faces}"/></asset>
  <worldbody>
    <body name="arm" pos="0 0 1">
      <joint axis="0 0 1"/>
      <camera name="hand" pos="0 0 0.5" xyaxes="1 0 0 0 1 0"/>
      {own}
    </body>
    <body name="cabinet" pos="3 0 0.1">{other}</body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize("of_arm", [True, False])
def test_a_camera_on_a_hand_may_come_near_to_all_but_its_own_arm(of_arm: bool) -> None:
    ball, solid = sphere(20), '<geom type="mesh" mesh="ball"/>'
    model = mujoco.MjModel.from_xml_string(
        ARM.format(
            vertices=" ".join(map(str, ball.vertices.ravel())),
            faces=" ".join(map(str, ball.faces.ravel())),
            own=solid if of_arm else '<geom size="0.01"/>',
            other='<geom size="0.01"/>' if of_arm else solid,
        )
    )
    (found,) = allowed(model, "simple", ("hand",)).values()
    tangent = np.tan(np.radians(model.cam_fovy[0]) / 2)
    nearest = 0.5 - 0.1 if of_arm else 0.1  # the ball around the arm's own origin, or one that may come to 10 cm
    assert found <= 0.5 * nearest * tangent * 2 / 84 < found * 2**0.5 * (1 + 1e-6)


def test_who_else_draws_does_not_change_what_is_drawn(model: mujoco.MjModel) -> None:
    data, renderer = moved(model), level_renderer(model, LEVELS["plain"], {})
    before = renderer.rgb(data, "near", 84, 84)
    other = mujoco.GLContext(32, 32)
    other.make_current()
    uploaded = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    assert np.array_equal(renderer.rgb(data, "near", 84, 84), before)
    other.make_current()
    uploaded.free()
    other.free()


def test_an_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"level: found 'best', wanted one of package .*hulls"):
        level_named("best")
