"""Symmetric InfoNCE between images and their captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_SCALE = 100.0  # the largest inverse temperature, as in CLIP: keeps logits finite


def symmetric_infonce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018; Radford et al. 2021, CLIP, figure 3).

    With s_ij = scale * cos(v_i, t_j), the loss is the mean of two cross-entropies over a batch of n pairs:
    L = -1/(2n) sum_i [ log(exp s_ii / sum_j exp s_ij) + log(exp s_ii / sum_j exp s_ji) ].

    Args:
        images: v [n, D], of any length.
        texts: t [n, D], of any length; row i belongs to image i.
        scale: inverse temperature 1 / tau.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class Contrastive(nn.Module):
    """Projects pooled image features and pooled captions into one space and compares them.

    Args:
        image_channels: channels of a feature grid.
        cameras: number of cameras; their pooled features stand side by side.
        text_width: size of a pooled text.
        width: size of the common space.
    """

    def __init__(self, image_channels: int, cameras: int, text_width: int, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(2 * image_channels * cameras, width)
        self.text = nn.Linear(text_width, width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, features: Sequence[Tensor], pooled_text: Tensor) -> Tensor:
        """Loss for each camera's features [n, h, w, C] and pooled captions [n, Dt]."""
        # Objects are small: the maximum tells that one is there, the mean how much of the view it fills.
        pooled = [part for grid in features for part in (grid.mean((1, 2)), grid.amax((1, 2)))]
        scale = self.log_scale.exp().clamp_max(MAX_SCALE)
        return symmetric_infonce(self.image(torch.cat(pooled, dim=-1).float()), self.text(pooled_text), scale)
