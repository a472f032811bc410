"""A toy problem that can be learned in seconds: coloured squares on a table, and the action points at the named one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.config import BackboneConfig, HeadConfig, PolicyConfig, StageConfig, TrainConfig
from deixis.policies.policy import Observation

RGB = {"red": (220, 26, 26), "green": (26, 158, 41), "blue": (26, 56, 224), "yellow": (242, 222, 26)}
SIZE, HALF = 32, 3
NOUNS = {"red": "红色方块", "green": "绿色方块", "blue": "蓝色方块", "yellow": "黄色方块"}

SPEC = EnvSpec(
    env_id="test/Squares-v0",
    cameras=(CameraSpec("front", SIZE, SIZE, 10.0), CameraSpec("wrist", SIZE, SIZE, 10.0)),
    proprio=ProprioSpec(("x", "y", "constant"), ("m", "m", "1"), 10.0),
    action=ActionSpec(("u", "v"), ("1", "1"), (-1.0, -1.0), (1.0, 1.0), 10.0),
)


def picture(places: dict[str, tuple[int, int]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Squares at (row, column) on a noisy table, and their segmentation."""
    image = rng.integers(120, 136, (SIZE, SIZE, 3)).astype(np.uint8)
    segmentation = np.zeros((SIZE, SIZE), np.uint8)
    segmentation[:2, :2] = 255  # the robot
    for label, (colour, (row, column)) in enumerate(places.items(), start=1):
        area = np.s_[row - HALF : row + HALF, column - HALF : column + HALF]
        image[area] = RGB[colour]
        segmentation[area] = label
    return image, segmentation


def toy_episode(seed: int, steps: int = 8) -> Episode:
    """Three squares that do not overlap; the front camera sees them, the wrist camera sees the table alone."""
    rng = np.random.default_rng(seed)
    colours = [str(c) for c in rng.permutation(list(RGB))[:3]]
    columns = rng.permutation([6, 16, 26])
    places = {c: (int(rng.integers(4, SIZE - 4)), int(column)) for c, column in zip(colours, columns, strict=True)}
    target = colours[0]
    row, column = places[target]
    action = np.array([(column + 0.5) / SIZE * 2 - 1, (row + 0.5) / SIZE * 2 - 1], np.float32)
    shots = [picture(places, rng) for _ in range(steps)]
    table = [picture({}, rng) for _ in range(steps)]
    clock = np.arange(steps, dtype=np.int64) * 100_000_000
    every = slice(None, None, 4)
    streams = {
        "camera.front": Stream(np.stack([image for image, _ in shots]), clock),
        "camera.wrist": Stream(np.stack([image for image, _ in table]), clock),
        "proprio": Stream(np.c_[rng.normal(size=(steps, 2)), np.ones(steps)].astype(np.float32), clock),
        "action": Stream(np.tile(action, (steps, 1)), clock),
        "segmentation.front": Stream(np.stack([mask for _, mask in shots])[every], clock[every]),
        "segmentation.wrist": Stream(np.stack([mask for _, mask in table])[every], clock[every]),
    }
    scene = [
        {"name": f"{c} cube", "colour": c, "shape": "cube", "position": [0.0, 0.1 * i, 0.0]}
        for i, c in enumerate(places)
    ]
    goal = {"verb": "touch", "target": f"{target} cube", "reference": None, "relation": None}
    text = f"touch the {target} cube" if seed % 2 else f"碰{NOUNS[target]}"
    return Episode(streams, text, {"task": "touch", "seed": seed, "scene": scene, "goal": goal, "success": True})


def write_store(path: Path, episodes: int, first_seed: int = 0) -> Path:
    """A store of toy episodes."""
    image, mask = (SIZE, SIZE, 3), (SIZE, SIZE)
    streams = [
        StreamSpec("camera.front", "uint8", image, 10.0, "image", "rgb"),
        StreamSpec("camera.wrist", "uint8", image, 10.0, "image", "rgb"),
        StreamSpec("proprio", "float32", (3,), 10.0, "proprio", "m"),
        StreamSpec("action", "float32", (2,), 10.0, "action", "1"),
        StreamSpec("segmentation.front", "uint8", mask, 2.5, "segmentation", "label"),
        StreamSpec("segmentation.wrist", "uint8", mask, 2.5, "segmentation", "label"),
    ]
    store = TrajectoryStore.create(path, SPEC, streams, {"name": "toy"})
    with store.writer() as writer:
        for seed in range(first_seed, first_seed + episodes):
            writer.append(toy_episode(seed))
    return path


TINY_BACKBONE = BackboneConfig(
    width=32,
    image_channels=32,
    text_width=32,
    text_layers=1,
    text_heads=2,
    grounding_width=16,
    key_points=2,
    embedding_width=16,
    vocabulary=200,
)
TINY_HEAD = HeadConfig(
    context_width=32, denoiser_width=32, denoiser_blocks=1, unet_channels=(8, 16), train_timesteps=20
)
TINY_POLICY = PolicyConfig(backbone=TINY_BACKBONE, head=TINY_HEAD, action_horizon=4)


def tiny_config(**changes: object) -> TrainConfig:
    """A training of a few steps in every stage."""
    values: dict = {
        "policy": TINY_POLICY,
        "align": StageConfig(
            steps=6,
            batch_size=8,
            warmup_steps=2,
            trainable={
                "image": 1.0,
                "text": 1.0,
                "grounding": 1.0,
                "projector": 1.0,
                "contrastive": 1.0,
                "action": 1.0,
            },
            losses={"grounding": 1.0, "contrastive": 0.1, "action": 0.5},
        ),
        "imitate": StageConfig(steps=6, batch_size=8, warmup_steps=2, trainable={"projector": 1.0, "head": 1.0}),
        "unaligned": StageConfig(
            steps=4,
            batch_size=4,
            trainable={"image": 1.0, "text": 1.0, "grounding": 1.0, "projector": 1.0, "head": 1.0},
        ),
        "threads": 1,
        "log_every": 2,
        "checkpoint_every": 2,
        "tensorboard": False,
    }
    return TrainConfig(**{**values, **changes})


def descend(objective: torch.nn.Module, optimiser: torch.optim.Optimizer, batch: object) -> None:
    """One step, gradients clipped as in training."""
    losses = objective(batch)
    optimiser.zero_grad()
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
    optimiser.step()


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve toy episodes."""
    return write_store(tmp_path_factory.mktemp("toy") / "store.zarr", 12)


@pytest.fixture
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(["touch the red cube", "碰红色方块"], 200, 16)


@pytest.fixture
def observe() -> Callable[..., Observation]:
    """Makes a random observation that fits the toy's policy."""

    def make(batch: int = 2, seed: int = 0, horizon: int = 2) -> Observation:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, horizon, SIZE, SIZE, 3)
        images = {
            camera: torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
            for camera in ("front", "wrist")
        }
        proprio = torch.randn(batch, horizon, 3, generator=generator)
        return Observation(images, proprio, ["touch the red cube", "碰红色方块", ""][:batch])

    return make
