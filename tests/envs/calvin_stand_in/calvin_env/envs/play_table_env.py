"""The environment, with the arguments and members that CALVIN's has."""

import hydra  # pyright: ignore[reportMissingImports]
import numpy as np
import pybullet as p  # pyright: ignore[reportMissingImports]
import pybullet_utils.bullet_client as clients  # pyright: ignore[reportMissingImports]


class PlayTableSimEnv:
    def __init__(
        self,
        robot_cfg,
        seed,
        use_vr,
        bullet_time_step,
        cameras,
        show_gui,
        scene_cfg,
        use_scene_info,
        use_egl,
        control_freq,
    ):
        assert not use_vr and not show_gui and not use_egl and use_scene_info
        self.p = clients.BulletClient(connection_mode=p.DIRECT)
        self.cid, self.ownsPhysicsClient = self.p._client, True
        self.repeat = int(bullet_time_step // control_freq)
        self.p.setTimeStep(1.0 / bullet_time_step, physicsClientId=self.cid)
        self.p.setGravity(0, 0, -9.8, physicsClientId=self.cid)
        self.robot = hydra.utils.instantiate(robot_cfg, cid=self.cid)
        self.scene = hydra.utils.instantiate(scene_cfg, cid=self.cid)
        self.robot.load()
        self.scene.load()
        self.cameras = [
            hydra.utils.instantiate(cameras[name], cid=self.cid, robot_id=self.robot.robot_uid) for name in cameras
        ]
        self.drawn = 0

    def reset(self, robot_obs, scene_obs):
        self.scene.reset(scene_obs)
        self.robot.reset(robot_obs)
        self.p.stepSimulation(physicsClientId=self.cid)
        return self.get_obs()

    def step(self, action):
        self.robot.apply_action(action)
        for _ in range(self.repeat):
            self.p.stepSimulation(physicsClientId=self.cid)
        self.scene.step()
        return self.get_obs(), 0, False, self.get_info()

    def get_obs(self):
        self.drawn += len(self.cameras)
        pictures = {f"rgb_{camera.name}": camera.render()[0] for camera in self.cameras}
        return {"rgb_obs": pictures, "robot_obs": np.asarray(self.robot.get_observation()[0])}

    def get_info(self):
        return {"robot_info": self.robot.get_observation()[1], "scene_info": self.scene.get_info()}

    def close(self):
        if self.ownsPhysicsClient:
            print("disconnecting")
            self.p.disconnect(physicsClientId=self.cid)
