"""The state backbone: what is measured goes straight to the head, without pictures or words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from ..interfaces import Backbone, Observation, TokenGroup
from .tokenizer import TextTokenizer


class StateProjector(nn.Module):
    """States [..., P] to tokens [..., width]: a linear map, and an MLP for what is not linear."""

    def __init__(self, proprio_dim: int, width: int) -> None:
        super().__init__()
        self.line = nn.Linear(proprio_dim, width)
        self.mlp = nn.Sequential(nn.Linear(proprio_dim, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, states: Tensor) -> Tensor:
        return self.line(states) + self.mlp(states)


class StateBackbone(Backbone):
    """A token for each observation step, from proprioception alone: for benchmarks whose state is known, and baselines.

    Arguments as `ModularBackbone`; ValueError where there are cameras to look through.
    """

    def __init__(
        self,
        config: BackboneConfig,
        cameras: Mapping[str, tuple[int, int]],
        proprio_dim: int,
        obs_horizon: int,
        tokenizer: TextTokenizer,
    ) -> None:
        super().__init__()
        if cameras:
            raise ValueError(f"policy.backbone.kind 'state': found cameras {list(cameras)}, wanted none")
        self.width, self.num_tokens = config.width, obs_horizon
        self.projector = StateProjector(proprio_dim, config.width)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector}

    def forward(self, observation: Observation) -> TokenGroup:
        tokens: Tensor = self.projector(observation.proprio)
        return TokenGroup(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))
