"""What passes between the parts of a policy: observations, tokens, losses, and the two contracts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Generators = Sequence[torch.Generator] | None


@dataclass(frozen=True)
class Observation:
    """What a policy sees.

    Attributes:
        images: camera name -> uint8 RGB [B, To, H, W, 3].
        proprio: float32 [B, To, P] in the units of the environment's `ProprioSpec`.
        instruction: B texts.
    """

    images: dict[str, Tensor]
    proprio: Tensor
    instruction: list[str]


@dataclass(frozen=True)
class Batch:
    """Supervised windows: what was seen up to t, and the actions from t on.

    Attributes:
        observation: observations at the last To control steps up to t.
        actions: float32 [B, Tp, A] in environment units.
        is_pad: bool [B, Tp], True where the episode had already ended.
    """

    observation: Observation
    actions: Tensor
    is_pad: Tensor


@dataclass(frozen=True)
class TokenGroup:
    """Tokens and which of them count: tokens [B, N, D], mask bool [B, N]."""

    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Losses:
    """A scalar to descend and the named parts it is made of (detached, for the log)."""

    total: Tensor
    parts: dict[str, Tensor]


class Backbone(nn.Module):
    """Observation and instruction in, tokens out.

    Attributes:
        num_tokens: N, the fixed number of tokens.
        width: D, the size of a token.
        parts: the modules a training stage can freeze or train, by name.
        bf16: run under bf16 autocast: faster to train; acting uses fp32.
    """

    num_tokens: int
    width: int
    bf16: bool = False

    @property
    def parts(self) -> dict[str, nn.Module]:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, observation: Observation) -> TokenGroup:
        """Tokens for a checked observation whose proprioception is already normalised."""
        raise NotImplementedError


class ActionHead(nn.Module):
    """Tokens in, an action chunk in [-1, 1] out."""

    def fit(self, actions: Tensor, is_pad: Tensor) -> None:
        """What a head takes from the data before its first step: chunks [N, Tp, A] in [-1, 1], is_pad [N, Tp].

        Most take nothing. What is taken lies in buffers whose shapes follow from the configuration alone.
        """

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Training loss for actions [B, Tp, A] in [-1, 1]; rows where is_pad [B, Tp] do not count."""
        raise NotImplementedError

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """An action chunk [B, Tp, A] in [-1, 1]; element b draws its noise from `generators[b]` alone."""
        raise NotImplementedError
