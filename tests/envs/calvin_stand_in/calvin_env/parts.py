"""A box for a hand, a table with joints, three blocks and two cameras."""

import numpy as np
import pybullet as p  # pyright: ignore[reportMissingImports]

HALF_M = 0.02
RGBA = {"block_red": (1, 0, 0, 1), "block_blue": (0, 0, 1, 1), "block_pink": (1, 0, 1, 1)}


def box(cid, half, place, rgba=(0.7, 0.7, 0.7, 1), mass=0.0):
    shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=cid)
    look = p.createVisualShape(p.GEOM_BOX, halfExtents=half, rgbaColor=rgba, physicsClientId=cid)
    return p.createMultiBody(mass, shape, look, place, physicsClientId=cid)


class Robot:
    """A hand that a fixed constraint draws to its target."""

    def __init__(self, base_position, euler_obs, use_nullspace, max_rel_pos, max_rel_orn, cid, **_):
        assert euler_obs and use_nullspace and len(base_position) == 3
        self.cid, self.shares = cid, (max_rel_pos, max_rel_orn)
        self.gripper_action = 1
        self.target, self.turn = np.zeros(3), np.zeros(3)

    def load(self):
        self.robot_uid = box(self.cid, [0.03] * 3, [0, -0.3, 0.6], (0.2, 0.2, 0.2, 1), mass=1.0)
        at_centre = ([0, 0, 0], [0, 0, 0], [0, -0.3, 0.6])
        self.hold = p.createConstraint(self.robot_uid, -1, -1, -1, p.JOINT_FIXED, *at_centre, physicsClientId=self.cid)

    def reset(self, robot_obs):
        self.target, self.turn = robot_obs[:3].copy(), robot_obs[3:6].copy()
        turn = p.getQuaternionFromEuler(self.turn)
        p.resetBasePositionAndOrientation(self.robot_uid, self.target, turn, physicsClientId=self.cid)
        self.draw()

    def draw(self):
        turn = p.getQuaternionFromEuler(self.turn)
        p.changeConstraint(self.hold, self.target, turn, maxForce=500, physicsClientId=self.cid)

    def apply_action(self, action):
        way, turn, gripper = np.split(action, [3, 6])
        way *= self.shares[0]  # in place, as calvin_env does
        turn *= self.shares[1]
        assert gripper[0] in (-1, 1)
        self.target, self.turn, self.gripper_action = self.target + way, self.turn + turn, gripper[0]
        self.draw()

    def get_observation(self):
        place, turn = p.getBasePositionAndOrientation(self.robot_uid, physicsClientId=self.cid)
        joints = [0.08, *self.target, *self.turn, 0.0]
        contacts = p.getContactPoints(bodyA=self.robot_uid, physicsClientId=self.cid)
        seen = [*place, *p.getEulerFromQuaternion(turn), *joints, self.gripper_action]
        return np.array(seen), {"uid": self.robot_uid, "contacts": contacts}


class Joint:
    """A door, a button or a switch: one joint of the table."""

    def __init__(self, name, uid, cid, lit_by_it=None):
        self.name, self.uid, self.cid, self.light = name, uid, cid, lit_by_it
        numbers = range(p.getNumJoints(uid, physicsClientId=cid))
        names = [p.getJointInfo(uid, number, physicsClientId=cid)[1].decode() for number in numbers]
        self.number = names.index(name)
        self.state, self.pressed_before = 0, False
        p.setJointMotorControl2(uid, self.number, p.VELOCITY_CONTROL, force=1.0, physicsClientId=cid)

    def reset(self, value):
        p.resetJointState(self.uid, self.number, float(np.asarray(value).item()), physicsClientId=self.cid)
        self.state = self.light.state if self.light else 0  # of a light that is reset later, as calvin_env does

    def get_state(self):
        return p.getJointState(self.uid, self.number, physicsClientId=self.cid)[0]

    def step(self):
        pressed = self.get_state() > 0.04
        if pressed and not self.pressed_before and self.light:
            self.state = self.light.state = 1 - self.state
        self.pressed_before = pressed


class Light:
    def __init__(self, name):
        self.name, self.state = name, 0

    def reset(self, value):
        self.state = int(np.asarray(value).item())


class Block:
    def __init__(self, name, cid):
        self.name, self.cid = name, cid
        self.uid = box(cid, [HALF_M] * 3, [0, 0, 1], RGBA[name], mass=0.1)

    def reset(self, pose):
        turn = p.getQuaternionFromEuler(pose[3:])
        p.resetBasePositionAndOrientation(self.uid, pose[:3], turn, physicsClientId=self.cid)

    def get_info(self):
        place, turn = p.getBasePositionAndOrientation(self.uid, physicsClientId=self.cid)
        return {"current_pos": place, "current_orn": turn, "uid": self.uid}


class Scene:
    def __init__(self, data_path, objects, euler_obs, cid, **_):
        assert euler_obs
        self.cid, self.data_path, self.names = cid, data_path, list(objects)

    def load(self):
        table = p.loadURDF(f"{self.data_path}/table.urdf", useFixedBase=True, physicsClientId=self.cid)
        self.lights = [Light("lightbulb"), Light("led")]
        self.doors = [Joint(name, table, self.cid) for name in ("base__slide", "base__drawer")]
        self.buttons = [Joint("base__button", table, self.cid, self.lights[1])]
        self.switches = [Joint("base__switch", table, self.cid, self.lights[0])]
        self.movable_objects = [Block(name, self.cid) for name in self.names]
        self.loose = box(self.cid, [HALF_M] * 3, [-0.3, -0.2, 0.46], (0, 1, 0, 1), mass=0.1)

    def reset(self, scene_obs):
        joints = [*self.doors, *self.buttons, *self.switches, *self.lights]
        for part, value in zip(joints, scene_obs[: len(joints)], strict=True):
            part.reset(value)
        for block, pose in zip(self.movable_objects, scene_obs[len(joints) :].reshape(-1, 6), strict=True):
            block.reset(pose)

    def step(self):
        for part in (*self.buttons, *self.switches):
            part.step()

    def get_info(self):
        return {
            "movable_objects": {block.name: block.get_info() for block in self.movable_objects},
            "doors": {door.name: {"current_state": door.get_state()} for door in self.doors},
            "lights": {light.name: {"logical_state": light.state} for light in self.lights},
        }


class Camera:
    def __init__(self, name, fov, width, height, cid, robot_id, look_from=None, look_at=None):
        self.name, self.fov, self.width, self.height, self.cid = name, fov, width, height, cid
        self.robot, self.look_from, self.look_at = robot_id, look_from, look_at

    def render(self):
        eye, at, up = self.look_from, self.look_at, [0, 0, 1]
        if eye is None:
            eye = p.getBasePositionAndOrientation(self.robot, physicsClientId=self.cid)[0]
            at, up = np.add(eye, [0, 0, -1]), [0, 1, 0]
        view = p.computeViewMatrix(eye, at, up)
        lens = p.computeProjectionMatrixFOV(self.fov, 1.0, 0.05, 10.0)
        drawn = p.getCameraImage(
            self.width, self.height, view, lens, renderer=p.ER_TINY_RENDERER, physicsClientId=self.cid
        )
        return np.reshape(drawn[2], (self.height, self.width, 4))[:, :, :3], np.asarray(drawn[3])
