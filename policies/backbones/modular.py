"""The modular backbone: image towers, a text tower, and grounding that joins them.

`encode_frames` costs nearly everything, `assemble` nearly nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from ..interfaces import SeeingBackbone, TokenGroup
from .embedding import JointEmbedding
from .grounding import GroundedViews
from .projector import FrameProjector
from .text import QueryPool, TextFeatures
from .text_models import build_text
from .tokenizer import TextTokenizer
from .views import TowerViews, build_views
from .vision import Seen, TowerEncoder


class Projector(FrameProjector):
    """Encoded frames, proprioception and instruction to tokens with learned type embeddings."""

    def __init__(
        self,
        config: BackboneConfig,
        cameras: int,
        channels: int,
        text_width: int,
        obs_horizon: int,
        proprio_dim: int,
    ) -> None:
        super().__init__(config, cameras, channels, obs_horizon, proprio_dim)
        self.intent = QueryPool(config.intent_queries, text_width)
        self.text = nn.Linear(text_width, config.width)
        tokens = obs_horizon * self.per_step + config.intent_queries
        self.types = nn.Parameter(torch.randn(tokens, config.width) * 0.1)

    def forward(self, frames: Tensor, proprio: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Tokens [B, N, D] from frames [B, To, F], proprio [B, To, P] and text states [B, L, Dt] with mask [B, L]."""
        seen = torch.cat(self.of_steps(frames, proprio), dim=2).flatten(1, 2)
        return torch.cat([seen, self.text(self.intent(states, mask))], dim=1) + self.types


class ModularBackbone(SeeingBackbone):
    """See the module's docstring.

    Args:
        config: sizes.
        cameras: camera name -> (height, width), pixels; the order is the order of the tokens.
        proprio_dim: P.
        obs_horizon: To.
        tokenizer: of the texts.

    Attributes:
        channels: C of the features.
        grids: (rows, columns) of each camera's features.
    """

    def __init__(
        self,
        config: BackboneConfig,
        cameras: Mapping[str, tuple[int, int]],
        proprio_dim: int,
        obs_horizon: int,
        tokenizer: TextTokenizer,
    ) -> None:
        super().__init__()
        self.cameras = tuple(cameras)
        self.obs_horizon = obs_horizon
        self.tokenizer = tokenizer
        self.image = build_views(config, cameras)
        self.text = build_text(config, tokenizer)
        self.channels, self.grids, words = self.image.width, self.image.grids, self.text.width
        self.grounding = GroundedViews(config, self.grids, self.channels, words, proprio_dim)
        self.projector = Projector(config, len(self.cameras), self.channels, words, obs_horizon, proprio_dim)
        self.embedding = JointEmbedding(
            self.image.summary_width * len(cameras), self.text.pooled_width, config.embedding_width
        )
        self.width = config.width
        self.num_tokens = self.projector.types.shape[0]

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {
            "image": self.image,
            "text": self.text,
            "grounding": self.grounding,
            "projector": self.projector,
            "contrastive": self.embedding,
        }

    @property
    def perception(self) -> tuple[str, ...]:
        return ("image", "text", "grounding")

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def encode_text(self, texts: Sequence[str]) -> TextFeatures:
        """Encode texts; equal texts are encoded once."""
        unique = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(unique)}
        ids, mask = self.tokenizer(unique)
        with self._autocast():
            features = self.text(ids.to(self.device), mask.to(self.device)).float()
        if len(unique) == len(texts):
            return features
        return features.select(torch.tensor([place[text] for text in texts], device=self.device))

    def see(self, camera: int, images: Tensor) -> Seen:
        """One camera's images [F, H, W, 3] (uint8, or float in [0, 1]): features [F, h, w, C] and summary [F, S]."""
        with self._autocast():
            return self.image.see(camera, images)

    def image_features(self, camera: int, images: Tensor) -> Tensor:
        """The features of `see` [F, h, w, C]."""
        with self._autocast():
            return self.image.features(camera, images)

    def glimpse(self, images: Tensor, drop: float) -> Tensor:
        """A summary [F, S] of images that a random share of patches is left out of (`TowerEncoder.dropping`)."""
        encoder = self.image.encoder if isinstance(self.image, TowerViews) else None
        if not isinstance(encoder, TowerEncoder):
            raise ValueError(
                f"align.contrast.drop: found {drop}, wanted 0: only image towers of policy.backbone.vision.kind clip, "
                "siglip and dinov2 can leave patches out"
            )
        with self._autocast(), encoder.dropping(drop):
            return encoder.see(images).summary

    def encode_frames(self, images: Mapping[str, Tensor], texts: TextFeatures, proprio: Tensor) -> Tensor:
        return self.search(self.look(images), texts, proprio)

    def look(self, images: Mapping[str, Tensor]) -> list[Tensor]:
        """Single instants {camera: [F, H, W, 3]} as each camera's features [F, h, w, C], whatever is said."""
        return [self.image_features(i, images[camera]) for i, camera in enumerate(self.cameras)]

    def search(self, grids: Sequence[Tensor], texts: TextFeatures, proprio: Tensor) -> Tensor:
        """Encoded instants of what `look` gave and the text of each: what that names, and where."""
        return self.grounding.read(grids, self.grounding.ground(grids, texts.roles, proprio))

    def point(self, images: Mapping[str, Tensor], texts: TextFeatures, proprio: Tensor) -> Tensor:
        """Where it looks at single instants for what each role of the texts names: [F, cameras, roles, 3], (u, v) in
        [-1, 1], right and down, scaled by how sure it is that it is to be seen, and that."""
        logits = self.grounding.ground(self.look(images), texts.roles, proprio)
        return torch.stack([self.grounding.view(i).place(scores) for i, scores in enumerate(logits)], dim=1)

    def assemble(self, frames: Tensor, proprio: Tensor, texts: TextFeatures) -> TokenGroup:
        tokens = self.projector(frames, proprio, texts.states, texts.mask)
        return TokenGroup(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))

    @torch.no_grad()
    def compare(self, images: Mapping[str, Tensor], texts: Sequence[str]) -> Tensor:
        return self.embedding(self._summaries(images), self.encode_text(texts).pooled)

    @torch.no_grad()
    def embed_images(self, images: Mapping[str, Tensor]) -> Tensor:
        """Instants {camera: [F, H, W, 3]} as directions in the space shared with texts [F, embedding_width]."""
        return self.embedding.seen(self._summaries(images))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts as directions in the space shared with images [T, embedding_width]."""
        return self.embedding.said(self.encode_text(texts).pooled)

    def _summaries(self, images: Mapping[str, Tensor]) -> Tensor:
        seen = [self.see(i, images[camera].to(self.device)).summary for i, camera in enumerate(self.cameras)]
        return torch.cat(seen, dim=-1)

    def standardise(self, frames: Tensor) -> None:
        self.projector.standardise(frames)

    def set_noise(self, deviation: float) -> None:
        self.projector.set_noise(deviation)
