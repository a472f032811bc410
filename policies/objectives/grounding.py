"""Region-phrase grounding: the heat map of a phrase against the mask of what it names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_targets(segmentation: Tensor, labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Target distributions over grid cells and the "not visible" slot.

    Args:
        segmentation: uint8 [B, H, W], a label per pixel.
        labels: uint8 [B, Q], the label that each phrase names; one that no pixel has means "not there".
        grid: (rows, columns) of cells.

    Returns:
        float32 [B, Q, rows * columns + 1]: the share of the object's pixels that each cell holds, or everything in the
        last slot when the object has no pixel in this view. Rows sum to 1. Where cells are no whole pixels, those at
        their sides count for both.
    """
    named = segmentation[:, None] == labels[:, :, None, None]
    (height, width), (rows, columns) = segmentation.shape[1:], grid
    if height % rows or width % columns:
        area = F.adaptive_avg_pool2d(named.float(), grid).flatten(2)
    else:
        area = named.unflatten(3, (columns, -1)).unflatten(2, (rows, -1)).float().sum((3, 5)).flatten(2)
    total = area.sum(-1, keepdim=True)
    missing = total == 0
    return F.pad(area / total.masked_fill(missing, 1.0), (0, 1)) + F.pad(missing.float(), (area.shape[-1], 0))


def grounding_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of heat maps [B, Q, S] with target distributions [B, Q, S], mean over valid bool [B, Q] phrases."""
    entropy = -(target * logits.log_softmax(-1)).sum(-1)
    keep = valid.to(entropy.dtype)
    return (entropy * keep).sum() / keep.sum().clamp_min(1)


def place_error(logits: Tensor, target: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """How far the heat map's mean place is from the mask's.

    Args:
        logits: [B, Q, S + 1].
        target: [B, Q, S + 1].
        centres: (u, v) of the S cells in [-1, 1], [S, 2].

    Returns:
        Distances [B, Q] in the units of `centres`, and bool [B, Q] that is True where the object is visible.
    """
    visible = target[..., -1] == 0
    found = logits[..., :-1].softmax(-1) @ centres
    return (found - target[..., :-1] @ centres).norm(dim=-1), visible


def views_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], valid: Tensor, centres: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """`grounding_loss`, mean over views, and the mean `place_error` of what is visible and valid.

    Arguments are those of the two functions, of each view.
    """
    losses, places, visible = [], [], []
    for scores, target, cells in zip(logits, targets, centres, strict=True):
        losses.append(grounding_loss(scores, target, valid))
        distance, seen = place_error(scores.detach(), target, cells)
        places.append(distance)
        visible.append(seen & valid)
    seen = torch.stack(visible).float()
    error = (torch.stack(places) * seen).sum() / seen.sum().clamp_min(1)
    return torch.stack(losses).mean(), error
