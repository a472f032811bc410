"""Token head: every action value is one of a few bins, and a small transformer predicts which (RT-1, RT-2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .noise import Noise
from .token_decoder import Memory, TokenDecoder


class ValueBins(nn.Module):
    """Bins of equal width in [-1, 1], each standing for its centre; values beyond fall into the outermost.

    A binary dimension (a gripper) uses the outermost two alone, for exactly -1 and 1, divided at 0.

    Attributes:
        centres: value of each bin [A, bins].
        allowed: which bins a dimension uses, bool [A, bins].
    """

    def __init__(self, bins: int, action_dim: int, binary: tuple[int, ...] = ()) -> None:
        super().__init__()
        if bins < 2:
            raise ValueError(f"policy.head.token.bins: found {bins}, wanted at least 2")
        if not set(binary) <= set(range(action_dim)):
            raise ValueError(
                f"policy.head.token.binary: found {list(binary)}, wanted action dimensions 0 to {action_dim - 1}"
            )
        self.bins = bins
        centres = ((2 * torch.arange(bins, dtype=torch.float64) + 1) / bins - 1).float().repeat(action_dim, 1)
        allowed = torch.ones(action_dim, bins, dtype=torch.bool)
        for dim in binary:
            centres[dim, 0], centres[dim, -1] = -1.0, 1.0
            allowed[dim, 1:-1] = False
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("binary", torch.tensor([d in binary for d in range(action_dim)]), persistent=False)
        self.centres: Tensor
        self.allowed: Tensor
        self.binary: Tensor

    def encode(self, actions: Tensor) -> Tensor:
        """Finite actions [..., A] to bins int64 [..., A]."""
        index = ((actions + 1) * (self.bins / 2)).floor().clamp(0, self.bins - 1).long()
        return torch.where(self.binary, (actions > 0) * (self.bins - 1), index)

    def invalid(self, tokens: Tensor) -> Tensor:
        """Which integers [..., A] are no bin of their dimension: bool [..., A]."""
        inside = (tokens >= 0) & (tokens < self.bins)
        return ~(inside & self._look_up(self.allowed, tokens.clamp(0, self.bins - 1)))

    def decode(self, tokens: Tensor) -> Tensor:
        """Bins int64 [..., A] to their centres [..., A]. Raises ValueError where one is no bin of its dimension."""
        if wrong := int(self.invalid(tokens).sum()):
            raise ValueError(f"action tokens: found {wrong} of {tokens.numel()} that are no bin, wanted none")
        return self._look_up(self.centres, tokens)

    @staticmethod
    def _look_up(table: Tensor, tokens: Tensor) -> Tensor:
        return table[torch.arange(table.shape[0], device=table.device), tokens]


class TokenHead(ActionHead):
    """A chunk as Tp * A tokens, time-major, decoded with cross-attention to the context (`HeadConfig.token`).

    Only bins of the dimension at hand can be decoded, so no chunk ever has to be guessed or replaced.

    "autoregressive" models the joint distribution: each token sees those before it, so a sampled chunk belongs to one
    mode. "parallel" predicts all in one pass (OpenVLA-OFT, arXiv:2502.19645), many times faster, but its tokens are
    independent given the context: where demonstrations disagree, a chunk may mix their modes.

    Arguments as `DiffusionHead`. Raises ValueError if the options do not fit together.
    """

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        self.shape, self.context_shape = (horizon, action_dim), (num_tokens, token_width)
        self.options = token = config.token
        if token.decoding not in ("autoregressive", "parallel"):
            raise ValueError(f"policy.head.token.decoding: found {token.decoding!r}, wanted autoregressive or parallel")
        if token.temperature < 0 or token.z_loss < 0 or not 0 <= token.label_smoothing < 1:
            raise ValueError(
                f"policy.head.token: found temperature {token.temperature}, z_loss {token.z_loss}, label_smoothing "
                f"{token.label_smoothing}, wanted the first two at least 0 and the last in [0, 1)"
            )
        width = token.width
        self.bins = ValueBins(token.bins, action_dim, token.binary)
        self.project = nn.Linear(token_width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.context_place = nn.Parameter(torch.randn(num_tokens, width) * width**-0.5)
        self.time_place = nn.Parameter(torch.randn(horizon, 1, width) * width**-0.5)
        self.dim_place = nn.Parameter(torch.randn(1, action_dim, width) * width**-0.5)
        self.causal = token.decoding == "autoregressive"
        if self.causal:
            self.start = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
            self.embedding = nn.Embedding(token.bins, width)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.decoder = TokenDecoder(width, token.layers, token.heads)
        self.out = nn.Linear(width, token.bins)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Cross-entropy of the tokens in rows that are not padding; see `ActionHead.loss`.

        Parts: "token" (cross-entropy in nats, without smoothing and z-loss), "accuracy" of the likeliest token, and
        "l1" between its value and the action, both given the true tokens before it.
        """
        actions = actions.masked_fill(is_pad[..., None], 0)  # padding is not even an input
        tokens = self.bins.encode(actions)
        logits = self.logits(context, tokens)
        normaliser = logits.logsumexp(-1)
        entropy = normaliser - logits.gather(-1, tokens[..., None])[..., 0]
        error = entropy
        if self.options.label_smoothing:
            allowed = self.bins.allowed
            mean = logits.masked_fill(~allowed, 0).sum(-1) / allowed.sum(-1)
            error = torch.lerp(entropy, normaliser - mean, self.options.label_smoothing)
        if self.options.z_loss:
            error = error + self.options.z_loss * normaliser.square()
        keep = (~is_pad)[..., None].expand_as(tokens).to(error.dtype)

        def mean_of_kept(x: Tensor) -> Tensor:
            return (x * keep).sum() / keep.sum().clamp_min(1)

        with torch.no_grad():
            likeliest = logits.argmax(-1)
            off = (self.bins.decode(likeliest) - actions).abs()
            parts = {"token": entropy, "accuracy": (likeliest == tokens).to(error.dtype), "l1": off}
            parts = {name: mean_of_kept(part) for name, part in parts.items()}
        return Losses(mean_of_kept(error), parts)

    def logits(self, context: TokenGroup, tokens: Tensor) -> Tensor:
        """Logits [B, Tp, A, bins] of every token, -inf where a bin is not allowed.

        tokens: int64 [B, Tp, A]; in autoregressive decoding, logits at a position depend on those before it, in
        parallel decoding on none.
        """
        places = self._places().expand(len(tokens), -1, -1)
        if self.causal:
            before = self.embedding(tokens.flatten(1)[:, :-1])
            places = places + torch.cat([self.start.expand(len(tokens), 1, -1), before], dim=1)
        states, _ = self.decoder(places, self._remember(context), self.causal)
        return self._constrain(self.out(states).unflatten(1, self.shape))

    @torch.no_grad()
    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """The likeliest tokens, or a draw where the temperature is not 0; see `ActionHead.sample`.

        Raises ValueError where the logits are not finite: no chunk stands in for one that could not be decoded.
        """
        return self.bins.decode(self.sample_tokens(context, generators))

    @torch.no_grad()
    def sample_tokens(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """As `sample`, but the bins int64 [B, Tp, A]."""
        batch, length = len(context.tokens), self.shape[0] * self.shape[1]
        uniform = context.tokens.new_zeros(batch, length)
        if self.options.temperature:
            uniform = Noise(generators, batch, context.tokens.device).uniform(length).T.contiguous()
        if not self.causal:
            nothing = torch.empty(batch, *self.shape, device=context.tokens.device)
            return self._choose(self.logits(context, nothing), uniform.view(batch, *self.shape))
        memory, places = self._remember(context), self._places()
        before, past, tokens = self.start.expand(batch, 1, -1), None, []
        for i in range(length):
            states, past = self.decoder(before + places[i], memory, self.causal, past)
            logits = self._constrain(self.out(states), i % self.shape[1])
            tokens.append(self._choose(logits, uniform[:, i : i + 1]))
            before = self.embedding(tokens[-1])
        return torch.cat(tokens, dim=1).view(batch, *self.shape)

    def _places(self) -> Tensor:
        """Embedding of each token's time and dimension [Tp * A, width]."""
        return (self.time_place + self.dim_place).flatten(0, 1)

    def _remember(self, context: TokenGroup) -> Memory:
        if tuple(context.tokens.shape[1:]) != self.context_shape:
            raise ValueError(
                f"context tokens: found {list(context.tokens.shape)}, wanted "
                f"[B, {self.context_shape[0]}, {self.context_shape[1]}]"
            )
        tokens = context.tokens.masked_fill(~context.mask[..., None], 0)
        return self.decoder.remember(self.dropout(self.project(tokens)) + self.context_place, context.mask)

    def _constrain(self, logits: Tensor, dim: int | None = None) -> Tensor:
        """Logits [..., A, bins], or [..., bins] of one dimension, in float32 and with no chance for other bins."""
        allowed = self.bins.allowed if dim is None else self.bins.allowed[dim]
        return logits.float().masked_fill(~allowed, float("-inf"))

    def _choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Tokens [...] of logits [..., bins]: the likeliest, or where `uniform` [...] falls in the distribution."""
        if not math.isfinite(logits.amax(-1).sum()):
            raise ValueError("action tokens: found logits that are not finite, wanted finite context and weights")
        if self.options.temperature == 0:
            return logits.argmax(-1)
        cumulative = (logits / self.options.temperature).softmax(-1).cumsum(-1)
        reached = uniform[..., None] * cumulative[..., -1:]
        # A bin without probability adds nothing to the sum, so "first beyond" never lands on it.
        token = torch.searchsorted(cumulative, reached, right=True)[..., 0]
        return torch.minimum(token, (cumulative < cumulative[..., -1:]).sum(-1))
