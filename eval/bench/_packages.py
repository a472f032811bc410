"""Pictures as the packages themselves draw them, in a process of its own: `python -m deixis.eval.bench._packages`.

Prints one JSON line: frames and control steps a second of the package's default way to see. Nothing of deixis draws
here, so nothing of it can make the comparison look better.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 4.0
_ROBOSUITE_CAMERAS: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")


def metaworld(task: str, size: int, cameras: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Gymnasium's renderer of the package's environment, one for each camera."""
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    world: Any = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
    world._freeze_rand_vec, world._set_task_called = False, True
    world.reset()
    views = [
        MujocoRenderer(world.model, world.data, width=size, height=size, camera_name=name)
        for name in ("corner2", "gripperPOV")[:cameras]
    ]

    def draw() -> None:
        for view in views:
            view.render("rgb_array")

    def step() -> None:
        world.curr_path_length = 0
        world.step(np.zeros(4, np.float32))
        draw()

    return draw, step


def robosuite(task: str, size: int, cameras: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The package's own offscreen renderer and camera observations."""
    import robosuite as package
    from robosuite.controllers import load_controller_config

    names = [*_ROBOSUITE_CAMERAS[:cameras]]
    world = package.make(
        task,
        robots="Panda",
        controller_configs=load_controller_config(default_controller="OSC_POSE"),
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names=names,
        camera_heights=size,
        camera_widths=size,
        ignore_done=True,
    )
    world.reset()
    return _drawn_and_stepped(world, names, size, world.action_dim)


def libero(task: str, size: int, cameras: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The environment that the package gives to whoever evaluates on it."""
    from pathlib import Path

    from libero.libero import benchmark, get_libero_path
    from libero.libero.envs import OffScreenRenderEnv

    suite, _, number = task.partition(":")
    chosen = benchmark.get_benchmark(suite)().get_task(int(number))
    names = [*_ROBOSUITE_CAMERAS[:cameras]]
    folder = Path(get_libero_path("bddl_files")) / chosen.problem_folder
    world = OffScreenRenderEnv(
        bddl_file_name=str(folder / chosen.bddl_file),
        camera_names=names,
        camera_heights=size,
        camera_widths=size,
        ignore_done=True,
    )
    world.reset()
    return _drawn_and_stepped(world.env, names, size, 7)


def _drawn_and_stepped(
    world: Any, names: list[str], size: int, actions: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def draw() -> None:
        for name in names:
            world.sim.render(camera_name=name, width=size, height=size)

    return draw, lambda: world.step(np.zeros(actions))


def rate(what: Callable[[], Any], seconds: float = SECONDS) -> float:
    """How often a second it can be done, after one time that does not count."""
    what()
    done, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        what()
        done += 1
    return done / taken


def main() -> None:
    package, task, size, cameras = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    draw, step = {"metaworld": metaworld, "robosuite": robosuite, "libero": libero}[package](task, size, cameras)
    print(json.dumps({"fps": rate(draw) * cameras, "steps": rate(step)}))


if __name__ == "__main__":
    main()
