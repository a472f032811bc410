"""Token head: a chunk is a sequence of integers, and a small transformer predicts them (RT-1, RT-2, FAST, VQ-BeT)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HeadConfig, TokenConfig
from ..interfaces import ActionHead, Generators, Losses, Reader, TokenGroup
from .action_code import ActionCode
from .bin_tokens import BinCode
from .compressed_tokens import CosineCode
from .conditioning import Conditioning, residual_trunk
from .noise import Noise, hold
from .token_decoder import MemoryReader, TokenDecoder
from .vq_tokens import VectorCode

CODES: dict[str, Callable[[TokenConfig, int, int], ActionCode]] = {
    "bins": BinCode,
    "dct_bpe": CosineCode,
    "vq": VectorCode,
}


class Hints(nn.Module):
    """What the context as a whole says of every unit of a chunk, at the place where the decoder begins with it.

    Cross-attention alone has to find in a few tokens which numbers each action depends on, with the decoder's small
    width; this is a network as the other heads have it, once for the chunk, and a linear map for what has to be exact.
    Next to nothing at first.

    Args:
        config: `context_width`, `denoiser_width`, `denoiser_blocks` and `dropout`.
        units: of the chunk.
        num_tokens: of the context.
        token_width: of the context.
        width: of the decoder.
    """

    def __init__(self, config: HeadConfig, units: int, num_tokens: int, token_width: int, width: int) -> None:
        super().__init__()
        hidden = config.denoiser_width
        self.units = units
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.trunk = residual_trunk(config.context_width, hidden, config.denoiser_blocks)
        self.line = nn.Linear(num_tokens * token_width, hidden, bias=False)
        self.out = nn.Linear(hidden, units * width)
        nn.init.normal_(self.out.weight, std=0.01 * hidden**-0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, context: TokenGroup) -> Tensor:
        """[B, units, width]."""
        seen = context.tokens.masked_fill(~context.mask[..., None], 0)
        hidden = self.trunk(self.conditioning(TokenGroup(seen, context.mask))) + self.line(seen.flatten(1))
        return self.out(hidden).unflatten(1, (self.units, -1))


class TokenHead(ActionHead):
    """A chunk as tokens of a code (`HeadConfig.token`).

    A small decoder of its own looks at the context; or the backbone's language model reads on where the context ends,
    as in RT-2 (arXiv:2307.15818), with an entry for each of the code's added to its vocabulary.

    Only what the code allows next can be decoded, so no chunk ever has to be guessed or replaced. A code that learns
    from data has to be given some, by `fit`, before it is used.

    "autoregressive" models the joint distribution: each token sees those before it, so a sampled chunk belongs to one
    mode. "parallel" predicts all in one pass (OpenVLA-OFT, arXiv:2502.19645), many times faster, but its tokens are
    independent given the context: where demonstrations disagree, a chunk may mix their modes.

    Arguments as `DiffusionHead`, and what the backbone's language model reads and gives; 0 where there is none. Raises
    ValueError if the options do not fit together.
    """

    def __init__(
        self,
        config: HeadConfig,
        horizon: int,
        action_dim: int,
        num_tokens: int,
        token_width: int,
        reader_width: int = 0,
    ) -> None:
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
        if token.spread < 0 or (token.spread and token.code != "bins"):
            raise ValueError(
                f"policy.head.token.spread: found {token.spread} with code {token.code!r}, wanted at least 0, and 0 "
                "for codes whose entries have no order"
            )
        if token.code not in CODES:
            raise ValueError(f"policy.head.token.code: found {token.code!r}, wanted one of {sorted(CODES)}")
        if token.decoder not in ("own", "backbone") or (token.decoder == "backbone" and not reader_width):
            raise ValueError(
                f"policy.head.token.decoder: found {token.decoder!r}, wanted own, or backbone where the backbone is a "
                "language model"
            )
        self.code = CODES[token.code](token, horizon, action_dim)
        rows, columns = self.code.grid
        self.decoder = None
        width = reader_width
        if token.decoder == "own":
            width = token.width
            self.project = nn.Linear(token_width, width)
            self.dropout = nn.Dropout(config.dropout)
            self.context_place = nn.Parameter(torch.randn(num_tokens, width) * width**-0.5)
            self.decoder = TokenDecoder(width, token.layers, token.heads)
            self.hints = Hints(config, self.code.units, num_tokens, token_width, width)
        self.row_place = nn.Parameter(torch.randn(rows, 1, width) * width**-0.5)
        self.column_place = nn.Parameter(torch.randn(1, columns, width) * width**-0.5)
        self.causal = token.decoding == "autoregressive"
        if self.causal:
            self.start = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
            self.embedding = nn.Embedding(self.code.entries, width)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.out = nn.Linear(width, self.code.entries)

    def fit(self, actions: Tensor, is_pad: Tensor) -> None:
        """Fit the code; see `ActionHead.fit`. Raises ValueError for other shapes, or without a finite row to learn."""
        if actions.shape[1:] != self.shape or is_pad.shape != actions.shape[:2] or bool(is_pad.all()):
            raise ValueError(
                f"token head, fit: found actions {list(actions.shape)} and is_pad {list(is_pad.shape)}, "
                f"{int((~is_pad).sum())} rows of them no padding; wanted [N, {self.shape[0]}, {self.shape[1]}], "
                f"[N, {self.shape[0]}] and some"
            )
        actions = hold(actions.float(), is_pad)
        if not bool(actions.isfinite().all()):
            raise ValueError(
                "token head, fit: found actions that are not finite, wanted actions as the gate passes them"
            )
        self.code.fit(actions, is_pad)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Cross-entropy of the tokens that count; see `ActionHead.loss`.

        A token for every value counts where its row is no padding; other codes spell a chunk as a whole, in which the
        last action is held to the end. Parts: "token" (cross-entropy in nats, without smoothing and z-loss),
        "accuracy" of the likeliest token given the true ones before it, and those of the code.
        """
        self._require_fit()
        actions = hold(actions, is_pad)
        with torch.no_grad(), torch.autocast(actions.device.type, enabled=False):
            tokens = self.code.encode(actions)
        logits = self.logits(context, tokens)
        normaliser = logits.logsumexp(-1)
        entropy = normaliser - logits.gather(-1, tokens[..., None])[..., 0]
        error, forbidden = entropy, logits.isneginf()
        if self.options.spread:
            away = torch.arange(logits.shape[-1], device=logits.device) - tokens[..., None]
            share = (-0.5 * (away / self.options.spread).square()).masked_fill(forbidden, -math.inf).softmax(-1)
            error = normaliser - (share * logits.masked_fill(forbidden, 0)).sum(-1)
        if self.options.label_smoothing:
            mean = logits.masked_fill(forbidden, 0).sum(-1) / (~forbidden).sum(-1)
            error = torch.lerp(error, normaliser - mean, self.options.label_smoothing)
        if self.options.z_loss:
            error = error + self.options.z_loss * normaliser.square()
        keep = self.code.counted(tokens, is_pad).to(error.dtype)

        def mean_of_kept(x: Tensor) -> Tensor:
            return (x * keep).sum() / keep.sum().clamp_min(1)

        with torch.no_grad(), torch.autocast(actions.device.type, enabled=False):
            likeliest = logits.argmax(-1)
            parts = {"token": mean_of_kept(entropy), "accuracy": mean_of_kept((likeliest == tokens).to(error.dtype))}
            parts |= self.code.measure(actions, is_pad, likeliest)
        return Losses(mean_of_kept(error), parts)

    def logits(self, context: TokenGroup, tokens: Tensor) -> Tensor:
        """Logits [B, ..., entries] of tokens [B, ...], -inf where the code does not allow one.

        In autoregressive decoding, logits at a position depend on the tokens before it, in parallel decoding on none.
        """
        flat = tokens.flatten(1)
        starts = self.code.starts(flat)
        places = self._place(starts, self._hint(context))
        if self.causal:
            before = self.embedding(flat[:, :-1])
            places = places + torch.cat([self.start.expand(len(flat), 1, -1), before], dim=1)
        states, _ = self._reader(context).read_on(places, self.causal)
        return self._constrain(self.out(states), starts).unflatten(1, tokens.shape[1:])

    @torch.no_grad()
    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """The likeliest tokens, or a draw where the temperature is not 0; see `ActionHead.sample`.

        Raises ValueError where the logits are not finite: no chunk stands in for one that could not be decoded.
        """
        tokens = self.sample_tokens(context, generators)
        with torch.autocast(tokens.device.type, enabled=False):
            return self.code.decode(tokens)

    @torch.no_grad()
    def sample_tokens(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """As `sample`, but the tokens int64 [B, *shape of the code's]."""
        self._require_fit()
        batch, units = len(context.tokens), self.code.units
        uniform = context.tokens.new_zeros(batch, units)
        if self.options.temperature:
            uniform = Noise(generators, batch, context.tokens.device).uniform(units).T.contiguous()
        if not self.causal:
            nothing = torch.zeros(batch, *self.code.shape, dtype=torch.int64, device=context.tokens.device)
            return self._choose(self.logits(context, nothing), uniform.view(batch, *self.code.shape))
        reader, hints = self._reader(context), self._hint(context)
        before, tokens = self.start.expand(batch, 1, -1), []
        done = torch.zeros(batch, 1, dtype=torch.int64, device=context.tokens.device)
        while (done < units).any():  # every token but the end spells something, so this ends
            states, reader = reader.read_on(before + self._place(done, hints), self.causal)
            at = len(tokens)
            tokens.append(self._choose(self._constrain(self.out(states), done), uniform[:, at : at + 1]))
            done = done + self.code.spans(tokens[-1])
            before = self.embedding(tokens[-1])
        return torch.cat(tokens, dim=1).unflatten(1, self.code.shape)

    def _hint(self, context: TokenGroup) -> Tensor | None:
        return None if self.decoder is None else self.hints(context)

    def _place(self, starts: Tensor, hints: Tensor | None) -> Tensor:
        """Embedding [B, L, width] of the unit that a token begins with, int64 [B, L]; past the last, that of the last.

        hints: what the context says of each unit [B, units, width].
        """
        unit = starts.clamp_max(self.code.units - 1)
        places = F.embedding(unit, (self.row_place + self.column_place).flatten(0, 1))
        if hints is None:
            return places
        return places + hints.gather(1, unit[..., None].expand(-1, -1, hints.shape[-1]))

    def _require_fit(self) -> None:
        if not self.code.fitted:
            raise ValueError(
                f"policy.head.token: found code {self.options.code!r} without data, wanted `fit` with the training's "
                "chunks before anything else"
            )

    def _reader(self, context: TokenGroup) -> Reader:
        if tuple(context.tokens.shape[1:]) != self.context_shape:
            raise ValueError(
                f"context tokens: found {list(context.tokens.shape)}, wanted "
                f"[B, {self.context_shape[0]}, {self.context_shape[1]}]"
            )
        if self.decoder is None:
            if context.reader is None:
                raise ValueError("context: found no reader, wanted the backbone's language model (`Backbone.lends`)")
            return context.reader
        tokens = context.tokens.masked_fill(~context.mask[..., None], 0)
        memory = self.decoder.remember(self.dropout(self.project(tokens)) + self.context_place, context.mask)
        return MemoryReader(self.decoder, memory)

    def _constrain(self, logits: Tensor, starts: Tensor) -> Tensor:
        """Logits [..., entries] in float32, with no chance for what may not follow after `starts` [...] units."""
        return logits.float().masked_fill(~self.code.allowed_next(starts), float("-inf"))

    def _choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Tokens [...] of logits [..., entries]: the likeliest, or where `uniform` [...] falls in the distribution."""
        if not math.isfinite(logits.amax(-1).sum()):
            raise ValueError("action tokens: found logits that are not finite, wanted finite context and weights")
        if self.options.temperature == 0:
            return logits.argmax(-1)
        cumulative = (logits / self.options.temperature).softmax(-1).cumsum(-1)
        reached = uniform[..., None] * cumulative[..., -1:]
        # A token without probability adds nothing to the sum, so "first beyond" never lands on it.
        token = torch.searchsorted(cumulative, reached, right=True)[..., 0]
        return torch.minimum(token, (cumulative < cumulative[..., -1:]).sum(-1))
