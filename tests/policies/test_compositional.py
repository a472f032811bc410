"""The compositional route: encoders, bridges, and a decoder that reads padded sequences as it reads them alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.compositional import CompositionalBackbone
from deixis.policies.backbones.decoder import Decoder
from deixis.policies.backbones.packing import pack
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.backbones.vision import PackedEncoder, TowerEncoder, build_vision
from deixis.policies.config import BackboneConfig, BridgeConfig, DecoderConfig, HeadConfig, PolicyConfig, VisionConfig
from deixis.policies.interfaces import Batch, Observation
from deixis.policies.policy import Policy

from .conftest import SIZE, SPEC

VISION = VisionConfig(patch=8, width=16, layers=1, heads=2)
DECODER = DecoderConfig(width=32, layers=2, heads=2, readouts=3)
BACKBONE = BackboneConfig(
    kind="compositional", width=24, vision=VISION, bridge=BridgeConfig(latents=4, layers=1, every=2), decoder=DECODER
)
TOWERS = ["conv", "clip", "siglip", "dinov2", "packed"]
BRIDGES = ["mlp", "qformer", "perceiver", "cross_attention"]
TEXTS = ["touch the red cube", "碰红色方块", ""]


def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(TEXTS, 200, 16)


def make(config: BackboneConfig = BACKBONE) -> CompositionalBackbone:
    torch.manual_seed(0)
    return CompositionalBackbone(config, {"front": (SIZE, SIZE), "wrist": (SIZE, SIZE)}, 3, 2, tokenizer()).eval()


def observation(rows: list[int] | None = None) -> Observation:
    rng = np.random.default_rng(0)
    images = {c: torch.from_numpy(rng.integers(0, 255, (3, 2, SIZE, SIZE, 3)).astype(np.uint8)) for c in SPEC_CAMERAS}
    proprio = torch.from_numpy(rng.normal(size=(3, 2, 3)).astype(np.float32))
    rows = rows or [0, 1, 2]
    return Observation({c: x[rows] for c, x in images.items()}, proprio[rows], [TEXTS[row] for row in rows])


SPEC_CAMERAS = tuple(camera.name for camera in SPEC.cameras)


def bridged(kind: Any) -> BackboneConfig:
    return replace(BACKBONE, bridge=replace(BACKBONE.bridge, kind=kind))


def seen_by(kind: Any) -> BackboneConfig:
    return replace(BACKBONE, vision=replace(VISION, kind=kind))


@pytest.mark.parametrize(
    "config", [bridged(kind) for kind in BRIDGES] + [seen_by(kind) for kind in TOWERS[1:]], ids=[*BRIDGES, *TOWERS[1:]]
)
@torch.no_grad()
def test_tokens_have_their_shape_and_do_not_depend_on_the_rest_of_the_batch(config: BackboneConfig) -> None:
    backbone = make(config)
    together = backbone(observation())
    assert together.tokens.shape == (3, backbone.num_tokens, backbone.width)
    assert together.mask.all()
    for row in range(3):  # shorter texts are padded in a batch, and no camera's picture of another row is seen
        alone = backbone(observation([row]))
        torch.testing.assert_close(alone.tokens[0], together.tokens[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [bridged(kind) for kind in BRIDGES], ids=BRIDGES)
@torch.no_grad()
def test_readouts_depend_on_every_image_on_the_words_and_on_proprioception(config: BackboneConfig) -> None:
    backbone, base = make(config), observation()
    if config.bridge.kind == "cross_attention":
        open_gates(backbone)
    readouts = config.decoder.readouts
    before = backbone(base).tokens.unflatten(1, (2, -1))[:, :, -readouts:]

    def moved(changed: Observation) -> list[float]:
        after = backbone(changed).tokens.unflatten(1, (2, -1))[:, :, -readouts:]
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


def open_gates(of: nn.Module) -> None:
    for name, parameter in of.named_parameters():
        if name.endswith("_gate"):
            parameter.data.fill_(0.5)


@torch.no_grad()
def test_gates_that_are_closed_leave_the_language_model_exactly_as_it_was() -> None:
    torch.manual_seed(0)
    plain = Decoder(DECODER, 50)
    gated = Decoder(DECODER, 50, BridgeConfig(kind="cross_attention", every=2))
    weights = {name.replace(".layers.0.", ".layers.0.layer."): value for name, value in plain.state_dict().items()}
    missing, unknown = gated.load_state_dict(weights, strict=False)
    assert not unknown
    assert missing and all(".look." in name for name in missing)
    ids, mask = torch.randint(0, 50, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    seen = torch.randn(2, 5, DECODER.width)
    expected = plain.logits(plain(plain.embed(ids), mask))
    assert torch.equal(gated.logits(gated(gated.embed(ids), mask, seen)), expected), "closed, they change no bit"
    open_gates(gated)
    assert not torch.allclose(gated.logits(gated(gated.embed(ids), mask, seen)), expected)


def test_gates_get_a_gradient_from_where_they_start() -> None:
    backbone = make(bridged("cross_attention")).train()
    backbone(observation()).tokens.square().sum().backward()
    gates = [p for name, p in backbone.named_parameters() if name.endswith("attn_gate")]
    assert gates and all(gate.grad is not None and gate.grad.abs().item() > 0 for gate in gates)


@torch.no_grad()
def test_the_decoder_is_causal_and_blind_to_padding_in_between() -> None:
    torch.manual_seed(0)
    decoder = Decoder(DECODER, 50).eval()
    ids = torch.randint(0, 50, (1, 6))
    states = decoder(decoder.embed(ids), torch.ones(1, 6, dtype=torch.bool))
    changed = ids.clone()
    changed[:, 4] += 1 - 2 * (changed[:, 4] == 49).long()
    after = decoder(decoder.embed(changed), torch.ones(1, 6, dtype=torch.bool))
    torch.testing.assert_close(after[:, :4], states[:, :4])
    assert not torch.allclose(after[:, 4:], states[:, 4:])
    with_hole = torch.cat([ids[:, :2], torch.full((1, 2), 7), ids[:, 2:]], dim=1)
    mask = torch.tensor([[True, True, False, False, True, True, True, True]])
    padded = decoder(decoder.embed(with_hole), mask)
    torch.testing.assert_close(padded[mask], states[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("bridge", ["mlp", "cross_attention"])
@torch.no_grad()
def test_packed_documents_read_as_each_alone(bridge: Any) -> None:
    backbone = make(bridged(bridge))
    open_gates(backbone)
    watched = observation()
    images = {camera: x[:, -1] for camera, x in watched.images.items()}
    frames = backbone.look(images)
    documents = [[([2, 5], [6]), ([2], [7, 8, 9])], [([2, 4, 4], [3])], [([2], [5]), ([2], [5])]]
    packed = pack(documents)
    assert packed.said.sum(1).tolist() == [4, 1, 2]
    together = backbone.read(frames, packed)[1]
    for row, own in enumerate(documents):
        alone = [backbone.read(frames[row : row + 1], pack([[document]]))[1][0] for document in own]
        torch.testing.assert_close(together[row][packed.document[row] >= 0], torch.cat(alone), atol=1e-4, rtol=1e-4)
    other = backbone.read(frames.roll(1, 0), packed)[1]
    assert not torch.allclose(other, together, atol=1e-4), "a document is about its picture"


@torch.no_grad()
def test_images_of_several_sizes_packed_in_one_pass_are_what_they_are_alone() -> None:
    torch.manual_seed(0)
    encoder = build_vision(replace(VISION, kind="packed", layers=2), (SIZE, SIZE)).eval()
    assert isinstance(encoder, PackedEncoder)
    images = [torch.randn(3, *size) for size in ((32, 32), (8, 24), (40, 16))]
    packed = encoder.encode(images)
    assert [len(tokens) for tokens in packed] == [16, 3, 10]
    for image, tokens in zip(images, packed, strict=True):
        torch.testing.assert_close(encoder.encode([image])[0], tokens, atol=1e-5, rtol=0)


@torch.no_grad()
def test_packed_tokens_know_where_they_are() -> None:
    torch.manual_seed(0)
    encoder = build_vision(replace(VISION, kind="packed", layers=2), (SIZE, SIZE)).eval()
    image = torch.zeros(1, SIZE, SIZE, 3)
    image[:, 4:12, 20:28] = 1.0  # off the grid, so that two tokens share it
    tokens, mirrored = encoder(image)[0], encoder(image.flip(2))[0]
    changed = (tokens - mirrored).abs().sum(-1).view(4, 4)
    assert changed[:2, [0, 1, 2, 3]].min() > 0, "rotary positions tell left from right"


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
@torch.no_grad()
def test_positions_are_interpolated_to_other_sizes(kind: Any) -> None:
    torch.manual_seed(0)
    small = build_vision(replace(VISION, kind=kind), (SIZE, SIZE)).eval()
    large = build_vision(replace(VISION, kind=kind, resolution=2 * SIZE), (SIZE, SIZE)).eval()
    assert isinstance(small, TowerEncoder) and isinstance(large, TowerEncoder)
    large.tower.load_state_dict(small.tower.state_dict())
    images = torch.rand(2, SIZE, SIZE, 3)
    assert small(images).shape == (2, 16, 16)
    assert large(images).shape == (2, 64, 16)


def test_a_tower_takes_the_nearest_whole_number_of_patches() -> None:
    encoder = build_vision(replace(VISION, kind="clip", patch=7), (SIZE, SIZE))
    assert encoder.grid == (5, 5)
    assert encoder(torch.zeros(1, SIZE, SIZE, 3)).shape == (1, 25, 16)


def test_dropped_patches_make_a_shorter_sequence_and_come_back_after() -> None:
    encoder = build_vision(replace(VISION, kind="clip"), (SIZE, SIZE)).eval()
    assert isinstance(encoder, TowerEncoder)
    images = torch.rand(2, SIZE, SIZE, 3)
    whole = encoder(images)
    with encoder.dropping(0.75):
        torch.manual_seed(0)
        first = encoder(images)
        second = encoder(images)
    assert first.shape == (2, 4, 16)
    assert not torch.allclose(first, second), "other patches every time"
    torch.testing.assert_close(encoder(images), whole)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (seen_by("resnet"), "vision.kind: found 'resnet'"),
        (bridged("rope"), "bridge.kind: found 'rope'"),
        (replace(BACKBONE, bridge=BridgeConfig(latents=0)), "wanted latents, layers and every of at least 1"),
        (replace(BACKBONE, vision=replace(VISION, patch=6)), "vision.patch: found 6"),
        (replace(BACKBONE, vision=replace(VISION, resolution=64)), "wanted 0"),
        (replace(BACKBONE, decoder=replace(DECODER, heads=5)), "decoder.heads: found 5"),
    ],
)
def test_what_cannot_be_built_is_refused(config: BackboneConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(config)


def test_cameras_of_different_sizes_need_a_resolution() -> None:
    sizes = {"front": (SIZE, SIZE), "wrist": (16, 24)}
    with pytest.raises(ValueError, match=r"only with a vision\.resolution"):
        CompositionalBackbone(seen_by("clip"), sizes, 3, 2, tokenizer())
    scaled = replace(BACKBONE, vision=replace(VISION, kind="clip", resolution=SIZE))
    backbone = CompositionalBackbone(scaled, sizes, 3, 2, tokenizer())
    images = {"front": torch.zeros(1, 2, SIZE, SIZE, 3), "wrist": torch.zeros(1, 2, 16, 24, 3)}
    assert backbone(Observation(images, torch.zeros(1, 2, 3), ["x"])).tokens.isfinite().all()


@pytest.mark.parametrize(
    "head", ["diffusion", "token", "energy", "mixture", "regression", "flow", "shortcut", "hybrid"]
)
@pytest.mark.parametrize("bridge", ["mlp", "cross_attention"])
def test_every_head_trains_a_step_is_saved_loaded_and_acts(tmp_path: Path, head: Any, bridge: Any) -> None:
    torch.manual_seed(0)
    options = HeadConfig(kind=head, context_width=16, denoiser_width=16, denoiser_blocks=1, train_timesteps=20)
    if head in ("flow", "shortcut"):
        options = replace(options, prediction_type="v_prediction")
    config = PolicyConfig(bridged(bridge), options, obs_horizon=2, action_horizon=4, exec_horizon=2)
    proprio, action = MinMaxNormaliser(np.zeros(3), np.ones(3)), MinMaxNormaliser(-np.ones(2), np.ones(2))
    policy = Policy(config, SPEC, SPEC_CAMERAS, proprio, action, tokenizer())
    actions, is_pad = torch.rand(3, 4, 2) * 2 - 1, torch.zeros(3, 4, dtype=torch.bool)
    policy.head.fit(torch.rand(50, 4, 2) * 2 - 1, torch.zeros(50, 4, dtype=torch.bool))
    optimiser = torch.optim.SGD(policy.parameters(), 1e-3)
    policy.loss(Batch(observation(), actions, is_pad)).total.backward()
    reached = [name for name, module in policy.parts.items() if any(p.grad is not None for p in module.parameters())]
    assert set(reached) >= {"bridge", "decoder", "grounding", "projector", "head"}
    optimiser.step()
    policy.eval().save(tmp_path / "policy")
    again = Policy.load(tmp_path / "policy")

    def act(of: Policy) -> Tensor:
        return of.act(observation(), [torch.Generator().manual_seed(row) for row in range(3)])

    assert torch.equal(act(policy), act(again))
