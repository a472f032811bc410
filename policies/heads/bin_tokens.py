"""A token for every value: bins of equal width, each standing for its centre (RT-1, RT-2)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...datasets.bins import ActionBins
from ..config import TokenConfig
from .action_code import ActionCode, l1

NARROWEST = 1e-6  # width of a bin within [-1, 1] that float32 still tells from its neighbours


class BinCode(ActionCode):
    """Chunks as Tp * A bins; `token.range` says between which values they lie, and values beyond take the outermost.

    A dimension that does not vary has one bin, exactly its value. A binary dimension (a gripper) uses the outermost two
    alone, for exactly -1 and 1, divided at 0.

    Attributes:
        low: [A], where the first bin begins; high: [A], where the last ends.
        centres: value of each bin [A, bins].
        allowed: which bins a dimension uses, bool [A, bins].
    """

    name = "bin"

    def __init__(self, token: TokenConfig, horizon: int, action_dim: int) -> None:
        if token.bins < 2:
            raise ValueError(f"policy.head.token.bins: found {token.bins}, wanted at least 2")
        if token.range not in ("percentile", "limits"):
            raise ValueError(f"policy.head.token.range: found {token.range!r}, wanted 'percentile' or 'limits'")
        super().__init__(token, horizon, action_dim, (horizon, action_dim), token.bins)
        self.bins, self.percentile = token.bins, token.range == "percentile"
        self.register_buffer("low", torch.full((action_dim,), -1.0))
        self.register_buffer("high", torch.full((action_dim,), 1.0))
        for name in ("per_unit", "centres", "allowed"):
            self.register_buffer(name, None, persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.per_unit: Tensor
        self.centres: Tensor
        self.allowed: Tensor
        self.fitted.fill_(not self.percentile)
        self.derive()

    def learn(self, actions: Tensor, is_pad: Tensor) -> None:
        if self.percentile:
            bins = ActionBins.fit(actions[~is_pad].cpu().numpy(), self.bins)
            self.low.copy_(torch.from_numpy(bins.low))
            self.high.copy_(torch.from_numpy(bins.high))

    def derive(self) -> None:
        low, high = self.low.double()[:, None], self.high.double()[:, None]
        index = torch.arange(self.bins, device=low.device)
        first, last = index == 0, index == self.bins - 1
        binary, constant = self.binary[:, None], high - low < NARROWEST * self.bins
        centres = torch.where(constant, (low + high) / 2, low + (index + 0.5) * (high - low) / self.bins)
        self.centres = torch.where(binary, torch.where(first, -1.0, 1.0), centres.float())
        self.allowed = torch.where(binary, first | last, first | ~constant)
        self.per_unit = torch.where(constant, 0, self.bins / (high - low))[:, 0].float()

    def encode(self, actions: Tensor) -> Tensor:
        """Finite actions [..., A] to bins int64 [..., A]."""
        index = ((actions - self.low) * self.per_unit).floor().clamp(0, self.bins - 1).long()
        return torch.where(self.binary, (actions > 0) * (self.bins - 1), index)

    def decode(self, tokens: Tensor) -> Tensor:
        """Bins int64 [..., A] to their centres [..., A]. Raises ValueError where one is no bin of its dimension."""
        self.refuse(self.invalid(tokens))
        return self._look_up(self.centres, tokens)

    def invalid(self, tokens: Tensor) -> Tensor:
        """Which integers [..., A] are no bin of their dimension: bool [..., A]."""
        inside = (tokens >= 0) & (tokens < self.bins)
        return ~(inside & self._look_up(self.allowed, tokens.clamp(0, self.bins - 1)))

    def allowed_next(self, done: Tensor) -> Tensor:
        return self.allowed[done % self.grid[1]]

    def counted(self, tokens: Tensor, is_pad: Tensor) -> Tensor:
        """Those of rows that are not padding."""
        return (~is_pad)[..., None].expand_as(tokens)

    def measure(self, actions: Tensor, is_pad: Tensor, likeliest: Tensor) -> dict[str, Tensor]:
        """Part "l1", of the likeliest bins' centres."""
        return {"l1": l1(self.decode(likeliest), actions, is_pad)}

    @staticmethod
    def _look_up(table: Tensor, tokens: Tensor) -> Tensor:
        return table[torch.arange(table.shape[0], device=table.device), tokens]
