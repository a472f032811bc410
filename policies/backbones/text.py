"""The text tower: a small transformer, and learned queries that read it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROLES = ("target", "reference")


@dataclass(frozen=True)
class TextFeatures:
    """What the text tower knows of B texts.

    Attributes:
        states: token states [B, L, Dt].
        mask: bool [B, L], True at real tokens.
        roles: phrase embedding of each role (`ROLES`) [B, R, Dt].
        pooled: the whole text [B, Dt].
    """

    states: Tensor
    mask: Tensor
    roles: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def float(self) -> TextFeatures:
        """In float32, whatever precision they were computed in."""
        return TextFeatures(self.states.float(), self.mask, self.roles.float(), self.pooled.float())

    def select(self, rows: Tensor) -> TextFeatures:
        """The features of these rows, int64 [B']; texts encoded once can serve many samples."""
        return TextFeatures(self.states[rows], self.mask[rows], self.roles[rows], self.pooled[rows])


class AttentionLogits(nn.Identity):
    """Attention logits pass through here, so that a training's monitors can watch them."""


class QueryPool(nn.Module):
    """Learned queries that cross-attend a masked sequence [B, L, D] and return [B, Q, D]."""

    def __init__(self, queries: int, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.5)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.logits = AttentionLogits()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        key, value = self.key_value(states).chunk(2, dim=-1)
        logits = torch.einsum("qd,bld->bql", self.queries, key) * key.shape[-1] ** -0.5
        weights = self.logits(logits).masked_fill(~mask[:, None], float("-inf")).softmax(-1)
        return self.out(weights @ value)


class TextBlock(nn.Module):
    """Pre-norm transformer block: self-attention and SwiGLU (Shazeer 2020), with RMSNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width)
        self.gate_up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.logits = AttentionLogits()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = states.shape
        packed = self.query_key_value(self.attention_norm(states)).view(batch, length, 3, self.heads, -1)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        # Written out: on a CPU the fused kernel takes twice as long for texts of ten words.
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        weights = self.logits(logits).masked_fill(~mask[:, None, None], float("-inf")).softmax(-1)
        attended = weights.to(value.dtype) @ value
        states = states + self.attention_out(attended.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.mlp_norm(states)).chunk(2, dim=-1)
        return states + self.down(F.silu(gate) * up)


class TextTower(nn.Module):
    """Token ids to token states, role phrases and a pooled embedding.

    Args:
        vocabulary: entries of the tokenizer.
        max_tokens: longest text in tokens.
        width: size of the states.
        layers: transformer blocks.
        heads: attention heads.

    Attributes:
        width: size of states and role phrases.
        pooled_width: of the whole text's embedding.
    """

    def __init__(self, vocabulary: int, max_tokens: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width = self.pooled_width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(max_tokens, width) * 0.02)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.blocks = nn.ModuleList([TextBlock(width, heads) for _ in range(layers)])
        self.norm = nn.RMSNorm(width)
        self.pool = QueryPool(len(ROLES) + 1, width)

    def forward(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """Encode ids int64 [B, L] with mask bool [B, L]."""
        states = self.embedding(ids) + self.position[: ids.shape[1]]
        for block in self.blocks:
            states = block(states, mask)
        states = self.norm(states)
        pooled = self.pool(states, mask)
        return TextFeatures(states, mask, pooled[:, : len(ROLES)], pooled[:, len(ROLES)])
