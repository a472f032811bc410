"""Encoded frames are found again where all is as it was, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.config import StageConfig
from deixis.policies.serialisation import load_tensors
from deixis.policies.training.train import train

from .conftest import tiny_config, write_store


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of frames with every call that encodes some."""
    calls: list[int] = []
    encode = ModularBackbone.encode_frames

    def counted(self: ModularBackbone, images: Any, *rest: Any) -> torch.Tensor:
        frames = encode(self, images, *rest)
        calls.append(len(frames))
        return frames

    monkeypatch.setattr(ModularBackbone, "encode_frames", counted)
    return calls


def weights(policy: Path) -> dict[str, torch.Tensor]:
    return load_tensors(policy / "model.safetensors")


def test_a_second_training_on_the_same_backbone_encodes_nothing_and_learns_the_same(
    toy_store: Path, tmp_path: Path, encodings: list[int]
) -> None:
    imitate = replace(tiny_config().imitate, modality_dropout=0.3)  # frames with words and without
    first = train(tiny_config(), toy_store, tmp_path / "first")
    config = tiny_config(align=StageConfig(), imitate=imitate, backbone_from=str(first))
    plain = weights(train(config, toy_store, tmp_path / "plain"))
    kept = replace(config, encoded_frames=str(tmp_path / "encoded"))
    encodings.clear()
    made = weights(train(kept, toy_store, tmp_path / "made"))
    assert sum(encodings) == 2 * 96 and len(list((tmp_path / "encoded").iterdir())) == 2
    encodings.clear()
    found = weights(train(kept, toy_store, tmp_path / "found"))
    assert encodings == []
    for name, value in plain.items():
        assert torch.equal(value, made[name]) and torch.equal(value, found[name]), name


def test_other_frames_another_backbone_and_a_broken_file_are_encoded_again(
    toy_store: Path, tmp_path: Path, encodings: list[int]
) -> None:
    first = train(tiny_config(), toy_store, tmp_path / "first")
    folder = tmp_path / "encoded"
    config = tiny_config(align=StageConfig(), backbone_from=str(first), encoded_frames=str(folder))
    train(config, toy_store, tmp_path / "a")
    (made,) = folder.iterdir()
    whole = made.read_bytes()

    made.write_bytes(whole[: len(whole) // 2])
    train(config, toy_store, tmp_path / "b")
    assert made.read_bytes() == whole

    other = write_store(tmp_path / "other.zarr", 12, first_seed=500)
    train(config, other, tmp_path / "c")
    second = train(tiny_config(seed=3), toy_store, tmp_path / "second")
    encodings.clear()
    train(replace(config, backbone_from=str(second)), toy_store, tmp_path / "d")
    assert sum(encodings) == 96
    assert len(list(folder.iterdir())) == 3
