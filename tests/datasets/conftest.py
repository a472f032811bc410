"""A small declared world: two cameras of 8 x 6 pixels, segmentation, proprioception, actions, object positions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from deixis.datasets.tolerance import Tolerance

PERIOD = 100_000_000  # ns at 10 Hz

SPEC = EnvSpec(
    "deixis/Tiny-v0",
    (CameraSpec("front", 8, 6, 10), CameraSpec("wrist", 8, 6, 10)),
    ProprioSpec(("x", "y", "z"), ("metre",) * 3, 10),
    ActionSpec(("dx", "gripper"), ("metre", "1"), (-0.5, -1), (0.5, 1), 10),
)
STREAMS = (
    StreamSpec("camera.front", "uint8", (8, 6, 3), 10, "image", "1"),
    StreamSpec("camera.wrist", "uint8", (8, 6, 3), 10, "image", "1"),
    StreamSpec("segmentation.front", "uint8", (8, 6), 2.5, "segmentation", "1"),
    StreamSpec("segmentation.wrist", "uint8", (8, 6), 2.5, "segmentation", "1"),
    StreamSpec("proprio", "float32", (3,), 10, "proprio", "metre"),
    StreamSpec("action", "float32", (2,), 10, "action", "mixed"),
    StreamSpec("privileged.objects", "float64", (2, 3), 2.5, "privileged", "metre"),
)


def build_episode(seed: int, steps: int = 9, start_ns: int = 0) -> Episode:
    """Random content that depends on the seed alone, on clean clocks that begin at `start_ns`."""
    rng = np.random.default_rng(seed)
    streams = {}
    for spec in STREAMS:
        stamps = start_ns + PERIOD * np.arange(0, steps, round(10 / spec.rate_hz), dtype=np.int64)
        shape = (len(stamps), *spec.shape)
        if spec.dtype == "uint8":
            values = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            values = rng.uniform(-0.5, 0.5, shape).astype(spec.dtype)
        streams[spec.name] = Stream(values, stamps)
    cube = {"name": "red cube", "colour": "red", "shape": "cube", "position": [0.1, 0.2, float(seed)]}
    goal = {"verb": "lift", "target": "red cube", "reference": None, "relation": None}
    meta = {"task": "lift", "seed": seed, "scene": [cube], "goal": goal, "success": True}
    return Episode(streams, f"lift the red cube, 请 {seed}", meta)


def check_same(found: Episode, wanted: Episode) -> None:
    """Equal to the last bit, with the same types."""
    assert found.instruction == wanted.instruction
    assert found.meta == wanted.meta
    assert set(found.streams) == set(wanted.streams)
    for name, stream in wanted.streams.items():
        for part in ("values", "stamps_ns"):
            left, right = getattr(found.streams[name], part), getattr(stream, part)
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="session")
def env_spec() -> EnvSpec:
    return SPEC


@pytest.fixture(scope="session")
def stream_specs() -> tuple[StreamSpec, ...]:
    return STREAMS


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    return build_episode


@pytest.fixture
def assert_same() -> Callable[[Episode, Episode], None]:
    return check_same


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., TrajectoryStore]:
    """make_store(episodes, name="store.zarr", tolerance=None) -> a store of these episodes."""

    def make(episodes: list[Episode], name: str = "store.zarr", **arguments: Any) -> TrajectoryStore:
        tolerance: Tolerance | None = arguments.get("tolerance")
        store = TrajectoryStore.create(tmp_path / name, SPEC, STREAMS, {"suite": "tiny"}, tolerance)
        with store.writer() as writer:
            for episode in episodes:
                writer.append(episode)
        return store

    return make
