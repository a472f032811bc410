"""The space that images and texts share: what is alike in it belongs together (CLIP, Radford et al. 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLDEST, WARMEST = 0.01, 0.1  # of the learned temperature; CLIP, too, keeps it from falling below 0.01


class Temperature(nn.Module):
    """A learned inverse temperature between 1 / 0.1 and 1 / 0.01, reached by neither: a limit would end its learning.

    The logarithm of the scale is a sigmoid between those of the limits.
    """

    def __init__(self, start: float = 0.07) -> None:
        super().__init__()
        self.low, self.high = math.log(1 / WARMEST), math.log(1 / COLDEST)
        self.place = nn.Parameter(torch.zeros(()))
        self.set(start)

    @torch.no_grad()
    def set(self, temperature: float) -> None:
        """Begin at this temperature, or just within the limit that it lies at or beyond."""
        place = (math.log(1 / temperature) - self.low) / (self.high - self.low)
        self.place.copy_(torch.tensor(place).clamp(0.001, 0.999).logit())

    def forward(self) -> Tensor:
        return (self.low + (self.high - self.low) * self.place.sigmoid()).exp()


class JointEmbedding(nn.Module):
    """Projects pooled images and pooled texts into one space.

    Args:
        image_width: size of a pooled image.
        text_width: size of a pooled text.
        width: size of the common space.
    """

    def __init__(self, image_width: int, text_width: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.image = nn.Linear(image_width, width)
        self.text = nn.Linear(text_width, width)
        self.temperature = Temperature()

    @torch.no_grad()
    def take(self, image: Tensor, text: Tensor, temperature: float) -> None:
        """A space learned elsewhere: maps of one camera's pooled image [width, Di] and of a pooled text [width, Dt].

        Of several cameras, what they see is averaged.
        """
        cameras = self.image.in_features // image.shape[1]
        self.image.weight.copy_(image.repeat(1, cameras) / cameras)
        self.text.weight.copy_(text)
        for layer in (self.image, self.text):
            layer.bias.zero_()
        self.temperature.set(temperature)

    def seen(self, images: Tensor) -> Tensor:
        """Pooled images [n, Di] as directions [n, width]."""
        return F.normalize(self.image(images.float()), dim=-1)

    def said(self, texts: Tensor) -> Tensor:
        """Pooled texts [m, Dt] as directions [m, width]."""
        return F.normalize(self.text(texts.float()), dim=-1)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Cosines of pooled images [n, Di] and pooled texts [m, Dt] over the temperature: [n, m]."""
        return self.temperature() * self.seen(images) @ self.said(texts).T
