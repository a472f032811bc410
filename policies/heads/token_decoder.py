"""A small transformer decoder: self-attention over action tokens, cross-attention to the context."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Memory:
    """The context as the decoder reads it, computed once per chunk.

    Attributes:
        layers: each layer's keys and values [B, H, M, width / H].
        mask: which of the M count, bool [B, 1, 1, M].
    """

    layers: list[KeysValues]
    mask: Tensor


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention and SwiGLU (Vaswani et al. 2017; Shazeer 2020).

    LayerNorm, because on a CPU RMSNorm takes twice as long for the single token of a cached step.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.self_out = nn.Linear(width, width, bias=False)
        self.cross_norm = nn.LayerNorm(width, bias=False)
        self.cross_query = nn.Linear(width, width, bias=False)
        self.cross_key_value = nn.Linear(width, 2 * width, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.gate_up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def remember(self, context: Tensor) -> KeysValues:
        """Keys and values of the context [B, M, width] for the cross-attention."""
        key, value = self.cross_key_value(context).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(
        self, states: Tensor, read: KeysValues, mask: Tensor, causal: bool, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """New states [B, L, width], and the keys and values of all tokens up to them."""
        packed = self.query_key_value(self.self_norm(states)).unflatten(-1, (3, self.heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=causal and past is None)
        states = states + self.self_out(self._join(attended))
        query = self._split(self.cross_query(self.cross_norm(states)))
        attended = F.scaled_dot_product_attention(query, *read, attn_mask=mask)
        states = states + self.cross_out(self._join(attended))
        gate, up = self.gate_up(self.mlp_norm(states)).chunk(2, dim=-1)
        return states + self.down(F.silu(gate) * up), (key, value)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class TokenDecoder(nn.Module):
    """Decoder blocks between embedded tokens and normalised states.

    The context gets one more, learned entry that is never masked, so a context without a valid token is still defined.

    Raises ValueError without layers, or if the width cannot be shared among the heads.
    """

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"policy.head.token.heads: found {heads}, wanted a divisor of the width {width}")
        if layers < 1:
            raise ValueError(f"policy.head.token.layers: found {layers}, wanted at least 1")
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.context_norm = nn.LayerNorm(width, bias=False)
        self.blocks = nn.ModuleList([DecoderBlock(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, bias=False)

    def remember(self, context: Tensor, mask: Tensor) -> Memory:
        """The context [B, N, width] and which of it counts, bool [B, N], prepared for every layer."""
        context = self.context_norm(torch.cat([self.nothing.expand(len(context), 1, -1), context], dim=1))
        return Memory(
            [block.remember(context) for block in self._blocks()], F.pad(mask, (1, 0), value=True)[:, None, None]
        )

    def forward(
        self, states: Tensor, memory: Memory, causal: bool, past: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """States [B, L, width] of embedded tokens, and the cache that the next call takes as `past`.

        With `past`, L is 1: the token after those in the cache. Without, `causal` hides later tokens from earlier ones.
        """
        present = []
        for i, block in enumerate(self._blocks()):
            states, seen = block(states, memory.layers[i], memory.mask, causal, None if past is None else past[i])
            present.append(seen)
        return self.norm(states), present

    def _blocks(self) -> list[DecoderBlock]:
        return list(self.blocks)  # pyright: ignore


@dataclass(frozen=True)
class MemoryReader:
    """A decoder with the context it looks at and the keys and values of what it has read (`interfaces.Reader`)."""

    decoder: TokenDecoder
    memory: Memory
    past: list[KeysValues] | None = None

    def read_on(self, embedded: Tensor, causal: bool) -> tuple[Tensor, MemoryReader]:
        """See `interfaces.Reader`; with something read before, L is 1."""
        states, present = self.decoder(embedded, self.memory, causal, self.past)
        return states, replace(self, past=present)
