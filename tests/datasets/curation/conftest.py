"""A small world that moves: targets at 10 Hz, a state that follows at 20 Hz, a camera at 5 Hz that leads by 30 ms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.datasets.episode import Episode, Stream, StreamSpec
from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
from deixis.datasets.store import TrajectoryStore

PERIOD = 100_000_000  # ns at 10 Hz
HEIGHT, WIDTH = 24, 32
SPEC = EnvSpec(
    "deixis/Moving-v0",
    (CameraSpec("front", HEIGHT, WIDTH, 5),),
    ProprioSpec(("x", "y", "opening"), ("metre", "metre", "1"), 20),
    ActionSpec(("x_target", "y_target", "gripper"), ("metre", "metre", "1"), (-1, -1, -1), (1, 1, 1), 10),
)
STREAMS = (
    StreamSpec("action", "float32", (3,), 10, "action", "mixed"),
    StreamSpec("proprio", "float32", (3,), 20, "proprio", "mixed"),
    StreamSpec("camera.front", "uint8", (HEIGHT, WIDTH, 3), 5, "image", "1", arrivals=True),
    StreamSpec("segmentation.front", "uint8", (HEIGHT, WIDTH), 2.5, "segmentation", "1"),
    StreamSpec("privileged.objects", "float64", (2,), 10, "privileged", "metre"),
)
TABLE = np.random.default_rng(99).integers(90, 150, (HEIGHT, WIDTH, 3)).astype(np.int16)


def moving_episode(
    seed: int,
    steps: int = 40,
    still: Sequence[tuple[int, int]] = (),
    instruction: str = "push the red cube",
    meta: dict[str, Any] | None = None,
    scene: int | None = None,
) -> Episode:
    """A point that wanders except in the action rows `still`; in each moving row it moves by at least 5 mm.

    The same seed moves the same way; `scene` (default: the seed) says where the object lies.
    """
    rng = np.random.default_rng(seed)
    turns = np.cumsum(rng.uniform(-0.5, 0.5, steps)) + rng.uniform(0, 6)
    step = rng.uniform(0.006, 0.02, (steps, 1)) * np.c_[np.cos(turns), np.sin(turns)]
    for first, stop in still:
        step[first:stop] = 0
    place = np.cumsum(np.r_[[rng.uniform(-0.3, 0.3, 2)], step], axis=0)  # [steps + 1, 2]
    grip = np.where(np.arange(steps) < steps // 2, 1.0, -1.0)
    grip = np.where([any(a <= k < b for a, b in still) for k in range(steps)], np.nan, grip)
    grip = _filled(grip)
    start = 10**15 + seed * 10**12
    clock = start + PERIOD * np.arange(steps, dtype=np.int64)
    jitter = rng.integers(-(10**6), 10**6, 2 * steps)
    fine = start + PERIOD // 2 * np.arange(2 * steps, dtype=np.int64)  # the state, read as actions are sent and between
    fine[1::2] += jitter[1::2]
    opening = np.interp(np.arange(2 * steps) / 2, np.arange(steps + 1), np.r_[grip[0], grip])  # follows the command
    state = np.c_[np.repeat(place[:-1], 2, 0), opening]
    state[1::2, :2] += step / 2
    state[:, :2] += rng.normal(0, 5e-5, (2 * steps, 2))  # a sensor's noise is no motion
    shots = np.arange(0, steps, 2)
    objects = np.random.default_rng(seed if scene is None else scene).uniform(-0.9, 0.9, 2)
    images = np.stack([_picture(place[k], objects, rng) for k in shots])
    seen_at = clock[shots] - 30_000_000 + jitter[: len(shots)]
    masks = np.arange(0, steps, 4)
    streams = {
        "action": Stream(np.c_[place[1:], grip].astype(np.float32), clock),
        "proprio": Stream(state.astype(np.float32), fine),
        "camera.front": Stream(images, seen_at, seen_at + 5_000_000),
        "segmentation.front": Stream(np.ones((len(masks), HEIGHT, WIDTH), np.uint8), clock[masks]),
        "privileged.objects": Stream(np.tile(objects, (steps, 1)), clock),
    }
    return Episode(streams, instruction, {"task": "push", "seed": seed, **(meta or {})})


def _filled(values: np.ndarray) -> np.ndarray:
    """Each missing value is the one before it, the first ones the first there is."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.ones_like(values)
    before = np.searchsorted(known, np.arange(len(values)), "right") - 1
    return values[known[np.maximum(before, 0)]]


def _picture(place: np.ndarray, objects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A table with a red square at `objects` and a soft dark disc, the robot, at `place`."""
    image = (TABLE + rng.integers(-2, 3, TABLE.shape)).astype(np.float64)
    row, column = int((objects[1] + 1) / 2 * (HEIGHT - 6)), int((objects[0] + 1) / 2 * (WIDTH - 6))
    image[row : row + 5, column : column + 5] = (220, 30, 30)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = (rows - (place[1] + 0.8) / 1.6 * HEIGHT) ** 2 + (columns - (place[0] + 0.8) / 1.6 * WIDTH) ** 2
    shade = np.exp(-distance / 18)[..., None]
    return ((1 - shade) * image + shade * 10).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_moving() -> Callable[..., Episode]:
    return moving_episode


@pytest.fixture
def moving_store(tmp_path: Path) -> Callable[..., TrajectoryStore]:
    """moving_store(episodes, name="moving.zarr") -> a store of these episodes."""

    def make(episodes: list[Episode], name: str = "moving.zarr") -> TrajectoryStore:
        store = TrajectoryStore.create(tmp_path / name, SPEC, STREAMS, {"suite": "moving"})
        with store.writer(sync=False, ordered=False) as writer:
            for episode in episodes:
                writer.append(episode)
        return store

    return make
