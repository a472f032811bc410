"""Scenes that no demonstration has shown: pictures, and what the simulator knows to be in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..datasets.spec import camera_stream
from ..envs.suites import Suite

MOST_REPEATS = 500  # scenes in a row whose objects have been seen


@dataclass(frozen=True)
class Scenes:
    """What is seen and what is there.

    Attributes:
        images: camera -> uint8 [N, H, W, 3].
        objects: of each scene.
    """

    images: dict[str, Tensor]
    objects: list[Sequence[Mapping[str, Any]]]


def gather_scenes(env: gymnasium.Env, suite: Suite, cameras: Sequence[str], count: int) -> Scenes:
    """The first `count` scenes of a suite that differ in what is there, as their episodes begin.

    Raises ValueError where the environment does not say what is there, or where another scene has not come for long.
    """
    images: dict[str, list[np.ndarray]] = {camera: [] for camera in cameras}
    objects, known = [], set()
    number = last = 0
    while len(objects) < count:
        if number - last > MOST_REPEATS:
            raise ValueError(
                f"suite {suite.name!r}: found {len(objects)} scenes with different objects, wanted {count}; ask for "
                "fewer"
            )
        task, index = suite.turn(number)
        number += 1
        observation, info = env.reset(seed=suite.episode_seed(task, index), options={"task": task})
        if not all({"colour", "shape"} <= set(item) for item in info.get("scene", [{}])):
            raise ValueError(
                f"suite {suite.name!r}: found the scene {info.get('scene')} in the environment's info, wanted its "
                "objects with colour and shape"
            )
        kinds = tuple(sorted((str(item["colour"]), item["shape"]) for item in info["scene"]))
        if kinds in known:  # two scenes of the same objects have the same captions
            continue
        known.add(kinds)
        last = number
        objects.append(info["scene"])
        for camera in cameras:
            images[camera].append(np.array(observation[camera_stream(camera)], np.uint8))
    return Scenes({camera: torch.from_numpy(np.stack(x)) for camera, x in images.items()}, objects)
