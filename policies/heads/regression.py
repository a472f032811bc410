"""Regression head: one action chunk by L1, the plain baseline."""

from __future__ import annotations

from torch import Tensor, nn

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning, residual_trunk


def masked_l1(predicted: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
    """Mean absolute error over action rows [B, Tp, A] that are not padding [B, Tp]."""
    keep = (~is_pad).to(predicted.dtype)
    return ((predicted - actions).abs().mean(-1) * keep).sum() / keep.sum().clamp_min(1)


class RegressionHead(ActionHead):
    """An MLP from the context to the chunk, deterministic. Arguments as `DiffusionHead`."""

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        self.shape = (horizon, action_dim)
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.trunk = residual_trunk(config.context_width, config.denoiser_width, config.denoiser_blocks)
        self.out = nn.Linear(config.denoiser_width, horizon * action_dim)

    def predict(self, context: TokenGroup) -> Tensor:
        """The chunk [B, Tp, A], unclipped."""
        return self.out(self.trunk(self.conditioning(context))).unflatten(1, self.shape)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Mean absolute error; see `ActionHead.loss`."""
        loss = masked_l1(self.predict(context), actions, is_pad)
        return Losses(loss, {"l1": loss.detach()})

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """The predicted chunk, clipped; draws no noise."""
        return self.predict(context).clamp(-1, 1)
