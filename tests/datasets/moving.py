"""A robot that moves: commands, the place they lead to, and two cameras that see it, on clean clocks."""

import numpy as np

from deixis.datasets.episode import Episode, Stream, StreamSpec
from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
from deixis.datasets.trajectories import MemoryTrajectories

SIDE = 32
SPEC = EnvSpec(
    "deixis/Moving-v0",
    (CameraSpec("above", SIDE, SIDE, 10), CameraSpec("beside", SIDE, SIDE, 10)),
    ProprioSpec(("x", "y", "z"), ("metre",) * 3, 10),
    ActionSpec(("dx", "dy", "dz"), ("metre",) * 3, (-9, -9, -9), (9, 9, 9), 10),
)
STREAMS = (
    StreamSpec("camera.above", "uint8", (SIDE, SIDE, 3), 10, "image", "1"),
    StreamSpec("camera.beside", "uint8", (SIDE, SIDE, 3), 10, "image", "1"),
    StreamSpec("proprio", "float32", (3,), 10, "proprio", "metre"),
    StreamSpec("action", "float32", (3,), 10, "action", "metre"),
)


def moving_episode(rng: np.random.Generator, steps: int) -> Episode:
    """`steps` rows: it wanders in the unit cube, its commands smooth, its steps their answer with a little noise."""
    place, command = rng.uniform(0.3, 0.7, 3), np.zeros(3)
    background = rng.uniform(90, 160, (SIDE, SIDE, 3))
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("above", "beside", "proprio", "action")}
    for _ in range(steps):
        command = 0.7 * command + 0.3 * (0.5 - place) * 0.2 + rng.normal(0, 0.02, 3)
        for name, axes in (("above", (0, 1)), ("beside", (1, 2))):
            v, u = np.mgrid[:SIDE, :SIDE] / SIDE
            blob = np.exp(-((u - place[axes[0]]) ** 2 + (v - place[axes[1]]) ** 2) / 0.008)[..., None]
            image = background * (1 - blob) + 20 * blob + rng.normal(0, 2, background.shape)
            rows[name].append(image.clip(0, 255).astype(np.uint8))
        rows["proprio"].append(place.copy())
        rows["action"].append(command.copy())
        place = (place + 0.8 * command + rng.normal(0, 0.003, 3)).clip(0, 1)
    stamps = np.arange(steps, dtype=np.int64) * 100_000_000
    values = {
        "camera.above": np.stack(rows["above"]),
        "camera.beside": np.stack(rows["beside"]),
        "proprio": np.stack(rows["proprio"]).astype(np.float32),
        "action": np.stack(rows["action"]).astype(np.float32),
    }
    return Episode({name: Stream(value, stamps.copy()) for name, value in values.items()}, "wander", {"success": True})


def moving_trajectories(count: int = 24, seed: int = 0) -> MemoryTrajectories:
    """`count` episodes of 24 to 40 steps."""
    rng = np.random.default_rng(seed)
    episodes = [moving_episode(rng, int(rng.integers(24, 41))) for _ in range(count)]
    return MemoryTrajectories(episodes, SPEC, {spec.name: spec for spec in STREAMS})
