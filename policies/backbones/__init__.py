"""Backbones by kind."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import BackboneConfig
from ..interfaces import Backbone
from .compositional import CompositionalBackbone
from .fusion import FusionBackbone
from .modular import ModularBackbone
from .state import StateBackbone
from .tokenizer import TextTokenizer

BACKBONES = {
    "modular": ModularBackbone,
    "compositional": CompositionalBackbone,
    "fusion": FusionBackbone,
    "state": StateBackbone,
}
SPEAKING = ("compositional", "fusion")  # those with a language model


def build_backbone(
    config: BackboneConfig,
    cameras: Mapping[str, tuple[int, int]],
    proprio_dim: int,
    obs_horizon: int,
    tokenizer: TextTokenizer,
) -> Backbone:
    """The backbone that `config.kind` names; ValueError for an unknown kind."""
    if config.kind not in BACKBONES:
        raise ValueError(f"policy.backbone.kind: found {config.kind!r}, wanted one of {sorted(BACKBONES)}")
    return BACKBONES[config.kind](config, cameras, proprio_dim, obs_horizon, tokenizer)
