"""Context tokens to one conditioning vector, and what is made of it where no draw takes part."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..interfaces import TokenGroup


class Conditioning(nn.Module):
    """Flattens N tokens [B, N, D] (masked ones as zeros) and maps them to a vector [B, width]."""

    def __init__(self, num_tokens: int, token_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.shape = (num_tokens, token_width)
        self.first = nn.Linear(num_tokens * token_width, width)
        self.norm = nn.LayerNorm(width)
        self.second = nn.Linear(width, width)
        self.activation = nn.SiLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, context: TokenGroup) -> Tensor:
        if tuple(context.tokens.shape[1:]) != self.shape:
            raise ValueError(
                f"context tokens: found {list(context.tokens.shape)}, wanted [B, {self.shape[0]}, {self.shape[1]}]"
            )
        flat = (context.tokens * context.mask[..., None]).flatten(1)
        hidden = self.activation(self.norm(self.first(flat)))
        return self.activation(self.second(self.dropout(hidden)))


class ResidualBlock(nn.Module):
    """A vector plus what a layer of twice its width makes of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, 2 * width)
        self.second = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(self.norm(x))))


def residual_trunk(inputs: int, width: int, blocks: int) -> nn.Sequential:
    """Vectors [B, inputs] to [B, width], for heads that say all they know of a chunk in one pass.

    Its depth matters: on Push-T a mixture of Gaussians scored 0.42 after 3,000 steps with one layer of 1,024 (2.4
    million weights), 0.90 with two blocks of 512 (3.8 million).
    """
    return nn.Sequential(
        nn.Linear(inputs, width), *[ResidualBlock(width) for _ in range(blocks)], nn.LayerNorm(width), nn.SiLU()
    )
