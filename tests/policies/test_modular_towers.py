"""The modular route with towers of transformers: what is loaded says what it said before, and every pair trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor

from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.backbones.pretrained import load_tokenizer, load_weights, resolve
from deixis.policies.backbones.text_models import TransformersText
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.backbones.views import TowerViews
from deixis.policies.config import TextConfig, VisionConfig
from deixis.policies.policy import Policy
from deixis.policies.training.train import train

from .conftest import SIZE, TINY_BACKBONE, TINY_POLICY, tiny_config

IMAGE, PATCH, PLACES = 48, 12, 20  # none of them ours
TEXTS = ["touch the red cube", "point to the blue ball", "", "the green cylinder is left of the red cube"]


def save_tokenizer(folder: Path, before: str, after: str) -> int:
    """A byte-level tokenizer that frames texts, as the library writes it; its number of entries."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    special = [token for token in (before, after) if token]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    known = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{before} $A {after}".strip(), special_tokens=known
    )
    names = {"bos_token": before, "eos_token": after, "pad_token": after}
    kept = {name: token for name, token in names.items() if token}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=PLACES, **kept).save_pretrained(folder)
    return tokenizer.get_vocab_size()


@pytest.fixture(scope="module")
def duals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small CLIP, SigLIP and BERT with their tokenizers, as the library writes them."""
    from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    torch.manual_seed(3)
    vision: dict[str, Any] = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "patch_size": PATCH, "image_size": IMAGE,
    }  # fmt: skip
    folders = {name: tmp_path_factory.mktemp(name) for name in ("clip", "siglip", "bert")}
    frames = {"clip": ("<|start|>", "<|end|>"), "siglip": ("", "</s>"), "bert": ("[CLS]", "[SEP]")}
    for name, folder in folders.items():
        words = save_tokenizer(folder, *frames[name])
        text: dict[str, Any] = {
            "vocab_size": words, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
            "max_position_embeddings": PLACES, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
        }  # fmt: skip
        if name == "clip":
            small = {**text, "hidden_size": 16}
            CLIPModel(CLIPConfig(text_config=small, vision_config=vision, projection_dim=18)).save_pretrained(folder)
        elif name == "siglip":
            small = {**text, "eos_token_id": 0, "pad_token_id": 0, "hidden_size": 24}
            SiglipModel(SiglipConfig(text_config=small, vision_config=vision)).save_pretrained(folder)
        else:
            BertModel(BertConfig(**text, hidden_size=16), add_pooling_layer=False).save_pretrained(folder)
    return folders


def loaded(kind: Any, folder: Path, cameras: int = 1, **changes: Any) -> ModularBackbone:
    """A modular backbone with both towers from a folder."""
    config = resolve(
        replace(
            TINY_BACKBONE,
            vision=VisionConfig(kind=kind, pretrained=str(folder)),
            text=TextConfig(kind=kind, pretrained=str(folder)),
            **{"max_text_tokens": PLACES, **changes},
        )
    )
    tokenizer = load_tokenizer(config, [])
    assert tokenizer is not None
    views = {f"camera {i}": (IMAGE, IMAGE) for i in range(cameras)}
    backbone = ModularBackbone(config, views, 3, 2, tokenizer).eval()
    load_weights(backbone, config)
    return backbone


def cosines(backbone: ModularBackbone, *images: Tensor) -> Tensor:
    seen = dict(zip(backbone.cameras, images, strict=True))
    return backbone.compare(seen, TEXTS) / backbone.embedding.temperature()


@torch.no_grad()
def by_the_library(kind: str, folder: Path, images: Tensor) -> tuple[Tensor, float]:
    """Cosines [F, T] of images, scaled as its tower wants them, with the texts, and the temperature."""
    from transformers import AutoTokenizer, CLIPModel, SiglipModel

    of: Any = {"clip": CLIPModel, "siglip": SiglipModel}[kind]
    model = of.from_pretrained(folder).eval()
    padding = {"clip": True, "siglip": "max_length"}[kind]
    texts = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=padding, truncation=True, max_length=PLACES, return_tensors="pt"
    )
    mask = {"attention_mask": texts["attention_mask"]} if kind == "clip" else {}
    found = model(input_ids=texts["input_ids"], pixel_values=images, **mask)
    scale = float(model.logit_scale.exp())
    cosine = found.image_embeds @ found.text_embeds.T
    return cosine / (found.image_embeds.norm(dim=-1)[:, None] * found.text_embeds.norm(dim=-1)), 1 / scale


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_loaded_pair_compares_images_and_texts_as_the_library_does(duals: dict[str, Path], kind: str) -> None:
    backbone = loaded(kind, duals[kind])
    images = torch.randint(0, 256, (3, IMAGE, IMAGE, 3), dtype=torch.uint8)
    assert isinstance(backbone.image, TowerViews)
    pixels = backbone.image.encoder.pixels(images, (IMAGE, IMAGE))  # type: ignore[operator]
    expected, temperature = by_the_library(kind, duals[kind], pixels)
    torch.testing.assert_close(cosines(backbone, images), expected, atol=1e-5, rtol=1e-4)
    own = 1 / backbone.embedding.temperature().item()
    assert own == pytest.approx(min(max(temperature, 0.01), 0.1), rel=0.01), "just within our limits"
    twice = cosines(loaded(kind, duals[kind], cameras=2), images, images)
    torch.testing.assert_close(twice, expected, atol=1e-5, rtol=1e-4)


def test_only_a_pair_of_one_folder_shares_its_space(duals: dict[str, Path], tmp_path: Path) -> None:
    config = replace(
        TINY_BACKBONE,
        vision=VisionConfig(kind="clip", pretrained=str(duals["clip"])),
        text=TextConfig(kind="siglip", pretrained=str(duals["siglip"])),
    )
    assert resolve(config).embedding_width == TINY_BACKBONE.embedding_width
    same = replace(config, text=TextConfig(kind="clip", pretrained=str(duals["clip"])))
    assert resolve(same).embedding_width == 18


@pytest.mark.parametrize(
    ("vision", "text"),
    [("clip", "clip"), ("siglip", "siglip"), ("dinov2", "bert"), ("packed", "own"), ("conv", "clip")],
)
def test_towers_train_from_scratch_and_a_saved_policy_acts_alike(
    toy_store: Path, tmp_path: Path, vision: Any, text: Any, observe: Any
) -> None:
    tower = VisionConfig(kind=vision, patch=8, width=24, layers=1, heads=2)
    backbone = replace(TINY_BACKBONE, vision=tower, text=TextConfig(kind=text))
    align = tiny_config().align
    if vision in ("clip", "siglip", "dinov2"):
        align = replace(align, contrast=replace(align.contrast, drop=0.5))
    config = tiny_config(policy=replace(TINY_POLICY, backbone=backbone), align=align)
    saved = train(config, str(toy_store), tmp_path / "run")
    policies = [Policy.load(saved) for _ in range(2)]
    actions = [p.act(observe(), [torch.Generator().manual_seed(i) for i in range(2)]) for p in policies]
    assert torch.equal(*actions) and actions[0].isfinite().all()


def test_a_loaded_text_encoder_is_trained_and_saved_with_its_tokenizer(
    duals: dict[str, Path], toy_store: Path, tmp_path: Path
) -> None:
    text = TextConfig(kind="bert", pretrained=str(duals["bert"]))
    backbone = replace(TINY_BACKBONE, text=text, max_text_tokens=PLACES)
    align = replace(tiny_config().align, trainable={**tiny_config().align.trainable, "text": 0.0})
    saved = train(
        tiny_config(policy=replace(TINY_POLICY, backbone=backbone), align=align), str(toy_store), tmp_path / "run"
    )
    policy = Policy.load(saved)
    found = policy.backbone
    assert isinstance(found, ModularBackbone) and isinstance(found.text, TransformersText)
    from transformers import AutoTokenizer, BertModel

    original = BertModel.from_pretrained(duals["bert"], add_pooling_layer=False).state_dict()
    for name, value in original.items():
        own = found.text.model.state_dict()[name]
        assert torch.equal(own[: len(value)] if "word_embeddings" in name else own, value), name
    ids, _ = policy.tokenizer(["touch the red cube", "碰" * 60])
    expected = AutoTokenizer.from_pretrained(duals["bert"])(["touch the red cube"])["input_ids"][0]
    assert ids[0, : len(expected)].tolist() == expected
    assert ids.shape[1] == PLACES and ids[1, -1] == expected[-1], "cut before the last token, which stays"


def test_a_tower_sees_alike_whatever_else_is_in_the_batch_of_texts() -> None:
    torch.manual_seed(0)
    tokenizer = TextTokenizer.train(TEXTS, 200, 16)
    for kind in ("clip", "siglip", "bert"):
        config = replace(TINY_BACKBONE, text=TextConfig(kind=kind), max_text_tokens=16)
        backbone = ModularBackbone(config, {"front": (SIZE, SIZE)}, 3, 2, tokenizer).eval()
        together, alone = backbone.encode_text(TEXTS), backbone.encode_text(TEXTS[:1])
        torch.testing.assert_close(together.pooled[:1], alone.pooled, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.roles[:1], alone.roles, atol=1e-5, rtol=1e-4)


def test_more_places_than_the_encoder_has_and_cameras_of_two_sizes_are_refused(duals: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=f"max_text_tokens: found 64, wanted at most {PLACES}"):
        loaded("clip", duals["clip"], max_text_tokens=64)
    config = replace(TINY_BACKBONE, vision=VisionConfig(kind="clip", patch=8, width=24, layers=1, heads=2))
    with pytest.raises(ValueError, match=r"found cameras .*, wanted at least one, and of different sizes only"):
        ModularBackbone(config, {"a": (32, 32), "b": (48, 48)}, 3, 2, TextTokenizer.train(TEXTS, 200, 16))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("conv", {"drop": 0.5}, "align.contrast.drop: found 0.5, wanted 0: only image towers"),
        ("packed", {"drop": 0.5}, "align.contrast.drop: found 0.5, wanted 0: only image towers"),
        ("clip", {"drop": 1.0}, r"align.contrast.drop: found 1.0, wanted 0 to less than 1"),
        ("clip", {"signal": "masked_image"}, "masked_image: found 3 x 3 cells for images of 32 x 32"),
        ("conv", {"signal": "masked_text"}, "masked_text: wanted no weight: this text encoder brought its own words"),
    ],
)
def test_losses_that_do_not_fit_the_towers_are_refused(
    duals: dict[str, Path], toy_store: Path, tmp_path: Path, kind: Any, options: dict[str, Any], said: str
) -> None:
    align, signal = tiny_config().align, options.get("signal")
    text = TextConfig(kind="bert", pretrained=str(duals["bert"])) if signal == "masked_text" else TextConfig()
    vision = VisionConfig(kind=kind, patch=8, width=24, layers=1, heads=2, resolution=24 if signal else 0)
    backbone = replace(TINY_BACKBONE, vision=vision, text=text, max_text_tokens=PLACES)
    if signal:
        trainable, losses = {**align.trainable, "signals": 1.0}, {**align.losses, signal: 1.0}
        align = replace(align, losses=losses, trainable=trainable)
    align = replace(align, contrast=replace(align.contrast, drop=options.get("drop", 0.0)))
    with pytest.raises(ValueError, match=said):
        train(
            tiny_config(policy=replace(TINY_POLICY, backbone=backbone), align=align), str(toy_store), tmp_path / "run"
        )
