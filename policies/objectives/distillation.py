"""Momentum distillation: targets for noisy pairs from a slowly moving copy of the model."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Momentum(nn.Module, Generic[ModuleT]):
    """A copy of a module that follows it slowly: w' <- decay * w' + (1 - decay) * w (He et al. 2020, MoCo).

    Args:
        module: what is followed; it is not held, so that its weights are saved once.
        decay: share of the copy that a step keeps.
    """

    def __init__(self, module: ModuleT, decay: float) -> None:
        super().__init__()
        self.copy: ModuleT = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def follow(self, module: ModuleT) -> None:
        """One step towards `module`; buffers are taken over."""
        for mine, other in zip(self.copy.parameters(), module.parameters(), strict=True):
            mine.lerp_(other, 1 - self.decay)
        for mine, other in zip(self.copy.buffers(), module.buffers(), strict=True):
            mine.copy_(other)


@torch.no_grad()
def distilled_targets(queries: Tensor, keys: Tensor, scale: Tensor | float, weight: float) -> Tensor:
    """Targets [n, m] of a contrast, partly what the momentum model believes (Li et al. 2021, ALBEF, arXiv:2107.07651).

    y_i = (1 - weight) * onehot(i) + weight * softmax_j(scale * cos(q'_i, k'_j)), for queries and keys of the copy:
    a caption that fits another image better than its own then pulls less.
    """
    belief = (scale * F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T).softmax(-1)
    return (1 - weight) * torch.eye(*belief.shape, device=belief.device) + weight * belief
