"""Modality dropout: a sample now and then lacks one of its modalities, so that no other can stand for all."""

from __future__ import annotations

import torch
from torch import Tensor

MODALITIES = ("image", "language", "proprio")


def drop_modalities(batch: int, share: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Which samples lack which modality: name -> bool [batch]; a sample lacks one at most.

    After Neverova et al. 2016 (ModDrop, arXiv:1501.00102), but never two together: with the words and the pictures
    gone, nothing is left to act on.

    Args:
        batch: samples.
        share: of samples that lack one, each modality as often.
        generator: of every choice; None takes torch's global one.
    """
    luck = torch.rand(batch, generator=generator)
    which = torch.randint(len(MODALITIES), (batch,), generator=generator)
    return {name: (luck < share) & (which == i) for i, name in enumerate(MODALITIES)}
