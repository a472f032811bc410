"""The early-fusion route: pictures are words of one vocabulary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.fusion import IMAGE_MARKS, FusionBackbone
from deixis.policies.backbones.packing import pack
from deixis.policies.config import (
    BackboneConfig,
    CodebookConfig,
    DecoderConfig,
    HeadConfig,
    PolicyConfig,
    StageConfig,
    TokenConfig,
)
from deixis.policies.interfaces import Batch, Observation
from deixis.policies.policy import Policy
from deixis.policies.training.describe import DescribeBatches, DescribeObjective
from deixis.policies.training.preparation import new_policy, prepare, train_tokenizer
from deixis.policies.training.train import train

from .conftest import SIZE, SPEC, TINY_POLICY, tiny_config
from .test_compositional import SPEC_CAMERAS, TEXTS, observation, tokenizer

CODES = 32
BACKBONE = BackboneConfig(
    kind="fusion",
    width=24,
    vocabulary=300,
    decoder=DecoderConfig(width=32, layers=2, heads=2, readouts=3),
    codebook=CodebookConfig(codes=CODES, patch=8, width=4, channels=8),
)
HEADS = ["diffusion", "token", "energy", "mixture", "regression", "flow", "shortcut", "hybrid"]


def make(config: BackboneConfig = BACKBONE) -> FusionBackbone:
    """An untrained backbone, whose codes are spread so that other pictures have other codes."""
    torch.manual_seed(0)
    backbone = FusionBackbone(config, {"front": (SIZE, SIZE), "wrist": (SIZE, SIZE)}, 3, 2, tokenizer()).eval()
    codebook = backbone.codebook
    codebook.train()
    for _ in range(3):
        codebook.loss(torch.randint(0, 255, (16, SIZE, SIZE, 3), dtype=torch.uint8))
    return backbone.eval()


@torch.no_grad()
def test_a_picture_is_its_codes_between_marks_in_one_vocabulary() -> None:
    backbone, seen = make(), observation()
    images = {camera: x[:, -1] for camera, x in seen.images.items()}
    codes = backbone.look(images)
    assert codes.shape == (3, 2, 16) and codes.dtype == torch.int64
    assert len(codes.unique()) > 4
    ids, predicted = backbone.spell(codes)
    first = backbone.tokenizer.size
    assert ids.shape == predicted.shape == (3, 2 * 18)
    assert ids[:, 0].eq(first).all() and ids[:, 17].eq(first + 1).all() and ids[:, 18].eq(first).all()
    assert torch.equal(ids[:, 1:17], codes[:, 0] + first + IMAGE_MARKS)
    assert torch.equal(ids[:, 19:35], codes[:, 1] + first + IMAGE_MARKS)
    assert predicted.sum(1).tolist() == [32, 32, 32]
    assert backbone.decoder.embed(ids).shape[-1] == 32
    entries = backbone.decoder.model.get_input_embeddings().num_embeddings
    assert entries == first + IMAGE_MARKS + CODES
    assert torch.equal(backbone.draw(ids[:, 1:17]), backbone.codebook.decode(codes[:, 0]))


@torch.no_grad()
def test_tokens_do_not_depend_on_the_rest_of_the_batch_but_on_all_that_is_seen_and_said() -> None:
    backbone, base = make(), observation()
    together = backbone(base)
    assert together.tokens.shape == (3, backbone.num_tokens, backbone.width)
    for row in range(3):
        alone = backbone(observation([row]))
        torch.testing.assert_close(alone.tokens[0], together.tokens[row], atol=1e-5, rtol=1e-4)
    before = together.tokens.unflatten(1, (2, -1))[:, :, -3:]

    def moved(changed: Observation) -> list[float]:
        after = backbone(changed).tokens.unflatten(1, (2, -1))[:, :, -3:]
        return (after - before).abs().amax((0, 2, 3)).tolist()

    for camera in SPEC_CAMERAS:
        for step in range(2):
            images = {name: x.clone() for name, x in base.images.items()}
            images[camera][:, step] = 255 - images[camera][:, step]
            changed = moved(replace(base, images=images))
            assert changed[step] > 1e-5 and changed[1 - step] < 1e-6, "each instant is read by itself"
    assert min(moved(replace(base, instruction=TEXTS[1:] + TEXTS[:1]))) > 1e-5
    assert min(moved(replace(base, proprio=base.proprio + 1))) > 1e-5
    assert moved(base) == [0.0, 0.0]


@torch.no_grad()
def test_pictures_and_documents_are_one_sequence_in_which_nothing_sees_what_comes_later() -> None:
    backbone, seen = make(), observation()
    codes = backbone.look({camera: x[:, -1] for camera, x in seen.images.items()})
    packed = pack([[([2, 5], [6]), ([2], [7, 8, 9])], [([2, 4, 4], [3])], [([2], [5]), ([2], [5])]])
    pictured, words = backbone.read(codes, packed)
    assert pictured.shape[1] == 36
    whole = torch.cat([pictured, words], dim=1)
    other = codes.clone()
    other[:, 1, 4] = (other[:, 1, 4] + 1) % CODES  # token 18 + 1 + 4 of the picture
    after = torch.cat(backbone.read(other, packed), dim=1)
    torch.testing.assert_close(after[:, :23], whole[:, :23])
    assert not torch.allclose(after[:, 23], whole[:, 23])
    assert not torch.allclose(after[:, 36:], whole[:, 36:])
    _, alone = backbone.read(codes[:1], pack([[([2], [7, 8, 9])]]))
    torch.testing.assert_close(words[0, 3:7], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head", [*HEADS, "token on the backbone's decoder"])
def test_every_head_trains_a_step_is_saved_loaded_and_acts(tmp_path: Path, head: Any) -> None:
    torch.manual_seed(0)
    kind = "token" if head.startswith("token") else head
    options = HeadConfig(kind=kind, context_width=16, denoiser_width=16, denoiser_blocks=1, train_timesteps=20)
    if head in ("flow", "shortcut"):
        options = replace(options, prediction_type="v_prediction")
    if head != kind:
        options = replace(options, token=TokenConfig(decoder="backbone"))
    config = PolicyConfig(BACKBONE, options, obs_horizon=2, action_horizon=4, exec_horizon=2)
    proprio, action = MinMaxNormaliser(np.zeros(3), np.ones(3)), MinMaxNormaliser(-np.ones(2), np.ones(2))
    policy = Policy(config, SPEC, SPEC_CAMERAS, proprio, action, tokenizer())
    actions, is_pad = torch.rand(3, 4, 2) * 2 - 1, torch.zeros(3, 4, dtype=torch.bool)
    policy.head.fit(torch.rand(50, 4, 2) * 2 - 1, torch.zeros(50, 4, dtype=torch.bool))
    policy.loss(Batch(observation(), actions, is_pad)).total.backward()
    reached = {name for name, module in policy.parts.items() if any(p.grad is not None for p in module.parameters())}
    # The language model itself reads on from its own states, and from no token.
    tokens = {"grounding", "projector"} if head == kind else set()
    assert reached == {"pictures", "decoder", "joints", "head"} | tokens, (
        "integers let no gradient through to the codebook"
    )
    policy.eval().save(tmp_path / "policy")
    again = Policy.load(tmp_path / "policy")

    def act(of: Policy) -> Tensor:
        return of.act(observation(), [torch.Generator().manual_seed(row) for row in range(3)])

    assert torch.equal(act(policy), act(again))


CODEBOOK = StageConfig(steps=4, batch_size=8, trainable={"codebook": 1.0}, ema_decay=0.0)
ALIGN = StageConfig(
    steps=4,
    batch_size=8,
    documents=3,
    trainable=dict.fromkeys(("pictures", "decoder", "joints", "grounding", "projector", "action"), 1.0),
    losses={"text": 1.0, "place": 1.0, "image": 0.1, "z": 1e-4, "action": 0.5},
)
IMITATE = StageConfig(steps=4, batch_size=8, trainable={"decoder": 1.0, "projector": 1.0, "head": 1.0})


def config(**changes: Any) -> Any:
    policy = replace(TINY_POLICY, backbone=BACKBONE)
    stages = {"codebook": CODEBOOK, "align": ALIGN, "imitate": IMITATE}
    return tiny_config(**{"policy": policy, **stages, **changes})


def test_codebook_alignment_and_imitation_follow_each_other_and_resume_to_the_same_weights(
    toy_store: Path, tmp_path: Path
) -> None:
    kept: dict[str, Tensor] = {}
    stages = []

    def keep(stage: str, policy: Policy) -> None:
        stages.append(stage)
        if stage == "codebook":
            kept.update({k: v.clone() for k, v in policy.backbone.parts["codebook"].state_dict().items()})

    whole = Policy.load(train(config(), toy_store, tmp_path / "whole", hooks=[keep]))
    assert stages == ["codebook", "align", "imitate"]
    assert kept["usage"].sum() > 0.9 and kept["deviation"].max() < 1
    for name, value in whole.backbone.parts["codebook"].state_dict().items():
        assert torch.equal(value, kept[name]), f"{name} is frozen after its stage"

    def stop(stage: str, policy: Policy) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(), toy_store, tmp_path / "stopped", hooks=[stop])
    again = Policy.load(train(config(), toy_store, tmp_path / "stopped"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_windows_without_their_images_have_the_commonest_codes(toy_store: Path, tmp_path: Path) -> None:
    imitate = replace(IMITATE, modality_dropout=0.3)
    train(config(align=replace(ALIGN, steps=0), imitate=imitate, unaligned=imitate), toy_store, tmp_path / "run")
    backbone = make()
    frames = torch.tensor([[[1, 2]], [[1, 3]], [[4, 3]]])
    assert backbone.unseen(frames).tolist() == [[1, 3]]


def test_the_loss_of_pictures_is_over_codes_alone_and_weighs_as_told(toy_store: Path) -> None:
    prepared = prepare(config(), str(toy_store), None)
    assert prepared.grounding is not None
    torch.manual_seed(0)
    policy = new_policy(config(), prepared, train_tokenizer(config(), prepared))
    losses = {}
    for weight in (0.0, 0.1, 1.0):
        stage = replace(ALIGN, losses={"text": 1.0, "place": 1.0, "image": weight}, colour_jitter=0.0)
        batches = DescribeBatches(prepared.grounding, stage, policy, prepared.vocabulary, 0)
        losses[weight] = DescribeObjective(policy, stage).eval()(batches(0))
    assert "image" not in losses[0.0].parts
    assert losses[0.1].parts["image"] == pytest.approx(np.log(policy.tokenizer.size + IMAGE_MARKS + CODES), rel=0.1)
    batch = batches(0)
    counts = [int((batch.modality[:, 1:] == kind).sum()) for kind in (0, 1)]
    pictured = len(batch.proprio) * len(policy.cameras) * 16
    for weight in (0.1, 1.0):
        weights = torch.tensor([counts[0], counts[1], weight * pictured])
        parts = torch.stack([losses[weight].parts[name] for name in ("text", "place", "image")])
        torch.testing.assert_close(losses[weight].total, (weights * parts).sum() / weights.sum())


def test_what_cannot_be_is_refused(toy_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"codebook\.steps: found 0, wanted steps for the backbone 'fusion'"):
        train(config(codebook=replace(CODEBOOK, steps=0)), toy_store, tmp_path / "a")
    with pytest.raises(ValueError, match=r"codebook\.steps: found 4 with backbone 'modular', wanted 0"):
        train(tiny_config(codebook=CODEBOOK), toy_store, tmp_path / "b")
    with pytest.raises(ValueError, match="wanted at least one, all of one size"):
        FusionBackbone(BACKBONE, {"front": (32, 32), "wrist": (16, 32)}, 3, 2, tokenizer())
