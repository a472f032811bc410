"""Context tokens to one conditioning vector."""

from __future__ import annotations

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
