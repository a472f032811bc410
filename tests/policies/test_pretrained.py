"""Weights of others are loaded whole, adapters leave them as they are, a saved policy needs their folder no more."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from deixis.policies.backbones.compositional import CompositionalBackbone
from deixis.policies.backbones.decoder import Decoder
from deixis.policies.backbones.pretrained import resolve
from deixis.policies.backbones.vision import build_vision
from deixis.policies.config import BackboneConfig, BridgeConfig, DecoderConfig, StageConfig, VisionConfig
from deixis.policies.policy import Policy
from deixis.policies.training.optimisation import Optimisation
from deixis.policies.training.train import train

from .conftest import SIZE, TINY_POLICY, tiny_config

IMAGE, PATCH, WIDTH, WORDS = 48, 12, 24, 311  # none of them ours
TEXTS = ["touch the red cube.", "point to the blue cube.", "there are a red cube and a blue cube.", "碰红色方块"]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small towers as the library writes them; CLIP as the whole model, of which the tower is a part."""
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "patch_size": PATCH,
    }
    wide: dict[str, Any] = {**sizes, "image_size": IMAGE}
    clip = CLIPConfig(
        vision_config={**wide, "intermediate_size": 40}, text_config={"hidden_size": 16, "vocab_size": 30}
    )
    made = {
        "clip": CLIPModel(clip),
        "siglip": SiglipVisionModel(SiglipVisionConfig(**wide, intermediate_size=40)),
        "dinov2": Dinov2Model(Dinov2Config(**wide, mlp_ratio=2)),
    }
    folders = {name: tmp_path_factory.mktemp(name) for name in made}
    for name, model in made.items():
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with a byte-level tokenizer of its own, as the library writes them."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    options = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(options).save_pretrained(folder)
    return folder


