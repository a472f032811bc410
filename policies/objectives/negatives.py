"""Which negatives a contrast is made with: hard ones by a schedule, and those of batches gone by."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EASY_START, EASY_END = 0.7, 0.3  # share of negatives drawn at random, from the first step to the last


def hard_share(progress: float) -> float:
    """Share of hard negatives after this part of a training, in [0, 1]: 30% at its start, 70% at its end."""
    return 1 - (EASY_START + (EASY_END - EASY_START) * min(1.0, max(0.0, progress)))


@torch.no_grad()
def choose_negatives(
    queries: Tensor, keys: Tensor, count: int, hard: float, generator: torch.Generator | None = None
) -> Tensor:
    """The negatives of every query: the most similar keys, and others at random; bool [n, m].

    Early in training the most similar keys are often right ones too, so most are drawn at random; later only the hard
    ones still teach.

    Args:
        queries: [n, D].
        keys: [m, D]; key i belongs to query i and is never its negative.
        count: negatives a query, at most m - 1.
        hard: share of them that are the most similar ones, rounded to whole numbers.
        generator: of the random ones; None takes torch's global one.
    """
    similarity = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T
    rows, columns = similarity.shape
    own = torch.eye(rows, columns, dtype=torch.bool, device=keys.device)
    count = min(count, columns - 1)
    hardest = round(hard * count)
    chosen = torch.zeros_like(own)
    chosen.scatter_(1, similarity.masked_fill(own, -math.inf).topk(hardest, dim=1).indices, True)
    luck = torch.rand(similarity.shape, generator=generator, device=keys.device).masked_fill(own | chosen, -1.0)
    return chosen.scatter_(1, luck.topk(count - hardest, dim=1).indices, True)


class NegativeQueue(nn.Module):
    """The last embeddings of batches gone by, as further negatives (He et al. 2020, MoCo, arXiv:1911.05722).

    They come from weights of a few steps ago, so they should come from slowly moving ones; see `distillation.Momentum`.

    Args:
        size: embeddings kept.
        width: D of an embedding.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, width))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.embeddings: Tensor
        self.pushed: Tensor

    def contents(self) -> Tensor:
        """What has been pushed so far and not yet been pushed out, [<= size, D], in no order."""
        return self.embeddings[: min(int(self.pushed), len(self.embeddings))]

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Take in [n, D]; the oldest make room."""
        size = len(self.embeddings)
        kept = embeddings.detach()[-size:].to(self.embeddings.dtype)
        first = int(self.pushed) + len(embeddings) - len(kept)
        self.embeddings[(first + torch.arange(len(kept), device=kept.device)) % size] = kept
        self.pushed += len(embeddings)
