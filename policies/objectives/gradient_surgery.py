"""Gradient surgery: losses that pull against each other lose what they disagree about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def project_conflicts(gradients: Sequence[Tensor], generator: torch.Generator | None = None) -> tuple[Tensor, float]:
    """PCGrad (Yu et al. 2020, arXiv:2001.06782, algorithm 1) of flat gradients [P], one for each loss.

    Each g_i meets the others g_j in random order and, where g_i . g_j < 0, becomes g_i - (g_i . g_j / |g_j|^2) g_j; the
    others are met as they were. Returns the sum of what is left [P], and the share of pairs that were in conflict.
    """
    left, conflicts, pairs = [], 0, 0
    for i, gradient in enumerate(gradients):
        rest = gradient.clone()
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            if i == j:
                continue
            pairs += 1
            overlap = rest @ gradients[j]
            if overlap < 0:
                conflicts += 1
                rest -= overlap / gradients[j].square().sum() * gradients[j]
        left.append(rest)
    return torch.stack(left).sum(0), conflicts / max(1, pairs)


def backward_without_conflict(
    losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], generator: torch.Generator | None = None
) -> float:
    """Set each parameter's gradient by `project_conflicts` over the losses; costs a backward pass for each of them.

    Returns the share of pairs of losses in conflict.
    """
    gradients = []
    for i, loss in enumerate(losses.values()):
        more = i + 1 < len(losses)
        found = torch.autograd.grad(loss, parameters, retain_graph=more, allow_unused=True)
        filled = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
        gradients.append(torch.cat([gradient.flatten() for gradient in filled]))
    total, conflict = project_conflicts(gradients, generator)
    for parameter, gradient in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
    return conflict
