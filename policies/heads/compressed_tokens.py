"""Compressed tokens: byte pairs of a chunk's rounded cosine transform, in the spirit of FAST (arXiv:2501.09747)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config import TokenConfig
from .action_code import ActionCode, l1
from .noise import kept_mean
from .pair_encoding import PairEncoding

MOST_CHUNKS = 50_000  # that the pairs are learned from, evenly spaced in the data


class CosineCode(ActionCode):
    """Chunks as integers, slow waves first, and frequent runs of integers as one token.

    Every dimension is transformed over time (orthonormal DCT-II), multiplied by `compression.scale` and rounded. The
    integers of the slowest wave of all dimensions come first, then those of the next. Byte pair encoding, learned from
    the data, makes tokens of known lengths of them; the tokens of a chunk have Tp * A integers together, no more and no
    fewer, and then comes the end.

    Rounding errs by at most 0.5 / scale, root mean square over the time of a dimension. The letters are all integers
    between the least and the largest seen in `fit`; one beyond becomes the nearest letter, and the loss's part
    "clipped" says how many did.

    Raises ValueError if the options do not fit; `fit` does if there are more letters than `compression.vocabulary`.
    """

    name = "part of a chunk"
    end: int

    def __init__(self, token: TokenConfig, horizon: int, action_dim: int) -> None:
        options, vocabulary = token.compression, token.compression.vocabulary
        if options.scale <= 0 or vocabulary < 2:
            raise ValueError(
                f"policy.head.token.compression: found scale {options.scale}, vocabulary {vocabulary}, wanted a scale "
                "above 0 and a vocabulary of at least 2"
            )
        if token.decoding != "autoregressive":
            raise ValueError(
                f"policy.head.token.decoding: found {token.decoding!r}, wanted 'autoregressive', for the number of "
                "compressed tokens is known at their end only"
            )
        super().__init__(token, horizon, action_dim, (horizon, action_dim), vocabulary + 1)
        self.shape, self.end, self.scale = (-1,), vocabulary, options.scale
        self.register_buffer("transform", cosine_transform(horizon), persistent=False)
        self.register_buffer("letters", torch.zeros(2, dtype=torch.int64))  # the least one, and how many there are
        self.register_buffer("pairs", torch.full((vocabulary, 2), -1))
        self.register_buffer("pieces", torch.zeros(vocabulary + 1, self.units, dtype=torch.int64), persistent=False)
        self.register_buffer("lengths", torch.zeros(vocabulary + 1, dtype=torch.int64), persistent=False)
        self.transform: Tensor
        self.letters: Tensor
        self.pairs: Tensor
        self.pieces: Tensor
        self.lengths: Tensor
        self.encoding: PairEncoding | None = None

    def learn(self, actions: Tensor, is_pad: Tensor) -> None:
        whole = self.waves(actions[(~is_pad).any(1)]).round().long()
        least, letters = int(whole.min()), int(whole.max() - whole.min()) + 1
        if letters > self.end:
            raise ValueError(
                f"policy.head.token.compression: found {letters} integers at scale {self.scale} in a vocabulary of "
                f"{self.end}; lower the scale or enlarge the vocabulary"
            )
        some = whole[:: math.ceil(len(whole) / MOST_CHUNKS)] - least
        pairs = PairEncoding.learn(some.cpu().numpy(), letters, self.end)[: len(self.pairs)]
        self.letters.copy_(torch.tensor([least, letters]))
        self.pairs.fill_(-1)[: len(pairs)] = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)

    def derive(self) -> None:
        """Raises ValueError where the buffers are no vocabulary of this size."""
        pairs = self.pairs[self.pairs[:, 0] >= 0]
        self.encoding = PairEncoding(int(self.letters[1]), [(left, right) for left, right in pairs.tolist()])
        lengths = [len(piece) for piece in self.encoding.pieces]
        if len(lengths) > self.end or max(lengths) > self.units:
            raise ValueError(
                f"compressed tokens: found {len(lengths)} of up to {max(lengths)} integers, wanted at most {self.end} "
                f"of at most {self.units}"
            )
        self.lengths.zero_()[: len(lengths)] = torch.tensor(lengths)
        self.pieces.zero_()
        for token, piece in enumerate(self.encoding.pieces):
            self.pieces[token, : len(piece)] = torch.tensor(piece)

    def encode(self, actions: Tensor) -> Tensor:
        if self.encoding is None:
            raise ValueError("compressed tokens: found no vocabulary, wanted `fit` before `encode`")
        letters = self.integers(actions) - self.letters[0]
        rows = [torch.tensor(row) for row in self.encoding.encode(letters.cpu().numpy())]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.end)
        return tokens.to(actions.device)

    def decode(self, tokens: Tensor) -> Tensor:
        return self.values(self.spelled(tokens))

    def spelled(self, tokens: Tensor) -> Tensor:
        """The integers int64 [B, Tp * A] of tokens [B, L], exactly. Raises ValueError where they are no chunk."""
        inside = (tokens >= 0) & (tokens < self.entries)
        known = tokens.where(inside, self.end)
        wrong = ~inside | ~self.allowed_next(self.starts(known)).gather(-1, known[..., None])[..., 0]
        self.refuse(wrong | (self.spans(known).sum(1, keepdim=True) != self.units))
        of_token = torch.arange(self.units, device=tokens.device) < self.spans(tokens)[..., None]
        return self.pieces[tokens][of_token].view(-1, self.units) + self.letters[0]

    def spans(self, tokens: Tensor) -> Tensor:
        return self.lengths[tokens]

    def allowed_next(self, done: Tensor) -> Tensor:
        left = self.units - done[..., None]
        allowed = (self.lengths > 0) & (self.lengths <= left)
        allowed[..., self.end] = left[..., 0] == 0
        return allowed

    def measure(self, actions: Tensor, is_pad: Tensor, likeliest: Tensor) -> dict[str, Tensor]:
        """Parts "reconstruction" (L1 of what coding loses) and "clipped" (share of integers that were no letters).

        The likeliest tokens after true ones need not be a chunk, so they have no values.
        """
        integers = self.integers(actions)
        clipped = (integers != self.waves(actions).round()).float().mean(1, keepdim=True).expand_as(is_pad)
        return {
            "reconstruction": l1(self.values(integers), actions, is_pad),
            "clipped": kept_mean(clipped[None], is_pad),
        }

    def waves(self, actions: Tensor) -> Tensor:
        """Chunks [B, Tp, A] as scaled cosine coefficients [B, Tp * A], slow ones first, the dimensions in turn."""
        return (self.transform @ self.snap(actions)).flatten(1) * self.scale

    def integers(self, actions: Tensor) -> Tensor:
        """Chunks [B, Tp, A] as letters: their waves rounded, int64 [B, Tp * A], and clipped to what has a letter."""
        least, count = self.letters
        return self.waves(actions).round().clamp(least, least + count - 1).long()

    def values(self, integers: Tensor) -> Tensor:
        """The chunks [B, Tp, A] of integers [B, Tp * A]."""
        return self.snap(self.transform.T @ (integers.unflatten(1, self.chunk) / self.scale))


def cosine_transform(length: int) -> Tensor:
    """The orthonormal DCT-II as a matrix float32 [waves, length]; its transpose is its inverse (Ahmed et al. 1974)."""
    wave, time = torch.arange(length, dtype=torch.float64)[:, None], torch.arange(length, dtype=torch.float64)
    matrix = torch.cos(math.pi * (time + 0.5) * wave / length) * (2 / length) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.float()
