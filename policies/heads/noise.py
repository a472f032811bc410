"""Noise that belongs to one element of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..interfaces import Generators


def standard_normal(batch: int, shape: tuple[int, ...], generators: Generators, device: torch.device) -> Tensor:
    """Standard normal numbers [B, *shape]; element b draws from `generators[b]` alone, None from torch's global one."""
    if generators is None:
        return torch.randn(batch, *shape, device=device)
    return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators]).to(device)


def kept_mean(error: Tensor, is_pad: Tensor) -> Tensor:
    """Mean of errors [S, B, Tp] over the rows that are not padding [B, Tp]."""
    keep = (~is_pad).to(error.dtype)
    return (error * keep).sum() / (keep.sum() * len(error)).clamp_min(1)
