"""Contrast of patches with words: every patch finds its word, every word its patch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def late_interaction(patches: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities of n images and m texts by their parts (Yao et al. 2022, FILIP, arXiv:2111.07783, equations 4-5).

    From image i to text j: mean over its patches of the largest cosine with any word; from text j to image i: mean over
    its words of the largest cosine with any patch.

    Args:
        patches: [n, P, D], of any length.
        words: [m, L, D], of any length.
        mask: bool [m, L], True at words.

    Returns:
        Image to text [n, m], and text to image [m, n].
    """
    cosine = torch.einsum("ipd,jld->ijpl", F.normalize(patches, dim=-1), F.normalize(words, dim=-1))
    of_patches = cosine.masked_fill(~mask[None, :, None], -math.inf).amax(-1).mean(-1)
    counted = mask.to(cosine.dtype)
    of_words = (cosine.amax(-2) * counted).sum(-1) / counted.sum(-1)
    return of_patches, of_words.T


def patch_word_contrast(patches: Tensor, words: Tensor, mask: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of n pairs with the similarities of `late_interaction`."""
    to_text, to_image = late_interaction(patches, words, mask)
    own = torch.arange(len(to_text), device=to_text.device)
    return (F.cross_entropy(scale * to_text, own) + F.cross_entropy(scale * to_image, own)) / 2
