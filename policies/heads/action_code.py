"""What a code of actions is: a chunk to a sequence of integers, and back without ever guessing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import TokenConfig
from .noise import kept_mean


class ActionCode(nn.Module):
    """Chunks of actions [B, Tp, A] as sequences of tokens, and back.

    The tokens of a chunk spell a grid of units, row by row, each of them one unit or several. What may come next
    depends on how many units have been spelled, and on nothing else; so a sequence of allowed tokens is a chunk.

    Args:
        token: the options of the token head.
        horizon: Tp.
        action_dim: A.
        grid: see below.
        entries: see below.

    Attributes:
        name: what a token is called in errors.
        grid: rows and columns of the units.
        entries: how many different tokens there are.
        shape: of a chunk's tokens, in the order they are spelled; (-1,) where their number varies.
        end: fills up sequences that are shorter than others, None where all are alike. It spells nothing, and may come
            when all units are there, and then alone: so it is known, and costs neither loss nor time.
        fitted: whether the code knows what it has to know of the data.
        rms_error: root mean square of what coding takes from the chunks of `fit`.
    """

    name = "token"
    end: int | None = None

    def __init__(self, token: TokenConfig, horizon: int, action_dim: int, grid: tuple[int, int], entries: int) -> None:
        super().__init__()
        binary = token.binary
        if not set(binary) <= set(range(action_dim)):
            raise ValueError(
                f"policy.head.token.binary: found {list(binary)}, wanted action dimensions 0 to {action_dim - 1}"
            )
        self.chunk, self.grid, self.entries, self.shape = (horizon, action_dim), grid, entries, tuple(grid)
        self.register_buffer("binary", torch.tensor([d in binary for d in range(action_dim)]), persistent=False)
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("rms_error", torch.tensor(0.0))
        self.binary: Tensor
        self.fitted: Tensor
        self.rms_error: Tensor
        self.register_load_state_dict_post_hook(_derive)

    @property
    def units(self) -> int:
        """How many units a chunk has."""
        return self.grid[0] * self.grid[1]

    @torch.no_grad()
    def fit(self, actions: Tensor, is_pad: Tensor) -> None:
        """Take what is needed from finite chunks [N, Tp, A] with at least one row that is not padding [N, Tp]."""
        self.learn(actions, is_pad)
        self.derive()
        self.fitted.fill_(True)
        errors = [(self.decode(self.encode(part)) - part).square().mean(-1) for part in actions.split(4096)]
        self.rms_error.copy_(kept_mean(torch.cat(errors)[None], is_pad).sqrt())

    def learn(self, actions: Tensor, is_pad: Tensor) -> None:
        """Of `fit`, what is the code's own: sets its buffers."""
        raise NotImplementedError

    def derive(self) -> None:
        """Compute what follows from the persistent buffers; called whenever these have changed."""

    def encode(self, actions: Tensor) -> Tensor:
        """Finite chunks float32 [B, Tp, A] to tokens int64 [B, *shape]; values beyond [-1, 1] count as -1 or 1."""
        raise NotImplementedError

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [B, *shape] to chunks float32 in [-1, 1]. Raises ValueError where they are no chunk."""
        raise NotImplementedError

    def spans(self, tokens: Tensor) -> Tensor:
        """How many units each token spells, int64 as tokens."""
        return torch.ones_like(tokens)

    def starts(self, tokens: Tensor) -> Tensor:
        """How many units have been spelled before each of the tokens [B, L]."""
        spans = self.spans(tokens)
        return spans.cumsum(1) - spans

    def allowed_next(self, done: Tensor) -> Tensor:
        """Which tokens may follow after `done` [...] units: bool [..., entries], at least one."""
        raise NotImplementedError

    def counted(self, tokens: Tensor, is_pad: Tensor) -> Tensor:
        """Which tokens [B, *shape] of a loss count: those of a chunk with any row that does. The end never counts."""
        real = (~is_pad).any(1).view(-1, *[1] * (tokens.ndim - 1))
        return real.expand_as(tokens) if self.end is None else real & (tokens != self.end)

    def measure(self, actions: Tensor, is_pad: Tensor, likeliest: Tensor) -> dict[str, Tensor]:
        """Parts of the loss: what coding costs, and the values of the likeliest tokens given the true ones before."""
        raise NotImplementedError

    def snap(self, actions: Tensor) -> Tensor:
        """Actions [..., A] within [-1, 1], exactly -1 or 1 in binary dimensions."""
        return torch.where(self.binary, (actions > 0).to(actions.dtype) * 2 - 1, actions.clamp(-1, 1))

    def refuse(self, wrong: Tensor) -> None:
        """Raise ValueError where any of these tokens is wrong."""
        if count := int(wrong.sum()):
            raise ValueError(f"action tokens: found {count} of {wrong.numel()} that are no {self.name}, wanted none")


def _derive(code: nn.Module, _: object) -> None:
    if isinstance(code, ActionCode) and code.fitted:
        code.derive()


def l1(found: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
    """Mean absolute difference of chunks [B, Tp, A] in the rows that count."""
    return kept_mean((found - actions).abs().mean(-1)[None], is_pad)
