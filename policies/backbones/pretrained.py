"""Weights of others: towers and language models of transformers, from a folder or by their name on the hub.

Which architecture is loaded becomes part of a policy's configuration, so that a saved policy needs neither again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from typing import Any

from ..config import BackboneConfig
from ..interfaces import Backbone
from .compositional import CompositionalBackbone
from .decoder import Decoder
from .language import LanguageBackbone
from .tokenizer import TextTokenizer
from .vision import TOWERS, VisionEncoder

MODEL_TYPES = {  # what a folder's config.json may say of itself -> kind of tower
    "clip": "clip",
    "clip_vision_model": "clip",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
    "dinov2": "dinov2",
    "qwen2_vl": "packed",
    "qwen2_vl_vision": "packed",
}


def resolve(config: BackboneConfig) -> BackboneConfig:
    """The configuration with the architectures of what is to be loaded filled in.

    Raises:
        FileNotFoundError: there is no such folder, and no such name on the hub.
        ValueError: what is there is of another kind.
    """
    vision, decoder = config.vision, config.decoder
    if vision.pretrained:
        options = _options(vision.pretrained, "policy.backbone.vision.pretrained")
        kind = MODEL_TYPES.get(options.model_type)
        if kind != vision.kind:
            raise ValueError(
                f"policy.backbone.vision.pretrained {vision.pretrained}: found model_type {options.model_type!r}, "
                f"wanted one of kind {vision.kind!r}; set policy.backbone.vision.kind"
                + (f" to {kind!r}" if kind else f", one of {sorted(TOWERS)}")
            )
        options = getattr(options, "vision_config", options)
        vision = replace(vision, architecture=_as_text(options))
    if decoder.pretrained:
        options = _options(decoder.pretrained, "policy.backbone.decoder.pretrained")
        decoder = replace(decoder, architecture=_as_text(options))
    return replace(config, vision=vision, decoder=decoder)


def load_tokenizer(config: BackboneConfig, marks: list[str]) -> TextTokenizer:
    """The tokenizer of the language model that is to be loaded, with our marks added.

    Raises ValueError where it is not one of the tokenizers library (a `tokenizer.json`).
    """
    from transformers import AutoTokenizer

    found: Any = AutoTokenizer.from_pretrained(config.decoder.pretrained, trust_remote_code=False)
    if not getattr(found, "is_fast", False):
        raise ValueError(
            f"policy.backbone.decoder.pretrained {config.decoder.pretrained}: found {type(found).__name__}, wanted a "
            "tokenizer with a tokenizer.json"
        )
    return TextTokenizer.extend(found.backend_tokenizer.to_str(), config.max_text_tokens, marks)


def load_weights(backbone: Backbone, config: BackboneConfig) -> None:
    """Put the weights that `config` names into a backbone that was built with it."""
    if isinstance(backbone, CompositionalBackbone) and config.vision.pretrained:
        _load_vision(backbone.vision, config)
    if isinstance(backbone, LanguageBackbone) and config.decoder.pretrained:
        _load_decoder(backbone.decoder, config)


def _load_vision(vision: VisionEncoder, config: BackboneConfig) -> None:
    package, _, model = TOWERS[config.vision.kind][:3]
    of = getattr(import_module(f"transformers.models.{package}.modeling_{package}"), model)
    tower: Any = vision.tower
    found = of.from_pretrained(config.vision.pretrained, config=tower.config, use_safetensors=True)
    tower.load_state_dict(found.state_dict())


def _load_decoder(decoder: Decoder, config: BackboneConfig) -> None:
    from transformers import AutoModelForCausalLM

    found: Any = AutoModelForCausalLM.from_pretrained(
        config.decoder.pretrained, use_safetensors=True, trust_remote_code=False
    )
    vocabulary = decoder.model.get_input_embeddings().num_embeddings
    found.resize_token_embeddings(vocabulary, mean_resizing=False)
    decoder.load(found.state_dict())


def _options(place: str, field: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{field}: found nothing to load at {place!r}, wanted a folder with config.json and model.safetensors, or "
            f"a name on the hub ({str(error).splitlines()[0]})"
        ) from error


def _as_text(options: Any) -> str:
    """A configuration of transformers as one line of JSON, without what names a place or a version."""
    values = options.to_dict()
    for name in ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype"):
        values.pop(name, None)
    if options.model_type.startswith("siglip"):
        values["vision_use_head"] = False  # it pools what we read as it is
    return json.dumps(values, sort_keys=True)
