"""The space that images and texts share: what is alike in it belongs together (CLIP, Radford et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
        place = (math.log(1 / start) - self.low) / (self.high - self.low)
        self.place = nn.Parameter(torch.tensor(place).logit())

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

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Cosines of pooled images [n, Di] and pooled texts [m, Dt] over the temperature: [n, m]."""
        seen, said = self.image(images.float()), self.text(texts.float())
        return self.temperature() * F.normalize(seen, dim=-1) @ F.normalize(said, dim=-1).T


def pool_cells(features: Sequence[Tensor]) -> Tensor:
    """Mean and maximum of each camera's features [n, ..., C] over what is between, side by side: [n, 2 * C * cameras].

    Objects are small: the maximum tells that one is there, the mean how much of the view it fills.
    """
    flat = [feature.flatten(1, -2) for feature in features]
    return torch.cat([part for cells in flat for part in (cells.mean(1), cells.amax(1))], dim=-1)
