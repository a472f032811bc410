"""Contrast of images with their texts: InfoNCE and its sigmoid form, in the space of `backbones.embedding`."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.embedding import JointEmbedding
from ..config import ContrastConfig
from .anchoring import anchor_weights
from .distillation import distilled_targets
from .negatives import NegativeQueue, choose_negatives, hard_share


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


class Contrastive(nn.Module):
    """Brings images and their captions together in the space that they share.

    Args:
        embedding: into that space.
        config: how they are compared.
    """

    def __init__(self, embedding: JointEmbedding, config: ContrastConfig) -> None:
        super().__init__()
        self.config, self.embedding = config, embedding
        self.bias = nn.Parameter(torch.tensor(-10.0)) if config.kind == "sigmoid" else None  # as SigLIP starts
        self.queues = nn.ModuleDict(
            {name: NegativeQueue(config.queue, embedding.width) for name in ("image", "text") if config.queue}
        )

    def forward(
        self,
        images: Tensor,
        texts: Tensor,
        share: Tensor | None = None,
        progress: float = 0.0,
        slow: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Loss of pooled images [n, Di] and their captions [n, Dt].

        Args:
            images, texts: pairs.
            share: how far caption j is right for image i [n, n], for soft labels.
            progress: of the stage, in [0, 1].
            slow: what a slowly moving copy has projected the same pairs to, [n, width] each.
        """
        embedding = self.embedding
        seen, said, scale = embedding.image(images.float()), embedding.text(texts.float()), embedding.temperature()
        if self.bias is not None:
            return sigmoid_contrast(seen, said, scale, self.bias)
        slow_seen, slow_said = slow if slow is not None else (seen.detach(), said.detach())
        to_text = self._direction(seen, said, slow_seen, slow_said, "text", share, progress, scale)
        to_image = self._direction(said, seen, slow_said, slow_seen, "image", share, progress, scale)
        if self.training and self.queues:
            for name, embeddings in (("image", slow_seen), ("text", slow_said)):
                cast(NegativeQueue, self.queues[name]).push(embeddings)
        anchor = self.config.anchor_temperature
        weights = anchor_weights(seen, said, anchor) if anchor else seen.new_full((len(seen),), 1 / len(seen))
        return (weights * (to_text + to_image) / 2).sum()

    def _direction(
        self,
        queries: Tensor,
        keys: Tensor,
        slow_queries: Tensor,
        slow_keys: Tensor,
        queue: str,
        share: Tensor | None,
        progress: float,
        scale: Tensor,
    ) -> Tensor:
        """InfoNCE of every query, as the options say."""
        config, count = self.config, len(queries)
        if queue in self.queues:
            older = cast(NegativeQueue, self.queues[queue]).contents()
            keys, slow_keys = torch.cat([keys, older]), torch.cat([slow_keys, older])
        targets = None
        if config.soft_labels and share is not None:
            targets = F.pad(shared_labels(share, config.soft_labels), (0, len(keys) - count))
        if config.distillation:
            believed = distilled_targets(slow_queries, slow_keys, scale.detach(), 1.0)
            given = targets if targets is not None else torch.eye(*believed.shape, device=believed.device)
            targets = (1 - config.distillation) * given + config.distillation * believed
        keep = None
        if config.negatives:
            keep = choose_negatives(queries, keys, config.negatives, hard_share(progress))
            if targets is not None:
                keep = keep | (targets > 1e-3)  # what is right in part is no negative to leave out
                targets = targets * (keep | _own(targets))
                targets = targets / targets.sum(-1, keepdim=True)
        return infonce(queries, keys, scale, targets, keep)


def _own(logits: Tensor) -> Tensor:
    return torch.eye(*logits.shape, dtype=torch.bool, device=logits.device)
