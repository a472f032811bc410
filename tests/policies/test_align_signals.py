"""The further losses of alignment: each is on where it has a weight, and teaches what it is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.config import StageConfig, TrainConfig
from deixis.policies.policy import Policy
from deixis.policies.training.align import AlignBatches, AlignObjective
from deixis.policies.training.preparation import new_policy, prepare, train_tokenizer
from deixis.policies.training.signals import SIGNALS
from deixis.policies.training.train import train

from .conftest import tiny_config


def stage(*signals: str) -> StageConfig:
    """Alignment with these losses alone."""
    align = tiny_config().align
    trainable = {**align.trainable, "signals": 1.0}
    return replace(align, losses=dict.fromkeys(signals, 1.0), trainable=trainable, colour_jitter=0.0, shift_pixels=0)


def parts(store: Path, options: StageConfig) -> tuple[AlignObjective, AlignBatches]:
    config = tiny_config(align=options)
    prepared = prepare(config, str(store), None)
    assert prepared.grounding is not None
    torch.manual_seed(0)
    policy = new_policy(config, prepared, train_tokenizer(config, prepared))
    return AlignObjective(policy, options), AlignBatches(prepared.grounding, options, policy, prepared.vocabulary, 0)


def test_without_a_weight_there_is_nothing(toy_store: Path) -> None:
    objective, batches = parts(toy_store, stage("grounding"))
    assert list(objective.signals.parameters()) == []
    assert set(objective(batches(0)).terms) == {"grounding"}


def test_without_grounding_the_others_are_what_they_are_beside_it(toy_store: Path) -> None:
    terms = {}
    for losses in (("contrastive", "action"), ("grounding", "contrastive", "action")):
        objective, batches = parts(toy_store, stage(*losses))
        torch.manual_seed(0)
        terms[losses] = objective(batches(0)).terms
    alone, beside = terms.values()
    assert set(alone) == {"contrastive", "action"} and set(beside) == {"grounding", "contrastive", "action"}
    for name, value in alone.items():
        torch.testing.assert_close(value, beside[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("signal", "reached"),
    [
        ("region_phrase", {"image", "text", "signals"}),
        ("patch_word", {"image", "text", "signals"}),
        ("masked_text", {"text", "signals"}),
        ("masked_image", {"image", "signals"}),
    ],
)
def test_each_falls_when_it_is_learned_and_reaches_the_towers_it_is_about(
    toy_store: Path, signal: str, reached: set[str]
) -> None:
    objective, batches = parts(toy_store, stage(signal))
    losses = objective(batches(0))
    assert set(losses.terms) == {signal}
    losses.total.backward()
    moved = {
        name
        for name, part in objective.parts.items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    }
    assert moved == reached
    optimiser = torch.optim.AdamW(objective.parameters(), 3e-3)
    first = []
    for step in range(60):
        torch.manual_seed(step)
        optimiser.zero_grad()
        losses = objective(batches(step))
        losses.total.backward()
        optimiser.step()
        first.append(float(losses.total.detach()))
    assert np.mean(first[-10:]) < 0.9 * np.mean(first[:5])


def test_phrases_of_one_kind_are_one_kind_and_what_is_absent_is_none(toy_store: Path) -> None:
    objective, batches = parts(toy_store, stage("region_phrase"))
    batch = batches(0)
    kinds, count = batch.kinds, objective.stage.phrases
    assert kinds.shape == (len(batch.instructions), count)
    assert kinds.max() < len(batches.vocabulary)
    named = dict(zip(batch.phrases, kinds.flatten().tolist(), strict=True))
    for phrase, kind in named.items():
        if kind >= 0 and phrase.isascii():
            assert str(batches.vocabulary[kind]["colour"]) in phrase
    assert -1 in named.values()


def test_two_things_of_one_kind_are_not_each_others_negatives(toy_store: Path) -> None:
    objective, _ = parts(toy_store, stage("region_phrase"))
    backbone = objective.policy.backbone
    assert isinstance(backbone, ModularBackbone)
    torch.manual_seed(0)
    channels, words = objective.policy.config.backbone.image_channels, objective.policy.config.backbone.text_width
    grid, phrases = torch.randn(2, 2, 2, channels), torch.randn(2, 1, words)
    shares = torch.zeros(2, 1, 5)
    shares[:, :, 1] = 1.0
    alike = objective.signals.region_phrase(grid, phrases, shares, torch.tensor([[3], [3]]))
    assert float(alike.detach()) == pytest.approx(0.0, abs=1e-6)
    apart = objective.signals.region_phrase(grid, phrases, shares, torch.tensor([[3], [4]]))
    assert float(apart.detach()) > 0.01
    shares[0, 0] = torch.tensor([0, 0, 0, 0, 1.0])  # not in view: one is left, and has no negatives
    unseen = objective.signals.region_phrase(grid, phrases, shares, torch.tensor([[3], [4]]))
    assert float(unseen.detach()) == pytest.approx(0.0, abs=1e-6)


def test_a_training_with_all_of_them_repeats_itself(toy_store: Path, tmp_path: Path) -> None:
    options = replace(stage(*SIGNALS), losses={**dict.fromkeys(SIGNALS, 0.1), "grounding": 1.0, "action": 0.5})
    config: TrainConfig = tiny_config(align=options)
    one, other = (Policy.load(train(config, toy_store, tmp_path / name)) for name in "ab")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
