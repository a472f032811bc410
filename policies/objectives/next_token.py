"""Next-token prediction over interleaved text, image and action tokens, with a weight for each modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..interfaces import Losses


def next_token_loss(
    logits: Tensor, ids: Tensor, modality: Tensor, weights: Mapping[str, float], z_loss: float = 0.0
) -> Losses:
    """L = sum_t w(m_t) * -log p(id_t | ids before t) / sum_t w(m_t), plus z_loss * mean (log Z)^2.

    Weights of modalities as in Chameleon (arXiv:2405.09818) and its successors, where image tokens, by far the most,
    count half; log Z is the logarithm of the softmax's normaliser (PaLM, arXiv:2204.02311).

    Args:
        logits: [B, L, V]; those at t predict the token at t + 1.
        ids: [B, L].
        modality: int64 [B, L], the place of a token's modality in `weights`; -1 for what is not to be predicted.
        weights: name -> weight, in the order of the numbers in `modality`.
        z_loss: weight of the squared log-normaliser.

    Returns:
        The loss, and as parts the mean loss of each modality that has a token here.
    """
    logits, ids, modality = logits[:, :-1].float(), ids[:, 1:], modality[:, 1:]
    kept = modality >= 0
    logits, ids, modality = logits[kept], ids[kept], modality[kept]
    loss = F.cross_entropy(logits, ids, reduction="none")
    weight = torch.tensor(list(weights.values()), device=loss.device)[modality]
    total = (weight * loss).sum() / weight.sum().clamp_min(1e-8)
    parts = {name: loss[modality == i].mean().detach() for i, name in enumerate(weights) if (modality == i).any()}
    if z_loss:
        normaliser = logits.logsumexp(-1).square().mean()
        total, parts["z"] = total + z_loss * normaliser, normaliser.detach()
    return Losses(total, parts)
