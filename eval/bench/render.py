"""Frames and steps a second of other packages' worlds by level of drawing, beside the packages' own way in one run.

Ours draw with one thread; the packages take what threads their OpenGL takes by itself. Metrics:
`SUITE_SIZE_CAMERAS_LEVEL_fps`, pictures a second (two cameras make two pictures at once), `..._steps_per_s`, control
steps with every picture drawn, `SUITE_SIZE_CAMERAS_own_*`, the package's own way with its defaults, and
`SUITE_speedup`, how many times faster the suite's level draws, at the least favourable of these sizes and cameras.
Pictures beside each other go to runs/bench-render; `SUITE_LEVEL_differs` is their mean difference from the package's
look in grey levels of 255, and `..._differs_from_plain` what the simpler meshes alone change.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

SIZES, CAMERAS = (84, 128), (1, 2)
FOLDER = Path("runs/bench-render")
WORLDS = {
    "metaworld": ("metaworld-mt50", "drawer-open", "drawer-open"),
    "robosuite": ("robosuite", "can", "PickPlaceCan"),
    "libero": ("libero-object", "", "libero_object:0"),
}
"""Package -> suite, its task (the first where empty), and what the package calls that."""


def run() -> dict[str, float]:
    from rich.console import Console
    from rich.progress import track

    from ...envs.drawing.level import DEFAULT, LEVELS
    from ._packages import rate

    metrics: dict[str, float] = {}
    console = Console(stderr=True)
    for package, (suite, task, own) in WORLDS.items():
        ratios, shown = [], {}
        for size, cameras in track(list(product(SIZES, CAMERAS)), package, console=console):
            where = f"{package}_{size}_{cameras}"
            found = _own(package, own, size, cameras)
            metrics[f"{where}_own_fps"], metrics[f"{where}_own_steps_per_s"] = found["fps"], found["steps"]
            for level in LEVELS:
                env = _world(suite, task, size, level)
                env.cameras = env.cameras[:cameras]
                fps = rate(env.observe) * cameras
                metrics[f"{where}_{level}_fps"] = fps
                metrics[f"{where}_{level}_steps_per_s"] = rate(lambda env=env: env.step(env.action_space.low * 0))
                if level == DEFAULT:
                    ratios.append(fps / found["fps"])
                if (size, cameras) == (SIZES[-1], CAMERAS[-1]):
                    env.reset(seed=0, options={"task": task or env.tasks[0]})
                    shown[level] = env.observe()
                env.close()
        metrics[f"{package}_speedup"] = min(ratios)
        metrics |= _differences(package, shown)
        _picture(shown, FOLDER / f"{package}.png")
    return metrics


def _world(suite: str, task: str, size: int, level: str) -> Any:
    from ...envs.suites import suite_named

    env: Any = suite_named(suite).make(image_size=size, level=level, disable_env_checker=True).unwrapped
    env.reset(seed=0, options={"task": task or env.tasks[0]})
    return env


def _own(package: str, task: str, size: int, cameras: int) -> dict[str, float]:
    from ...envs.rendering_backend import select_backend

    environment = {**os.environ, "MUJOCO_GL": select_backend()}
    environment.pop("LP_NUM_THREADS", None)
    command = [sys.executable, "-m", "deixis.eval.bench._packages", package, task, str(size), str(cameras)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{package}'s own renderer failed:\n{finished.stderr[-2000:]}")
    return json.loads(next(line for line in finished.stdout.splitlines() if line.startswith("{")))


def _differences(package: str, shown: dict[str, Any]) -> dict[str, float]:
    names = [name for name in shown["plain"] if name.startswith("camera.")]

    def between(one: str, other: str) -> float:
        return float(np.mean([np.abs(shown[one][name].astype(int) - shown[other][name]).mean() for name in names]))

    by_look = {f"{package}_{level}_differs": between(level, "package") for level in shown if level != "package"}
    simpler = [level for level in shown if level not in ("package", "plain")]
    return by_look | {f"{package}_{level}_differs_from_plain": between(level, "plain") for level in simpler}


def _picture(shown: dict[str, Any], path: Path) -> None:
    """A row for each level, a column for each camera, three pixels a pixel; beneath the names of the levels' files."""
    from PIL import Image

    names = [name for name in shown["plain"] if name.startswith("camera.")]
    rows = [np.concatenate([seen[name] for name in names], axis=0) for seen in shown.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    joined = np.concatenate(rows, axis=1)
    Image.fromarray(joined.repeat(3, axis=0).repeat(3, axis=1)).save(path)
