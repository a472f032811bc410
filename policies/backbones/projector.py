"""What the head sees of encoded instants: tokens of what is pointed at, of key points and of proprioception."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from .grounding import Grounding
from .text import ROLES

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


class FrameProjector(nn.Module):
    """Encoded instants and proprioception to tokens.

    An encoded instant is, of each camera, what `Grounding.read` says of each role and its key points; a subclass may
    add to it (`_layers`, `_split`).

    Attributes:
        per_step: tokens of an instant.
    """

    def __init__(self, config: BackboneConfig, cameras: int, channels: int, obs_horizon: int, proprio_dim: int) -> None:
        super().__init__()
        self.grounded_width = channels + Grounding.extra
        self.points_width = 2 * config.key_points
        width = config.width
        self.cameras, self.obs_horizon = cameras, obs_horizon
        self.grounded = nn.ModuleList([StandardisedLinear(self.grounded_width, width) for _ in range(cameras)])
        self.points = nn.ModuleList([StandardisedLinear(self.points_width, width) for _ in range(cameras)])
        self.proprio = nn.Linear(proprio_dim, width)
        self.per_step = cameras * (len(ROLES) + 1) + 1

    @property
    def frame_width(self) -> int:
        """Size of an encoded instant."""
        return sum(self._split)

    def standardise(self, frames: Tensor) -> None:
        """Adapt to the statistics of encoded instants [F, frame width]; the tokens stay what they were."""
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

    def of_steps(self, frames: Tensor, proprio: Tensor) -> list[Tensor]:
        """Groups of tokens [B, To, n, D], `per_step` in all, of encoded instants [B, To, F] and proprio [B, To, P]."""
        parts = frames.split(self._split, dim=-1)
        tokens = []
        for camera, (grounded, points) in enumerate(zip(self.grounded, self.points, strict=True)):
            local = parts[2 * camera].unflatten(-1, (len(ROLES), self.grounded_width))
            tokens += [grounded(local), points(parts[2 * camera + 1])[:, :, None]]
        return [*tokens, self.proprio(proprio)[:, :, None]]
