"""Gymnasium environments: worlds, their tasks in words, and experts that solve them."""

import gymnasium

gymnasium.register(id="deixis/Tabletop-v0", entry_point="deixis.envs.tabletop.env:TabletopEnv")
gymnasium.register(id="deixis/MetaWorld-v0", entry_point="deixis.envs.metaworld.env:MetaWorldEnv")
gymnasium.register(id="deixis/PushT-v0", entry_point="deixis.envs.pusht_env:PushTTask")
gymnasium.register(id="deixis/Particle-v0", entry_point="deixis.envs.particle:ParticleEnv")
gymnasium.register(id="deixis/Robosuite-v0", entry_point="deixis.envs.robosuite.env:RobosuiteEnv")
gymnasium.register(id="deixis/RobosuiteTwoArm-v0", entry_point="deixis.envs.robosuite.env:RobosuiteTwoArmEnv")
gymnasium.register(id="deixis/Libero-v0", entry_point="deixis.envs.libero.env:LiberoEnv")
gymnasium.register(id="deixis/Calvin-v0", entry_point="deixis.envs.calvin.env:CalvinEnv")