def backbone_config(towers: dict[str, Path], language_model: Path, **decoder: Any) -> BackboneConfig:
    return BackboneConfig(
        kind="compositional",
        width=32,
        vision=VisionConfig(kind="clip", pretrained=str(towers["clip"])),
        bridge=BridgeConfig(kind="mlp"),
        decoder=DecoderConfig(readouts=2, pretrained=str(language_model), **decoder),
    )


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
@torch.no_grad()
def test_a_tower_computes_what_the_library_computes(towers: dict[str, Path], kind: Any) -> None:
    from transformers import CLIPVisionModel, Dinov2Model, SiglipVisionModel

    from deixis.policies.backbones.pretrained import _load_vision

    folder = towers[kind]
    config = resolve(BackboneConfig(vision=VisionConfig(kind=kind, pretrained=str(folder), resolution=IMAGE)))
    encoder = build_vision(config.vision, (SIZE, SIZE)).eval()
    assert (encoder.grid, encoder.width) == ((IMAGE // PATCH, IMAGE // PATCH), WIDTH)
    _load_vision(encoder, config)
    of: Any = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel, "dinov2": Dinov2Model}[kind]
    images = torch.rand(2, IMAGE, IMAGE, 3)
    pixels = encoder.pixels(images, (IMAGE, IMAGE))  # type: ignore[operator]
    expected = of.from_pretrained(folder).eval()(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(encoder(images), expected[:, -(encoder.grid[0] ** 2) :])


def stage(**trainable: float) -> StageConfig:
    return StageConfig(steps=3, batch_size=8, warmup_steps=1, lr=1e-2, trainable=trainable)


def run_config(backbone: BackboneConfig, **imitate: float) -> Any:
    parts = {"bridge": 1.0, "projector": 1.0, "head": 1.0, **imitate}
    policy = replace(TINY_POLICY, backbone=backbone)
    nothing = replace(tiny_config().align, steps=0)
    return tiny_config(policy=policy, align=nothing, unaligned=stage(**parts))


def plain_weights(policy: Policy) -> dict[str, Tensor]:
    backbone = policy.backbone
    assert isinstance(backbone, CompositionalBackbone)
    return {
        name.replace(".base_layer", ""): value
        for name, value in backbone.decoder.model.state_dict().items()
        if ".lora_" not in name
    }


@pytest.mark.parametrize("adapt", [{"lora": 2}, {"prefix": 3}, {"lora": 2, "prefix": 3}], ids="+".join)
def test_adapters_learn_while_the_language_model_and_the_tower_stay_bit_for_bit(
    towers: dict[str, Path], language_model: Path, toy_store: Path, tmp_path: Path, adapt: dict[str, int]
) -> None:
    from transformers import CLIPVisionModel, LlamaForCausalLM

    config = run_config(backbone_config(towers, language_model, **adapt), adapter=1.0)
    policy = Policy.load(train(config, toy_store, tmp_path / "run"))
    original = LlamaForCausalLM.from_pretrained(language_model)
    words = original.get_input_embeddings().num_embeddings
    found = plain_weights(policy)
    for name, value in original.state_dict().items():
        own = found[name][:words] if value.shape[0] == words else found[name]
        assert torch.equal(own, value), name
    tower = CLIPVisionModel.from_pretrained(towers["clip"]).state_dict()
    backbone = policy.backbone
    assert isinstance(backbone, CompositionalBackbone)
    assert all(torch.equal(value, tower[name]) for name, value in backbone.vision.tower.state_dict().items())  # type: ignore[union-attr]
    adapter = backbone.parts["adapter"]
    moved = [name for name, value in adapter.state_dict().items() if "lora_A" not in name and value.abs().sum() > 0]
    assert moved


def test_what_is_frozen_has_no_gradient_and_no_state(towers: dict[str, Path], language_model: Path) -> None:
    config = resolve(backbone_config(towers, language_model, lora=2, prefix=2))
    decoder = Decoder(config.decoder, WORDS)
    adapter = decoder.adapter
    assert adapter is not None
    optimisation = Optimisation({"decoder": decoder, "adapter": adapter}, stage(adapter=1.0))
    embedded, mask = decoder.embed(torch.randint(0, WORDS, (1, 4))), torch.ones(1, 4, dtype=torch.bool)
    decoder(embedded, mask).sum().backward()
    optimisation.optimizer.step()
    with_gradient = {name for name, p in decoder.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all(".lora_" in name or name.startswith("prefix") for name in with_gradient)
    assert len(optimisation.optimizer.state) == len(with_gradient)
    both = Optimisation({"decoder": decoder, "adapter": adapter}, stage(decoder=0.1, adapter=1.0))
    assert {group["scale"] for group in both.optimizer.param_groups} == {0.1, 1.0}
    everything = [p for group in both.optimizer.param_groups for p in group["params"]]
    assert len({id(p) for p in everything}) == len(everything) == len(list(decoder.parameters()))


@torch.no_grad()
def test_before_training_adapters_change_nothing_and_a_prefix_of_none_neither() -> None:
    torch.manual_seed(0)
    options = DecoderConfig(width=32, layers=2, heads=2)
    plain, adapted = Decoder(options, 40).eval(), Decoder(replace(options, lora=4), 40).eval()
    adapted.load(plain.model.state_dict())
    ids, mask = torch.randint(0, 40, (2, 5)), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = plain(plain.embed(ids), mask)
    assert torch.equal(adapted(adapted.embed(ids), mask), expected), "B starts at zero"


@torch.no_grad()
def test_a_prefix_is_seen_by_every_token_and_padding_still_changes_nothing() -> None:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(width=32, layers=2, heads=2, prefix=3), 40).eval()
    ids = torch.randint(0, 40, (1, 5))
    states = decoder(decoder.embed(ids), torch.ones(1, 5, dtype=torch.bool))
    padded = torch.cat([ids, ids[:, :2]], dim=1)
    mask = torch.tensor([[True] * 5 + [False] * 2])
    torch.testing.assert_close(decoder(decoder.embed(padded), mask)[:, :5], states)
    assert decoder.prefix is not None
    decoder.prefix.values.mul_(-5)
    moved = decoder(decoder.embed(ids), torch.ones(1, 5, dtype=torch.bool)) - states
    assert moved.abs().amax(-1).min() > 1e-4


def test_a_policy_acts_alike_without_the_folders_it_was_loaded_from(
    towers: dict[str, Path], language_model: Path, toy_store: Path, tmp_path: Path, observe: Any
) -> None:
    copies = {"clip": tmp_path / "clip"}
    shutil.copytree(towers["clip"], copies["clip"])
    shutil.copytree(language_model, tmp_path / "llama")
    config = run_config(backbone_config(copies, tmp_path / "llama"), decoder=0.1)
    saved = train(config, toy_store, tmp_path / "run")
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    before = Policy.load(saved).act(observe(), generators)
    shutil.rmtree(copies["clip"])
    shutil.rmtree(tmp_path / "llama")
    again = Policy.load(saved)
    after = again.act(observe(), [torch.Generator().manual_seed(i) for i in range(2)])
    assert torch.equal(before, after)
    ids, _ = again.tokenizer(["碰红色方块 <p01>"])
    assert again.tokenizer.decode(ids[0].tolist()) == "碰红色方块 <p01>"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"kind": "siglip"}, ValueError, "found model_type 'clip', wanted one of kind 'siglip'.*to 'clip'"),
        ({"pretrained": "no/such/folder"}, FileNotFoundError, "found nothing to load at 'no/such/folder'"),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    towers: dict[str, Path], change: dict[str, Any], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vision = replace(VisionConfig(kind="clip", pretrained=str(towers["clip"])), **change)
    with pytest.raises(error, match=said):
        resolve(BackboneConfig(kind="compositional", vision=vision))


def test_a_language_model_that_lacks_weights_is_refused() -> None:
    decoder = Decoder(DecoderConfig(width=32, layers=2, heads=2), 40)
    weights = {name: value for name, value in decoder.model.state_dict().items() if "layers.1.mlp" not in name}
    with pytest.raises(ValueError, match=r"layers\.1\.mlp.*found nothing, wanted \["):
        decoder.load(weights)
    assert np.isfinite(float(decoder.model.get_input_embeddings().weight.detach().sum()))
