"""A language model points: what it looks for is found in the views, in training, kept ahead, and when it acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deixis.policies.backbones.fusion import FusionBackbone
from deixis.policies.backbones.language import POINTERS, READOUTS, STATE, LanguageBackbone
from deixis.policies.backbones.packing import pack
from deixis.policies.config import CodebookConfig, TrainConfig
from deixis.policies.objectives.grounding import grounding_loss, place_error, views_loss
from deixis.policies.policy import Policy
from deixis.policies.training.describe import DescribeBatches, DescribeObjective
from deixis.policies.training.imitate import ImitationBatches, ImitationObjective, is_frozen
from deixis.policies.training.preparation import Prepared, new_policy, prepare, train_tokenizer

from . import test_describe, test_fusion
from .conftest import NOUNS, descend, write_store

ROUTES = {
    "compositional": test_describe.config(),
    "fusion": test_fusion.config(),
}

FINE = CodebookConfig(codes=64, patch=4, width=8, channels=32)  # squares of 6 pixels: with 8 each is one of many codes
SHARP = {
    "compositional": ROUTES["compositional"].policy.backbone,
    "fusion": replace(ROUTES["fusion"].policy.backbone, codebook=FINE),
}


def ready(config: TrainConfig, store: Path) -> tuple[Prepared, Policy]:
    prepared = prepare(config, str(store), None)
    torch.manual_seed(0)
    return prepared, new_policy(config, prepared, train_tokenizer(config, prepared))


def language_model(policy: Policy) -> LanguageBackbone:
    assert isinstance(policy.backbone, LanguageBackbone)
    return policy.backbone


@pytest.mark.parametrize("changing", [False, True], ids=["one text an episode", "texts that change on the way"])
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_read_ahead_trains_as_what_is_read_every_time(toy_store: Path, route: str, changing: bool) -> None:
    config = ROUTES[route]
    stage = replace(config.imitate, trainable={"projector": 1.0, "head": 1.0}, proprio_noise=0.0, frame_noise=0.0)
    prepared, policy = ready(config, toy_store)
    if changing:  # as sub-goals do: a frame is seen with one, and a step later with another
        texts = sorted(set(prepared.windows.numbers(np.arange(len(prepared.windows)))["instruction"]))
        assert len(texts) > 1
        prepared.windows.tell([texts[number % len(texts)] for number in range(len(prepared.windows))])
    backbone = language_model(policy)
    backbone.prepare(["projector", "head"])
    assert backbone.reads_ahead and is_frozen(stage, backbone)
    assert set(backbone.perception) == set(backbone.parts) - {"projector"}
    cached = ImitationBatches(prepared.windows, stage, policy, seed=1, cached=True)
    objective, indices = ImitationObjective(policy, stage).eval(), np.arange(5)
    torch.manual_seed(0)
    ahead = objective(cached.from_cache(indices)).total
    backbone.prepare(["projector", "head", "decoder"])
    assert not backbone.reads_ahead and backbone.perception == (backbone.eyes,)
    torch.manual_seed(0)
    torch.testing.assert_close(objective(cached.raw(indices)).total, ahead, atol=1e-5, rtol=1e-4)


def test_a_decoder_that_is_lent_is_never_read_ahead(toy_store: Path) -> None:
    _, policy = ready(ROUTES["compositional"], toy_store)
    backbone = language_model(policy)
    backbone.lends = True
    backbone.prepare(["projector", "head"])
    assert not backbone.reads_ahead


def test_what_is_looked_for_is_what_the_words_before_the_pointer_name(toy_store: Path) -> None:
    config = ROUTES["compositional"]
    prepared, policy = ready(config, toy_store)
    assert prepared.grounding is not None
    stage = replace(config.align, losses={"text": 1.0, "grounding": 1.0}, instructions=2, phrases=3, shift_pixels=0)
    batches = DescribeBatches(prepared.grounding, stage, policy, prepared.vocabulary, 0)
    batch, items = batches(0), prepared.grounding.batch(batches.order.indices(0))
    assert batch.labels.shape == batch.valid.shape == (8, 2 * 2 + 3)
    assert (batch.documents.ids < 0).sum(1).eq(7).all(), "one pointer for each"
    assert batch.documents.ids[batch.documents.ids < 0].view(8, 7)[0].tolist() == [-2, -3, -2, -3, -2, -2, -2]
    named = 0
    for row, scene in enumerate(items["scene"]):
        ids, document = batch.documents.ids[row], batch.documents.document[row]
        for label, at in zip(batch.labels[row].tolist(), (ids < 0).nonzero()[:, 0].tolist(), strict=True):
            own = ids[(document == document[at]) & (ids >= 0)].tolist()
            text = policy.tokenizer.decode(own)
            if label <= len(scene) and ids[at] == POINTERS[0]:
                colour = scene[label - 1]["colour"]
                assert colour in text or NOUNS[colour] in text or NOUNS[colour][:2] in text, (colour, text)
                named += 1
    assert named > 20
    plain = DescribeBatches(prepared.grounding, config.align, policy, prepared.vocabulary, 0)(0)
    assert plain.labels.shape == (8, 0)
    assert (plain.documents.ids == POINTERS[0]).sum(1).eq(1).all(), "the demonstrated instruction's"


def test_pointers_come_after_words_and_see_the_picture(toy_store: Path) -> None:
    prepared, policy = ready(ROUTES["compositional"], toy_store)
    backbone = language_model(policy).eval()
    images = {c: torch.from_numpy(prepared.windows.frames(c)[[0, 40]]) for c in policy.cameras}
    seen = backbone.look(images)
    words = [policy.tokenizer.start, *policy.tokenizer.words("touch the red cube")]
    with torch.no_grad():
        first, second = backbone.read(seen, pack([[([*words, *POINTERS], [])]] * 2))[1][:, -2:].unbind(1)
        alone = backbone.read(seen, pack([[([*words, POINTERS[0]], [])]] * 2))[1][:, -1]
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(first, second) and not torch.allclose(first[0], first[1])


def test_the_loss_of_views_is_the_mean_and_places_count_where_they_are_seen() -> None:
    logits = [torch.randn(2, 3, 5), torch.randn(2, 3, 5)]
    targets = [torch.rand(2, 3, 5).softmax(-1) for _ in range(2)]
    for target in targets:
        target[..., -1] = 0
    targets[1][:, 0] = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])  # not in this view
    valid = torch.tensor([[True, True, False], [True, False, True]])
    cells = torch.rand(4, 2)
    loss, error = views_loss(logits, targets, valid, [cells, cells])
    each = [grounding_loss(a, b, valid) for a, b in zip(logits, targets, strict=True)]
    torch.testing.assert_close(loss, (each[0] + each[1]) / 2)
    near = [place_error(a, b, cells)[0] for a, b in zip(logits, targets, strict=True)]
    seen = near[0][valid].sum() + near[1][1, 2] + near[1][0, 1]
    torch.testing.assert_close(error, seen / (4 + 2))


@pytest.mark.parametrize("route", ROUTES)
@torch.no_grad()
def test_an_instruction_read_among_documents_is_read_as_when_it_is_acted_on(toy_store: Path, route: str) -> None:
    prepared, policy = ready(ROUTES[route], toy_store)
    backbone = language_model(policy).eval()
    images = {c: torch.from_numpy(prepared.windows.frames(c)[[0, 40]]) for c in policy.cameras}
    texts, proprio = ["touch the red cube", "碰蓝色方块"], torch.randn(2, 3)
    seen, encoded = backbone.look(images), backbone.encode_text(texts)
    alone, _ = backbone.understand(seen, proprio, encoded)
    rows = [ids[kept].tolist() for ids, kept in zip(encoded.ids, encoded.mask, strict=True)]
    packed = pack([[([*rows[0][:3]], [5]), ([STATE, *row, *backbone.asks], [])] for row in rows])
    pictured, states = backbone.read(seen, packed, proprio)
    pointers = (packed.ids < STATE) & (packed.ids > READOUTS)
    views = backbone.views(seen, pictured)
    logits = backbone.grounding.ground(views, states[pointers].unflatten(0, (2, -1)), proprio)
    among = backbone.found(views, logits, states[packed.ids <= READOUTS].unflatten(0, (2, -1)))
    torch.testing.assert_close(among, alone, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("route", ROUTES)
def test_it_finds_what_is_named_in_pictures_it_has_not_seen(tmp_path: Path, route: str) -> None:
    config = replace(ROUTES[route], policy=replace(ROUTES[route].policy, backbone=SHARP[route]))
    store = write_store(tmp_path / "train.zarr", 300)
    losses = {"text": 0.1, "place": 0.1, "grounding": 1.0}
    stage = replace(config.align, steps=300, batch_size=32, documents=1, losses=losses, colour_jitter=0.0)
    prepared, policy = ready(config, store)
    assert prepared.grounding is not None
    backbone = language_model(policy)
    if isinstance(backbone, FusionBackbone):
        _learn_pictures(backbone, prepared)
    objective = DescribeObjective(policy, stage)
    batches = DescribeBatches(prepared.grounding, stage, policy, prepared.vocabulary, 0)
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=2e-3, betas=(0.9, 0.95))
    for step in range(stage.steps):
        descend(objective, optimiser, batches(step))
    unseen = prepare(config, str(write_store(tmp_path / "test.zarr", 40, first_seed=1000)), None).grounding
    assert unseen is not None
    held_out = DescribeBatches(unseen, replace(stage, batch_size=64), policy, prepared.vocabulary, 0)(0)
    with torch.no_grad():
        parts = objective.eval()(held_out).parts
    assert parts["place_error"] < 0.15, "drawn at random it would be about 1"


def _learn_pictures(backbone: FusionBackbone, prepared: Prepared) -> None:
    """A codebook that tells the squares apart."""
    backbone.codebook.train()
    optimiser = torch.optim.AdamW(backbone.codebook.parameters(), lr=2e-3)
    frames: Any = prepared.windows.frames("front")
    rng = np.random.default_rng(0)
    for _ in range(150):
        images = torch.from_numpy(frames[np.sort(rng.choice(len(frames), 32, replace=False))])
        optimiser.zero_grad()
        backbone.codebook.loss(images).total.backward()
        optimiser.step()
    backbone.codebook.eval().requires_grad_(False)
