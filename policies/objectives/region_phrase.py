"""Contrast of regions with phrases over a whole batch: what a mask covers against what it is called."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pool_regions(features: Tensor, shares: Tensor) -> Tensor:
    """Mean feature of each region: features [B, h, w, C] by shares of cells [B, Q, h * w] that sum to 1: [B, Q, C]."""
    return shares.to(features.dtype) @ features.flatten(1, 2)


def region_phrase_contrast(regions: Tensor, phrases: Tensor, match: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE with several right answers (after Li et al. 2022, GLIP, arXiv:2112.03857; Khosla et al. 2020).

    With s_rp = scale * cos(region r, phrase p), L_r = -log(sum over p that match r of exp s_rp / sum_p exp s_rp), and
    likewise for phrases; a row without a match does not count. Two red cubes are both "the red cube": neither is the
    other's negative.

    Args:
        regions: [R, D], of any length.
        phrases: [P, D], of any length.
        match: bool [R, P].
        scale: inverse temperature.
    """
    logits = scale * F.normalize(regions, dim=-1) @ F.normalize(phrases, dim=-1).T
    return (_rows(logits, match) + _rows(logits.T, match.T)) / 2


def _rows(logits: Tensor, match: Tensor) -> Tensor:
    counts = match.any(-1)
    right = logits.masked_fill(~match, -math.inf).masked_fill(~counts[:, None], 0.0).logsumexp(-1)
    loss = torch.where(counts, logits.logsumexp(-1) - right, 0.0)
    return loss.sum() / counts.sum().clamp_min(1)
