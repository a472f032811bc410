"""The modular backbone: image towers, a text tower, and grounding that joins them.

`encode_frames` costs nearly everything, `assemble` nearly nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from ..interfaces import SeeingBackbone, TokenGroup
from .embedding import JointEmbedding
from .grounding import Grounding
from .text import ROLES, QueryPool, TextFeatures
from .text_models import build_text
from .tokenizer import TextTokenizer
from .views import TowerViews, build_views
from .vision import Seen, TowerEncoder

MIN_DEVIATION = 0.01  # what varies less is left small: it is noise


class StandardisedLinear(nn.Linear):
    """A linear layer on standardised inputs: places vary by a small part of a view, and small inputs learn slowly."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("scale", torch.ones(in_features))
        self.mean: Tensor
        self.scale: Tensor
        self.noise = 0.0

    @torch.no_grad()
    def standardise(self, inputs: Tensor) -> None:
        """Take mean and deviation from inputs [n, in_features], and change weight and bias so that outputs stay."""
        mean, scale = inputs.mean(0), inputs.std(0).clamp_min(MIN_DEVIATION)
        self.bias += self.weight @ ((mean - self.mean) / self.scale)
        self.weight *= scale / self.scale
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, input: Tensor) -> Tensor:
        standard = (input - self.mean) / self.scale
        if self.training and self.noise:
            standard = standard + self.noise * torch.randn_like(standard)
        return super().forward(standard)


class Projector(nn.Module):
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
        super().__init__()
        self.grounded_width = channels + Grounding.extra
        self.points_width = 2 * config.key_points
        width = config.width
        self.cameras, self.obs_horizon = cameras, obs_horizon
        self.grounded = nn.ModuleList([StandardisedLinear(self.grounded_width, width) for _ in range(cameras)])
        self.points = nn.ModuleList([StandardisedLinear(self.points_width, width) for _ in range(cameras)])
        self.proprio = nn.Linear(proprio_dim, width)
        self.intent = QueryPool(config.intent_queries, text_width)
        self.text = nn.Linear(text_width, width)
        per_step = cameras * (len(ROLES) + 1) + 1
        self.types = nn.Parameter(torch.randn(obs_horizon * per_step + config.intent_queries, width) * 0.1)

    @property
    def frame_width(self) -> int:
        """Size of one encoded frame."""
        return self.cameras * (len(ROLES) * self.grounded_width + self.points_width)

    def standardise(self, frames: Tensor) -> None:
        """Adapt to the statistics of encoded frames [F, frame width]; the tokens stay what they were."""
        for part, layer in zip(frames.split(self._split, dim=-1), self._layers, strict=True):
            layer.standardise(part.reshape(-1, layer.in_features))

    def set_noise(self, deviation: float) -> None:
        """Noise on standardised inputs while training, a regulariser."""
        for layer in self._layers:
            layer.noise = deviation

    @property
    def _layers(self) -> list[StandardisedLinear]:
        pairs = zip(self.grounded, self.points, strict=True)
        return [cast(StandardisedLinear, layer) for pair in pairs for layer in pair]

    @property
    def _split(self) -> list[int]:
        return [len(ROLES) * self.grounded_width, self.points_width] * self.cameras

    def forward(self, frames: Tensor, proprio: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Tokens [B, N, D] from frames [B, To, F], proprio [B, To, P] and text states [B, L, Dt] with mask [B, L]."""
        batch = frames.shape[0]
        parts = frames.split(self._split, dim=-1)
        tokens = []
        for camera, (grounded, points) in enumerate(zip(self.grounded, self.points, strict=True)):
            local = parts[2 * camera].reshape(batch, self.obs_horizon, len(ROLES), self.grounded_width)
            tokens += [grounded(local), points(parts[2 * camera + 1])[:, :, None]]
        tokens.append(self.proprio(proprio)[:, :, None])
        seen = torch.cat(tokens, dim=2).flatten(1, 2)
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
        self.perception = ("image", "text", "grounding")
        self.cameras = tuple(cameras)
        self.obs_horizon = obs_horizon
        self.tokenizer = tokenizer
        self.image = build_views(config, cameras)
        self.text = build_text(config, tokenizer)
        self.channels, self.grids, words = self.image.width, self.image.grids, self.text.width
        self.grounding = nn.ModuleList(
            [
                # The first camera searches by the words alone, each next one also by what those before it found.
                Grounding(
                    *(grid, self.channels, words, config.grounding_width),
                    *(config.key_points, 3 * i + proprio_dim if i else 0),
                )
                for i, grid in enumerate(self.grids)
            ]
        )
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

    def view(self, camera: int) -> Grounding:
        """The grounding of one camera."""
        return cast(Grounding, self.grounding[camera])

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

    def ground(
        self, grids: Sequence[Tensor], phrases: Tensor, proprio: Tensor, shifts: Sequence[Tensor | None] = ()
    ) -> list[Tensor]:
        """Heat-map logits [B, Q, h * w + 1] of phrases [B, Q, Dt] in each camera's features [B, h, w, C].

        proprio: normalised, of the same instant, [B, P]. shifts: by how much each view was moved, [B, 2] or None.
        """
        logits, found = [], []
        own = proprio[:, None].expand(-1, phrases.shape[1], -1)
        for i, grid in enumerate(grids):
            shift = shifts[i] if shifts else None
            context = torch.cat([*found, own], dim=-1) if found else None
            logits.append(self.view(i).scores(grid, phrases, context, shift))
            found.append(self.view(i).place(logits[-1], shift).detach())  # each view learns from its own masks
        return logits

    def read(self, grids: Sequence[Tensor], logits: Sequence[Tensor]) -> Tensor:
        """Encoded frames [B, frame width] from each camera's features and the heat maps of the role phrases."""
        parts = []
        for i, (grid, scores) in enumerate(zip(grids, logits, strict=True)):
            parts += [self.view(i).read(grid, scores).flatten(1), self.view(i).key_points(grid)]
        return torch.cat(parts, dim=1)

    def encode_frames(self, images: Mapping[str, Tensor], texts: TextFeatures, proprio: Tensor) -> Tensor:
        grids = [self.image_features(i, images[camera]) for i, camera in enumerate(self.cameras)]
        return self.read(grids, self.ground(grids, texts.roles, proprio))

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
