"""Noise that belongs to one element of a batch, and what becomes of rows that are padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..interfaces import Generators


@dataclass(frozen=True)
class Noise:
    """Random numbers for B elements; those of element b come from `generators[b]` alone, None means torch's own."""

    generators: Generators
    batch: int
    device: torch.device

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers [count, B, *shape]."""
        return self._draw(torch.randn, (count, *shape))

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1): [count, B, *shape]."""
        return self._draw(torch.rand, (count, *shape))

    def choose(self, logits: Tensor, count: int) -> Tensor:
        """Indices int64 [count, B], each drawn from the softmax of logits [B, K]."""
        cumulative = logits.float().softmax(1).cumsum(1)
        level = self.uniform(count).T * cumulative[:, -1:]
        return torch.searchsorted(cumulative, level.contiguous(), right=True).clamp_max(logits.shape[1] - 1).T

    def _draw(self, function: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        if self.generators is None:
            return function((shape[0], self.batch, *shape[1:]), device=self.device)
        each = [function(shape, generator=generator, device=generator.device) for generator in self.generators]
        return torch.stack(each, dim=1).to(self.device)


def kept_mean(error: Tensor, is_pad: Tensor) -> Tensor:
    """Mean of errors [S, B, Tp] over the rows that are not padding [B, Tp]."""
    keep = (~is_pad).to(error.dtype)
    return (error * keep).sum() / (keep.sum() * len(error)).clamp_min(1)


def hold(actions: Tensor, is_pad: Tensor) -> Tensor:
    """Actions [B, Tp, A] with every row that is padding replaced by the last before it that is not; 0 without any.

    So that rows beyond the episode's end, whatever they hold, do not even enter as noisy inputs.
    """
    row = torch.arange(is_pad.shape[1], device=is_pad.device).expand_as(is_pad)
    last = row.masked_fill(is_pad, -1).cummax(1).values
    held = actions.gather(1, last.clamp_min(0)[..., None].expand_as(actions))
    return held.masked_fill((last < 0)[..., None], 0)
