"""Bridges from an image encoder to a language model: image tokens become tokens that the decoder reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import BridgeConfig


class Bridge(nn.Module):
    """Image tokens [F, P, C] to decoder tokens [F, M, width]. Attribute tokens: M."""

    tokens: int

    def forward(self, seen: Tensor) -> Tensor:
        raise NotImplementedError


class MLPBridge(Bridge):
    """Every image token by itself, through two layers (Liu et al. 2024, LLaVA-1.5, arXiv:2310.03744; InternVL)."""

    def __init__(self, config: BridgeConfig, tokens: int, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.layers = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, seen: Tensor) -> Tensor:
        return self.layers(seen)


class QFormerBridge(Bridge):
    """Learned queries that attend to each other and to the image (Li et al. 2023, BLIP-2, arXiv:2301.12597)."""

    def __init__(self, config: BridgeConfig, tokens: int, channels: int, width: int, heads: int) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        super().__init__()
        self.tokens = config.latents
        self.queries = nn.Parameter(torch.randn(config.latents, width) * 0.02)
        options = Blip2QFormerConfig(
            hidden_size=width,
            num_hidden_layers=config.layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            encoder_hidden_size=channels,
            cross_attention_frequency=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.former = Blip2QFormerModel(options)

    def forward(self, seen: Tensor) -> Tensor:
        queries = self.queries.expand(len(seen), -1, -1)
        return self.former(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state


class PerceiverBridge(Bridge):
    """A fixed number of latents that gather what is in the image (Alayrac et al. 2022, Flamingo, arXiv:2204.14198)."""

    def __init__(self, config: BridgeConfig, tokens: int, channels: int, width: int, heads: int) -> None:
        from transformers import Idefics2PerceiverConfig
        from transformers.models.idefics2.modeling_idefics2 import Idefics2PerceiverResampler

        super().__init__()
        self.tokens = config.latents
        self.enter = nn.Linear(channels, width)
        options = Idefics2PerceiverConfig(
            hidden_size=width,
            resampler_n_latents=config.latents,
            resampler_depth=config.layers,
            resampler_n_heads=heads,
            resampler_head_dim=width // heads,
            num_key_value_heads=heads,
        )
        self.resampler = Idefics2PerceiverResampler(options)
        nn.init.normal_(self.resampler.latents, std=0.02)  # they come as ones: alike, they would stay alike

    def forward(self, seen: Tensor) -> Tensor:
        mask = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        return self.resampler(self.enter(seen), attention_mask=mask)


class CrossAttentionBridge(Bridge):
    """Image tokens for gated layers within the decoder (`decoder.GatedLayer`); none enters the sequence itself."""

    def __init__(self, config: BridgeConfig, tokens: int, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.enter = nn.Linear(channels, width)

    def forward(self, seen: Tensor) -> Tensor:
        return self.enter(seen)


BRIDGES: dict[str, type[Bridge]] = {
    "mlp": MLPBridge,
    "qformer": QFormerBridge,
    "perceiver": PerceiverBridge,
    "cross_attention": CrossAttentionBridge,
}


def build_bridge(config: BridgeConfig, tokens: int, channels: int, width: int, heads: int) -> Bridge:
    """The bridge that `config.kind` names.

    Args:
        config: options.
        tokens: P, of an image.
        channels: C, of an image token.
        width: of the decoder.
        heads: attention heads; a divisor of the width.
    """
    if config.kind not in BRIDGES:
        raise ValueError(f"policy.backbone.bridge.kind: found {config.kind!r}, wanted one of {sorted(BRIDGES)}")
    if min(config.latents, config.layers, config.every) < 1:
        raise ValueError(f"policy.backbone.bridge: found {config}, wanted latents, layers and every of at least 1")
    return BRIDGES[config.kind](config, tokens, channels, width, heads)
