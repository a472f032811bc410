"""What the tests of heads give them: a context, and noise of its own for each element."""

from __future__ import annotations

import torch

from deixis.policies.interfaces import TokenGroup

TOKENS, WIDTH = 5, 8


def context(batch: int = 3) -> TokenGroup:
    """Tokens [batch, TOKENS, WIDTH], none masked, the same every time."""
    tokens = torch.randn(batch, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return TokenGroup(tokens, torch.ones(batch, TOKENS, dtype=torch.bool))


def generators(*seeds: int) -> list[torch.Generator]:
    """One generator a seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
