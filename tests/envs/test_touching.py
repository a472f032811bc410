"""What a robot takes first: of two cubes on a plane, by a hand of two fingers that is put where a test wants it."""

import deixis.envs.foreign  # noqa: F401  isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco
import numpy as np
import pytest

from deixis.envs.touching import Touching

SCENE = """
<mujoco><option gravity="0 0 -9.81"/>
<worldbody>
  <geom type="plane" size="2 2 0.1"/>
  <body name="red" pos="0 0 0.02"><freejoint/><geom type="box" size="0.02 0.02 0.02" mass="0.05"/></body>
  <body name="blue" pos="0.3 0 0.02"><freejoint/><geom type="box" size="0.02 0.02 0.02" mass="0.05"/></body>
  <body name="door" pos="0.6 0 0.2"><joint type="hinge" axis="0 0 1"/><geom type="box" size="0.1 0.01 0.1"/></body>
  <body name="left" mocap="true" pos="0 0.2 0.02"><geom type="box" size="0.01 0.01 0.02" friction="2 0.1 0.1"/></body>
  <body name="right" mocap="true" pos="0 -0.2 0.02"><geom type="box" size="0.01 0.01 0.02" friction="2 0.1 0.1"/></body>
</worldbody></mujoco>
"""
NAMES, ROBOT = ("red", "blue", "door"), 255


@pytest.fixture
def world() -> tuple[mujoco.MjModel, mujoco.MjData, Touching]:
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 50)
    owner = np.zeros(model.ngeom, np.uint8)
    for geom in range(model.ngeom):
        name = model.body(model.geom_bodyid[geom]).name
        owner[geom] = NAMES.index(name) + 1 if name in NAMES else ROBOT if name in ("left", "right") else 0
    return model, data, Touching(model, data, NAMES, [model.body(name).id for name in NAMES], owner, ROBOT)


def _bring(world: tuple[mujoco.MjModel, mujoco.MjData, Touching], ways: dict[int, np.ndarray], steps: int = 20) -> None:
    model, data, touching = world
    begin = data.mocap_pos.copy()
    for step in range(1, steps + 1):
        for finger, goal in ways.items():
            data.mocap_pos[finger] = begin[finger] + (goal - begin[finger]) * step / steps
        mujoco.mj_step(model, data, 10)
        touching.update(data)


def _told(touching: Touching) -> tuple[str | None, str | None, str | None]:
    return touching.first_touched, touching.first_grasped, touching.first_moved


def test_nothing_is_taken_by_a_hand_that_is_elsewhere(world) -> None:
    _bring(world, {0: np.array((0.0, 0.1, 0.02))})
    assert _told(world[2]) == (None, None, None)


def test_what_is_touched_is_moved_only_once_it_is_elsewhere(world) -> None:
    _bring(world, {0: np.array((0.0, 0.029, 0.02))})
    assert _told(world[2]) == ("red", None, None)
    _bring(world, {0: np.array((0.0, -0.03, 0.02))})
    assert _told(world[2]) == ("red", None, "red")


def test_the_first_stays_the_first(world) -> None:
    _bring(world, {0: np.array((0.0, -0.03, 0.02))}, 100)
    world[1].mocap_pos[1] = (0.3, -0.1, 0.02)
    _bring(world, {1: np.array((0.3, 0.05, 0.02))}, 100)
    assert _told(world[2]) == ("red", None, "red")
    assert np.linalg.norm(world[1].body("blue").xpos - (0.3, 0, 0.02)) > 0.02


def test_what_two_fingers_raise_is_grasped(world) -> None:
    model, data, touching = world

    def held_at(height: float, fingers: int) -> None:
        data.qpos[2], data.qvel[:] = height, 0
        data.mocap_pos[:] = [(0.0, 0.029, height), (0.0, -0.029 if fingers == 2 else -0.1, height)]
        mujoco.mj_step(model, data)
        touching.update(data)

    held_at(0.025, 2)
    assert _told(touching) == ("red", None, None)  # held, not raised
    held_at(0.1, 1)
    assert _told(touching) == ("red", None, "red")  # raised, not held
    held_at(0.1, 2)
    assert _told(touching) == ("red", "red", "red")


def test_what_slides_by_itself_is_not_taken(world) -> None:
    _model, data, touching = world
    data.qvel[6:9] = (1.0, 0.0, 0.0)
    _bring(world, {}, 30)
    assert np.linalg.norm(data.body("blue").xpos - (0.3, 0, 0.02)) > 0.02 and _told(touching) == (None, None, None)


def test_a_door_is_not_among_what_one_can_take(world) -> None:
    _model, data, touching = world
    assert touching.free == ["red", "blue"]
    data.mocap_pos[0] = (0.68, 0.1, 0.15)
    _bring(world, {0: np.array((0.68, -0.05, 0.15))})
    assert abs(data.joint(2).qpos[0]) > 0.1 and _told(touching) == (None, None, None)
