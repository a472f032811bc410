"""Masked modelling: words from the words around them, patches from the patches around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KEPT, RANDOM = 0.1, 0.1  # of the chosen words, as in BERT: the rest becomes the mask token


@dataclass(frozen=True)
class MaskedText:
    """Texts with words to guess.

    Attributes:
        ids: what the model sees [B, L].
        labels: what stood there [B, L].
        chosen: bool [B, L], the places that count.
    """

    ids: Tensor
    labels: Tensor
    chosen: Tensor


def mask_text(
    ids: Tensor, mask: Tensor, share: float, mask_id: int, vocabulary: int, first: int, generator: torch.Generator
) -> MaskedText:
    """Choose words to guess (Devlin et al. 2019, BERT, arXiv:1810.04805): 80% masked, 10% random, 10% left as they are.

    Args:
        ids: [B, L].
        mask: bool [B, L], True at words that may be chosen.
        share: of them that is chosen; every text has at least one.
        mask_id: the mask token.
        vocabulary: entries of the tokenizer; random words are drawn from `first` on, past the special tokens.
        first: the first entry that is a word.
        generator: of every choice.
    """
    luck = torch.rand(ids.shape, generator=generator).masked_fill(~mask.cpu(), 2.0)
    chosen = (luck < share) | ((luck == luck.amin(-1, keepdim=True)) & (luck < 2.0))
    how = torch.rand(ids.shape, generator=generator)
    words = torch.randint(first, vocabulary, ids.shape, generator=generator)
    seen = torch.where(how < KEPT, ids.cpu(), torch.where(how < KEPT + RANDOM, words, mask_id))
    chosen = chosen.to(ids.device)
    return MaskedText(torch.where(chosen, seen.to(ids.device), ids), ids, chosen)


def masked_text_loss(logits: Tensor, masked: MaskedText) -> Tensor:
    """Cross-entropy of logits [B, L, V] at the chosen words, mean over them."""
    return F.cross_entropy(logits[masked.chosen].float(), masked.labels[masked.chosen])


def mask_patches(batch: int, grid: tuple[int, int], block: int, share: float, generator: torch.Generator) -> Tensor:
    """Cells to guess, bool [B, h, w], in squares of block x block (Xie et al. 2022, SimMIM, arXiv:2111.09886).

    Single cells could be copied from their neighbours; squares have to be understood. Each image has the same number of
    squares, the nearest to `share` of them and at least one.
    """
    rows, columns = -(-grid[0] // block), -(-grid[1] // block)
    count = max(1, round(share * rows * columns))
    chosen = torch.rand(batch, rows * columns, generator=generator).topk(count, dim=1).indices
    squares = torch.zeros(batch, rows * columns, dtype=torch.bool).scatter_(1, chosen, True).view(batch, rows, columns)
    return squares.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, : grid[0], : grid[1]]


def masked_image_loss(predicted: Tensor, pixels: Tensor, chosen: Tensor) -> Tensor:
    """L1 of pixels at the chosen cells (SimMIM), mean over their values: [B, h, w, V], [B, h, w, V], bool [B, h, w]."""
    return (predicted - pixels).abs()[chosen].mean()
