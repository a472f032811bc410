"""The perception stage finds points that a store knows, and what it has learned serves imitation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.datasets.episode import Stream, StreamSpec
from deixis.datasets.store import Episode, TrajectoryStore
from deixis.policies.config import StageConfig, TrainConfig
from deixis.policies.training.imitate import ImitationBatches
from deixis.policies.training.perceive import PerceiveBatches, PerceiveObjective
from deixis.policies.training.preparation import new_policy, prepare, train_tokenizer
from deixis.policies.training.train import plan, train

from .conftest import SIZE, SPEC, picture, tiny_config

STEPS = 6


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red square somewhere, and where its middle is, in a unit of which the picture is 64 wide."""
    path = tmp_path_factory.mktemp("points") / "store.zarr"
    image = (SIZE, SIZE, 3)
    streams = [
        *(StreamSpec(f"camera.{name}", "uint8", image, 10.0, "image", "rgb") for name in SPEC.camera_names),
        StreamSpec("proprio", "float32", (3,), 10.0, "proprio", "m"),
        StreamSpec("action", "float32", (2,), 10.0, "action", "1"),
        StreamSpec("privileged.points", "float32", (1, 2), 10.0, "privileged", "unit"),
    ]
    clock = np.arange(STEPS, dtype=np.int64) * 100_000_000
    written = TrajectoryStore.create(path, SPEC, streams, {})
    rng = np.random.default_rng(0)
    with written.writer(sync=False) as writer:
        for _ in range(60):
            places = rng.integers(4, SIZE - 4, (STEPS, 2))
            shots = np.stack([picture({"red": (int(row), int(column))}, rng)[0] for row, column in places])
            points = (places[:, None, ::-1] * (64 / SIZE)).astype(np.float32)
            action = (points[:, 0] / 32 - 1).astype(np.float32)
            values = {
                "camera.front": shots,
                "camera.wrist": np.stack([picture({}, rng)[0] for _ in range(STEPS)]),
                "proprio": np.c_[rng.normal(size=(STEPS, 2)), np.ones(STEPS)].astype(np.float32),
                "action": action,
                "privileged.points": points,
            }
            arrays = {name: Stream(array, clock) for name, array in values.items()}
            writer.append(Episode(arrays, "touch the square", {}))
    return path


def perceiving(**changes) -> TrainConfig:
    config = tiny_config(align=StageConfig(steps=0))
    stage = replace(config.perceive, steps=3, batch_size=16, points={"privileged.points": 64.0})
    return replace(config, perceive=replace(stage, **changes))


def test_perception_comes_before_imitation() -> None:
    assert [name for name, _ in plan(perceiving())] == ["perceive", "imitate"]
    assert [name for name, _ in plan(perceiving(steps=0))] == ["unaligned"]


def test_points_are_where_they_were_recorded_and_move_with_the_picture(store: Path) -> None:
    config = perceiving(steps=150, batch_size=32, shift_pixels=2, colour_jitter=0.0)
    prepared = prepare(config, str(store))
    torch.manual_seed(0)
    policy = new_policy(config, prepared, train_tokenizer(config, prepared))
    batches = PerceiveBatches(prepared.windows, config.perceive, policy, 0)
    batch = batches(0)
    for picture_, (u, v) in zip(batch.images["front"].numpy(), batch.points[:, 0].numpy(), strict=True):
        row, column = int((v + 1) / 2 * SIZE), int((u + 1) / 2 * SIZE)
        assert picture_[row, column, 0] > 200 and picture_[row, column, 2] < 60, "red where the point is"
    objective = PerceiveObjective(policy, config.perceive, batches.camera_of)
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    errors = []
    for step in range(config.perceive.steps):
        losses = objective(batches(step))
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(float(losses.parts["point_error"]))
    assert np.mean(errors[:5]) > 0.1 and np.mean(errors[-10:]) < 0.04, "a share of the picture's width"


def test_what_is_perceived_is_encoded_once_for_imitation(store: Path, tmp_path: Path) -> None:
    from deixis.policies.policy import Policy

    config = perceiving()
    policy = Policy.load(train(config, store, tmp_path))
    assert "points" not in policy.parts
    prepared = prepare(config, str(store))
    cached = ImitationBatches(prepared.windows, config.imitate, policy, 0, cached=True)
    assert cached.encoded is not None and len(cached.encoded.frames) == 60 * STEPS


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ({}, "perceive.points: found none"),
        ({"proprio": 1.0}, r"stream 'proprio': found rows \(3,\).*wanted points \[K, 2\]"),
        ({"privileged.points": 0.0}, "extent 0.0"),
        ({"privileged.nothing": 64.0}, "privileged.nothing"),
    ],
)
def test_points_that_are_none_are_refused(store: Path, tmp_path: Path, points: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train(perceiving(points=points), store, tmp_path)
