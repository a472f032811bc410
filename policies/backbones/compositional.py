"""The compositional backbone: an image encoder, a bridge, and a language model that reads images and instruction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from .bridges import build_bridge
from .language import LanguageBackbone
from .tokenizer import TextTokenizer
from .vision import VisionEncoder, build_vision, shared_size


class CompositionalBackbone(LanguageBackbone):
    """Image tokens are what an encoder of their own says (LLaVA, BLIP-2, Flamingo). Arguments as `ModularBackbone`."""

    eyes = "vision"

    def __init__(
        self,
        config: BackboneConfig,
        cameras: Mapping[str, tuple[int, int]],
        proprio_dim: int,
        obs_horizon: int,
        tokenizer: TextTokenizer,
    ) -> None:
        vision = build_vision(config.vision, shared_size(config.vision, cameras))
        super().__init__(
            *(config, cameras, proprio_dim, obs_horizon, tokenizer, tokenizer.size),
            *(vision.grid, vision.width, config.bridge),
        )
        self.vision: VisionEncoder = vision
        tokens = vision.grid[0] * vision.grid[1]
        self.bridge = build_bridge(config.bridge, tokens, vision.width, self.decoder.width, self.decoder.heads)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"vision": self.vision, "bridge": self.bridge, **super().parts}

    def look(self, images: Mapping[str, Tensor]) -> Tensor:
        with self._autocast():
            return torch.stack([self.vision(images[camera]) for camera in self.cameras], dim=1)

    def views(self, seen: Tensor, states: Tensor) -> list[Tensor]:
        """As the image encoder sees them: the bridge may join many places to one token."""
        return list(seen.unflatten(2, self.grid).unbind(1))

    def enter(self, seen: Tensor) -> Tensor:
        return self.bridge(seen)
