"""Gymnasium environments: worlds, their tasks in words, and experts that solve them."""

import gymnasium

gymnasium.register(id="deixis/Tabletop-v0", entry_point="deixis.envs.tabletop.env:TabletopEnv")
gymnasium.register(id="deixis/PushT-v0", entry_point="deixis.envs.pusht_env:PushTTask")
gymnasium.register(id="deixis/Particle-v0", entry_point="deixis.envs.particle:ParticleEnv")
gymnasium.register(id="deixis/Libero-v0", entry_point="deixis.envs.libero.env:LiberoEnv")
