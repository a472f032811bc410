"""Control steps a second of the tabletop on one core, two 64-pixel cameras rendered at every step."""

from __future__ import annotations

import time

IMAGE_SIZE = 64
EPISODES = 20


def run() -> dict[str, float]:
    """Drives the expert through whole episodes (resets left out of the clock) with one thread.

    Metrics: `tabletop_steps_per_s` with both cameras rendered; `tabletop_physics_steps_per_s` without rendering;
    `tabletop_resets_per_s`.
    """
    from ...envs.suites import SUITES
    from ...envs.tabletop.env import TabletopEnv
    from ...envs.tabletop.expert import expert_action

    suite = SUITES["tabletop"]
    env = suite.make(image_size=IMAGE_SIZE, disable_env_checker=True).unwrapped
    if not isinstance(env, TabletopEnv):
        raise TypeError(f"suite 'tabletop' made {type(env).__name__}, wanted TabletopEnv")
    metrics = {}
    for name, observing in (("tabletop_steps_per_s", True), ("tabletop_physics_steps_per_s", False)):
        env.set_observing(observing)
        stepping = resetting = 0.0
        steps = 0
        for index in range(EPISODES):
            task = suite.tasks[index % len(suite.tasks)]
            begin = time.perf_counter()
            env.reset(seed=suite.episode_seed(task, index), options={"task": task})
            resetting += time.perf_counter() - begin
            done = False
            begin = time.perf_counter()
            while not done and steps < EPISODES * suite.max_steps:
                done = env.step(expert_action(env))[2]
                steps += 1
            stepping += time.perf_counter() - begin
        metrics[name] = steps / stepping
        metrics["tabletop_resets_per_s"] = EPISODES / resetting
    return metrics
