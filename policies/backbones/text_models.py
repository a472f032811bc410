"""Text encoders of transformers, small or loaded, in the place of our own text tower."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from . import library
from .text import ROLES, QueryPool, TextFeatures, TextTower
from .tokenizer import TextTokenizer

TEXTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {  # kind -> transformers' package, configuration, model, how
    "clip": ("clip", "CLIPTextConfig", "CLIPTextModel", {}),
    "siglip": ("siglip", "SiglipTextConfig", "SiglipTextModel", {}),
    "bert": ("bert", "BertConfig", "BertModel", {"add_pooling_layer": False}),
}


class TransformersText(nn.Module):
    """Token ids to token states, role phrases by learned queries, and the whole text as the encoder sums it up.

    That is CLIP's state at the last token, SigLIP's projection of the last of always as many places, unmasked, and
    BERT's state at the first.

    Args:
        config: `text` and, where nothing was loaded, `text_width`, `text_layers`, `text_heads`, `max_text_tokens`.
        entries: of the tokenizer.

    Attributes:
        width: size of states and role phrases.
        pooled_width: of the whole text's embedding.

    Raises:
        ValueError: texts may be longer than the encoder knows places.
    """

    def __init__(self, config: BackboneConfig, entries: int) -> None:
        super().__init__()
        self.kind = config.text.kind
        self.model = _model(config, entries)
        options = self.model.config
        self.places = options.max_position_embeddings
        if config.max_text_tokens > self.places:
            raise ValueError(
                f"policy.backbone.max_text_tokens: found {config.max_text_tokens}, wanted at most {self.places}, the "
                "places of the text encoder"
            )
        if self.embedding.num_embeddings != entries:
            self.model.resize_token_embeddings(entries, mean_resizing=False)
        self.width = options.hidden_size
        self.pooled_width = options.projection_size if self.kind == "siglip" else self.width
        self.pool = QueryPool(len(ROLES), self.width)

    @property
    def embedding(self) -> nn.Embedding:
        """Of the words."""
        return self.model.get_input_embeddings()

    def forward(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """Encode ids int64 [B, L] with mask bool [B, L]."""
        length = ids.shape[1]
        if self.kind == "siglip":
            pad = self.model.config.pad_token_id or 0
            filled = ids.new_full((len(ids), self.places), pad)
            filled[:, :length] = ids.masked_fill(~mask, pad)
            states = self.model(input_ids=filled).last_hidden_state
            pooled = self.model.head(states[:, -1])
            states = states[:, :length]
        else:
            states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            last = mask.sum(1) - 1 if self.kind == "clip" else torch.zeros_like(ids[:, 0])
            pooled = states[torch.arange(len(ids), device=ids.device), last]
        return TextFeatures(states, mask, self.pool(states, mask), pooled)


def build_text(config: BackboneConfig, tokenizer: TextTokenizer) -> TextTower | TransformersText:
    """The encoder that `config.text.kind` names; ValueError for an unknown kind."""
    if config.text.kind == "own":
        return TextTower(
            tokenizer.size, config.max_text_tokens, config.text_width, config.text_layers, config.text_heads
        )
    if config.text.kind in TEXTS:
        return TransformersText(config, tokenizer.size)
    raise ValueError(f"policy.backbone.text.kind: found {config.text.kind!r}, wanted one of {['own', *TEXTS]}")


def _model(config: BackboneConfig, entries: int) -> Any:
    """An untrained encoder, of the architecture that was loaded or else of our sizes."""
    package, kind, model, own = TEXTS[config.text.kind]
    kind, model = library.configuration(package, kind), library.model(package, model)
    if config.text.architecture:
        return model(kind.from_dict(json.loads(config.text.architecture)), **own)
    options = kind(
        vocab_size=entries,
        hidden_size=config.text_width,
        intermediate_size=4 * config.text_width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        max_position_embeddings=config.max_text_tokens,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return model(options, **own)
