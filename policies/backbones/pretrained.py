"""Weights of others: towers and language models of transformers, from a folder or by their name on the hub.

Which architecture is loaded becomes part of a policy's configuration, so that a saved policy needs neither again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..config import BackboneConfig, TextConfig, VisionConfig
from ..interfaces import Backbone
from . import library
from .compositional import CompositionalBackbone
from .decoder import Decoder
from .language import LanguageBackbone
from .modular import ModularBackbone
from .text_models import TEXTS, TransformersText
from .tokenizer import TextTokenizer
from .views import TowerViews
from .vision import TOWERS, VisionEncoder

VISION_TYPES = {  # what a folder's config.json may say of itself -> kind of tower
    "clip": "clip",
    "clip_vision_model": "clip",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
    "dinov2": "dinov2",
    "qwen2_vl": "packed",
    "qwen2_vl_vision": "packed",
}
TEXT_TYPES = {
    "clip": "clip",
    "clip_text_model": "clip",
    "siglip": "siglip",
    "siglip_text_model": "siglip",
    "bert": "bert",
}


def resolve(config: BackboneConfig) -> BackboneConfig:
    """The configuration with the architectures of what is to be loaded filled in.

    Raises:
        FileNotFoundError: there is no such folder, and no such name on the hub.
        ValueError: what is there is of another kind.
    """
    vision, text, decoder, width = config.vision, config.text, config.decoder, config.embedding_width
    if vision.pretrained:
        options = _encoder_options("vision", vision, VISION_TYPES)
        own = getattr(options, "vision_config", options)
        if own.model_type == "siglip_vision_model" and config.kind != "modular":
            own.vision_use_head = False  # the compositional route reads the tokens that it pools
        vision = replace(vision, architecture=_as_text(own))
    if text.pretrained:
        options = _encoder_options("text", text, TEXT_TYPES)
        own = getattr(options, "text_config", options)
        if _shares_space(config):
            width = own.projection_size if text.kind == "siglip" else options.projection_dim
        text = replace(text, architecture=_as_text(own))
    if decoder.pretrained:
        options = _options(decoder.pretrained, "policy.backbone.decoder.pretrained")
        decoder = replace(decoder, architecture=_as_text(options))
    return replace(config, vision=vision, text=text, decoder=decoder, embedding_width=width)


def load_tokenizer(config: BackboneConfig, marks: list[str]) -> TextTokenizer | None:
    """The tokenizer of the text encoder or language model that is to be loaded, with our marks added; None for none.

    Raises ValueError where it is not one of the tokenizers library (a `tokenizer.json`).
    """
    encodes = config.kind == "modular"
    field, place = ("text", config.text.pretrained) if encodes else ("decoder", config.decoder.pretrained)
    if not place:
        return None
    from transformers import AutoTokenizer

    found: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    if not getattr(found, "is_fast", False):
        raise ValueError(
            f"policy.backbone.{field}.pretrained {place}: found {type(found).__name__}, wanted a tokenizer with a "
            "tokenizer.json"
        )
    return TextTokenizer.extend(found.backend_tokenizer.to_str(), config.max_text_tokens, marks, frames=encodes)


def load_weights(backbone: Backbone, config: BackboneConfig) -> None:
    """Put the weights that `config` names into a backbone that was built with it."""
    if isinstance(backbone, CompositionalBackbone) and config.vision.pretrained:
        _load_vision(backbone.vision, config)
    if isinstance(backbone, LanguageBackbone) and config.decoder.pretrained:
        _load_decoder(backbone.decoder, config)
    if isinstance(backbone, ModularBackbone):
        if config.vision.pretrained and isinstance(backbone.image, TowerViews):
            _load_vision(backbone.image.encoder, config)
        if config.text.pretrained and isinstance(backbone.text, TransformersText):
            _load_text(backbone.text, config)
        if _shares_space(config):
            _load_space(backbone, config)


def _load_vision(vision: VisionEncoder, config: BackboneConfig) -> None:
    package, _, model = TOWERS[config.vision.kind][:3]
    tower: Any = vision.tower
    found = library.model(package, model).from_pretrained(
        config.vision.pretrained, config=tower.config, use_safetensors=True
    )
    tower.load_state_dict(found.state_dict())


def _load_text(text: TransformersText, config: BackboneConfig) -> None:
    package, _, model, own = TEXTS[config.text.kind]
    found: Any = library.model(package, model).from_pretrained(config.text.pretrained, use_safetensors=True, **own)
    found.resize_token_embeddings(text.embedding.num_embeddings, mean_resizing=False)
    text.model.load_state_dict(found.state_dict())


def _load_space(backbone: ModularBackbone, config: BackboneConfig) -> None:
    """What CLIP projects both to; SigLIP's pooled images and texts lie in one space as they are."""
    kind = config.text.kind
    model: Any = library.model(kind, {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind])
    found = model.from_pretrained(config.text.pretrained, use_safetensors=True)
    if kind == "clip":
        image, text = found.visual_projection.weight, found.text_projection.weight
    else:
        image = text = torch.eye(config.embedding_width)
    backbone.embedding.take(image, text, math.exp(-found.logit_scale.item()))


def _shares_space(config: BackboneConfig) -> bool:
    """Whether image and text encoder are those of one CLIP or SigLIP."""
    return (
        config.kind == "modular" and bool(config.text.pretrained) and config.text.pretrained == config.vision.pretrained
    )


def _load_decoder(decoder: Decoder, config: BackboneConfig) -> None:
    from transformers import AutoModelForCausalLM

    found: Any = AutoModelForCausalLM.from_pretrained(
        config.decoder.pretrained, use_safetensors=True, trust_remote_code=False
    )
    vocabulary = decoder.model.get_input_embeddings().num_embeddings
    found.resize_token_embeddings(vocabulary, mean_resizing=False)
    decoder.load(found.state_dict())


def _encoder_options(field: str, encoder: VisionConfig | TextConfig, types: Mapping[str, str]) -> Any:
    """The configuration of the encoder that is to be loaded, or of what it is part of."""
    options = _options(encoder.pretrained, f"policy.backbone.{field}.pretrained")
    kind = types.get(options.model_type)
    if kind != encoder.kind:
        raise ValueError(
            f"policy.backbone.{field}.pretrained {encoder.pretrained}: found model_type {options.model_type!r}, wanted "
            f"one of kind {encoder.kind!r}; set policy.backbone.{field}.kind"
            + (f" to {kind!r}" if kind else f", one of {sorted(set(types.values()))}")
        )
    return options


def _options(place: str, field: str) -> Any:
    wanted = "a folder with config.json and model.safetensors"
    return library.options(place, f"{field}: found nothing to load at {place!r}, wanted {wanted}")


def _as_text(options: Any) -> str:
    """A configuration of transformers as one line of JSON, without what names a place or a version."""
    values = options.to_dict()
    for name in ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype"):
        values.pop(name, None)
    return json.dumps(values, sort_keys=True)
