"""A language model learns to say what is in a picture and where, and is then a policy's backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.datasets.documents import PLACE_TOKENS, read_place, seen_place
from deixis.policies.backbones.compositional import CompositionalBackbone
from deixis.policies.config import BackboneConfig, BridgeConfig, DecoderConfig, StageConfig, TrainConfig, VisionConfig
from deixis.policies.policy import Policy
from deixis.policies.training.describe import DescribeBatches, DescribeObjective
from deixis.policies.training.preparation import new_policy, prepare, train_tokenizer
from deixis.policies.training.train import train

from .conftest import TINY_POLICY, descend, tiny_config, write_store

BACKBONE = BackboneConfig(
    kind="compositional",
    width=32,
    vocabulary=300,
    vision=VisionConfig(patch=8, width=32, layers=1),
    bridge=BridgeConfig(kind="mlp"),
    decoder=DecoderConfig(width=64, layers=2, heads=2, readouts=2),
)
PARTS = dict.fromkeys(("vision", "bridge", "decoder", "joints", "grounding", "projector"), 1.0)
ALIGN = StageConfig(
    steps=4,
    batch_size=8,
    warmup_steps=2,
    documents=3,
    colour_jitter=0.0,
    trainable={**PARTS, "action": 1.0},
    losses={"text": 1.0, "place": 1.0, "z": 1e-4, "action": 0.5},
)


def config(**changes: object) -> TrainConfig:
    imitate = StageConfig(
        steps=4, batch_size=8, trainable={"bridge": 1.0, "decoder": 1.0, "projector": 1.0, "head": 1.0}
    )
    policy = replace(TINY_POLICY, backbone=BACKBONE)
    return tiny_config(**{"policy": policy, "align": ALIGN, "imitate": imitate, **changes})


def test_a_policy_with_a_language_model_trains_in_stages_and_resumes_to_the_same_weights(
    toy_store: Path, tmp_path: Path
) -> None:
    whole = Policy.load(train(config(), toy_store, tmp_path / "whole"))
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train(config(), toy_store, stopped, hooks=[_stop])
    again = Policy.load(train(config(), toy_store, stopped))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def _stop(stage: str, policy: Policy) -> None:
    raise KeyboardInterrupt


def test_what_is_frozen_stays_bit_for_bit(toy_store: Path, tmp_path: Path) -> None:
    kept: dict[str, torch.Tensor] = {}

    def keep(stage: str, policy: Policy) -> None:
        if stage == "align":
            kept.update({k: v.clone() for k, v in policy.backbone.parts["vision"].state_dict().items()})

    policy = Policy.load(train(config(), toy_store, tmp_path / "run", hooks=[keep]))
    assert kept
    for name, value in policy.backbone.parts["vision"].state_dict().items():
        assert torch.equal(value, kept[name]), name


def test_batches_are_a_function_of_seed_and_step_and_mark_words_and_places(toy_store: Path) -> None:
    prepared = prepare(config(), str(toy_store), None)
    assert prepared.grounding is not None
    policy = new_policy(config(), prepared, train_tokenizer(config(), prepared))
    batches = [DescribeBatches(prepared.grounding, ALIGN, policy, prepared.vocabulary, seed) for seed in (1, 1, 2)]
    first, same, other = (of(3) for of in batches)
    assert torch.equal(first.documents.ids, same.documents.ids)
    assert not torch.equal(first.documents.ids[:, :9], other.documents.ids[:, :9])
    said = first.documents.ids[first.modality == 1].tolist()
    assert said
    assert {policy.tokenizer.decode([token]) for token in said} <= set(PLACE_TOKENS)
    assert (first.modality >= 0).equal(first.documents.said)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_learns_to_point_at_what_is_named_in_pictures_it_has_not_seen(tmp_path: Path) -> None:
    store = write_store(tmp_path / "train.zarr", 500)
    stage = replace(ALIGN, steps=800, batch_size=32, documents=6, losses={"text": 0.2, "place": 1.0})
    settings = config(align=stage)
    prepared = prepare(settings, str(store), None)
    assert prepared.grounding is not None
    torch.manual_seed(0)
    policy = new_policy(settings, prepared, train_tokenizer(settings, prepared))
    backbone = policy.backbone
    assert isinstance(backbone, CompositionalBackbone)
    objective = DescribeObjective(policy, stage)
    batches = DescribeBatches(prepared.grounding, stage, policy, prepared.vocabulary, 0)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=stage.steps + 1)
    for step in range(stage.steps):
        descend(objective, optimiser, batches(step))
        schedule.step()
    unseen = prepare(settings, str(write_store(tmp_path / "test.zarr", 40, first_seed=1000)), None).grounding
    assert unseen is not None
    items = unseen.batch(np.arange(0, len(unseen), 2))
    images = {camera: torch.from_numpy(items["images"][camera]) for camera in policy.cameras}
    backbone.eval()
    near = []
    for which in range(3):
        prompts = [f"point to the {scene[which]['colour']} cube." for scene in items["scene"]]
        for answer, mask in zip(backbone.answer(images, prompts, 3), items["segmentation"]["front"], strict=True):
            found, true = read_place(answer), seen_place(mask, which + 1)
            assert true is not None
            near.append(found is not None and np.hypot(found[0] - true[0], found[1] - true[1]) < 0.06)
    assert np.mean(near) > 0.2, "a place drawn at random is that near in one of a hundred"
