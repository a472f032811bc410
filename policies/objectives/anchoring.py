"""Dynamic anchoring: images far from what the batch's texts have in common weigh more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def anchor_weights(images: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Weights [n] of a batch of pairs, which sum to 1.

    With the anchor a = mean_j t_j / |t_j|, w_i = softmax_i((1 - cos(v_i, a)) / temperature). Where texts differ by
    little (near-synonyms), an encoder can fall to one point, the anchor; what is there already weighs least. Weights
    are constants: a loss must not fall by moving images towards the anchor.

    Args:
        images: [n, D], of any length.
        texts: [n, D], of any length.
        temperature: high makes all weights alike.
    """
    with torch.no_grad():
        anchor = F.normalize(texts, dim=-1).mean(0)
        distance = 1 - F.cosine_similarity(images, anchor[None], dim=-1)
        return (distance / temperature).softmax(0)
