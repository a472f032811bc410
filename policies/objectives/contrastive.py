"""Contrast of images with their texts: InfoNCE and its sigmoid form, with a learned temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLDEST, WARMEST = 0.01, 0.1  # of the learned temperature; CLIP, too, keeps it from falling below 0.01


def infonce(
    queries: Tensor, keys: Tensor, scale: Tensor | float, targets: Tensor | None = None, keep: Tensor | None = None
) -> Tensor:
    """InfoNCE of every query (van den Oord et al. 2018, arXiv:1807.03748): [n].

    With s_ij = scale * cos(q_i, k_j) over the keys j that are kept, L_i = -sum_j y_ij log(exp s_ij / sum_k exp s_ik).

    Args:
        queries: [n, D], of any length.
        keys: [m, D] with m >= n, of any length; key i belongs to query i, those past n are further negatives.
        scale: inverse temperature 1 / tau.
        targets: y [n, m], rows that sum to 1; without it, y_ii = 1.
        keep: bool [n, m], which keys a query is compared with, its own always among them; without it, all.
    """
    logits = scale * F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T
    if keep is not None:
        logits = logits.masked_fill(~(keep | _own(logits)), -math.inf)
    if targets is None:
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")
    log_share = logits.log_softmax(-1)
    return -torch.where(targets > 0, targets * log_share, 0.0).sum(-1)


def symmetric_infonce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Mean of InfoNCE from images to texts and back (Radford et al. 2021, CLIP, figure 3), for n pairs [n, D]."""
    return (infonce(images, texts, scale).mean() + infonce(texts, images, scale).mean()) / 2


def sigmoid_contrast(images: Tensor, texts: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Every pair judged alone (Zhai et al. 2023, SigLIP, arXiv:2303.15343, equation 2), mean over n images.

    L = -1/n sum_ij log sigmoid(z_ij (scale * cos(v_i, t_j) + bias)), z_ij = 1 for pairs that belong together, else -1.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T + bias
    sign = 2 * _own(logits).to(logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum(-1).mean()


def shared_labels(share: Tensor, softness: float) -> Tensor:
    """Soft labels [n, n] for pairs that are right in part, for other images too.

    y_i = (1 - softness) * onehot(i) + softness * share_i / sum_j share_ij. Frames of one scene have captions that fit
    each other as well; counted as negatives, they teach to tell apart what is the same.

    Args:
        share: how far text j is right for image i, in [0, 1]; 1 for its own, [n, n].
        softness: in [0, 1]; 0 is one label a row.
    """
    own = torch.eye(len(share), device=share.device)
    return (1 - softness) * own + softness * share / share.sum(-1, keepdim=True)


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


class Contrastive(nn.Module):
    """Projects pooled images and pooled captions into one space and compares them.

    Args:
        image_width: size of a pooled image.
        text_width: size of a pooled text.
        width: size of the common space.
    """

    def __init__(self, image_width: int, text_width: int, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, width)
        self.text = nn.Linear(text_width, width)
        self.temperature = Temperature()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Loss of pooled images [n, Di] and their captions [n, Dt]."""
        return symmetric_infonce(self.image(images.float()), self.text(texts.float()), self.temperature())


def pool_cells(features: Sequence[Tensor]) -> Tensor:
    """Mean and maximum of each camera's features [n, ..., C] over what is between, side by side: [n, 2 * C * cameras].

    Objects are small: the maximum tells that one is there, the mean how much of the view it fills.
    """
    flat = [feature.flatten(1, -2) for feature in features]
    return torch.cat([part for cells in flat for part in (cells.mean(1), cells.amax(1))], dim=-1)


def _own(logits: Tensor) -> Tensor:
    return torch.eye(*logits.shape, dtype=torch.bool, device=logits.device)
